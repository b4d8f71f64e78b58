"""The image worker end to end, files or Kafka to durable rows, beside its engine alone; and gzip cutouts to a network's input."""

import os
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.report import Result, middle
from models import bundle as bundles
from models.images import engine as engines
from models.images.estimator import Ask, ImageEstimator
from models.images.stretch import stretched
from schemas import cutouts
from schemas.avro.container import SYNC_BYTES
from schemas.avro.write import containers
from schemas.batch import Galaxies
from schemas.encoder import avro_bodies, encode_avro
from schemas.errors import SlipherError
from schemas.night import mjd_of, rollover
from schemas.surveys.native import avro_schema
from streamer.engine import Engine
from tests.image_bundle import random_bundle, with_stamps
from tests.made_galaxies import changed

SURVEY, SIZE, POINTS = "sdss", 32, 301
DISTINCT = 2_000  # galaxies that are made; more are these again
A_FILE, A_BLOCK = 20_000, 50  # records of a file, and of a block in it: 2 MB
WARM_UP = 256
Clock = Callable[[], float]
PARTITIONS = 8
QUIET_ROWS = {"cpu": 3_000, "onnx": 3_000, "cuda": 100_000}  # some seconds each


def run(quick: bool, device: str = "auto", kafka: bool = True, rows: int | None = None) -> list[Result]:
    """The worker by files and, where it is wanted, by a broker on the same cores; `device` as `slipher run` has it."""
    pa.set_cpu_count(1)
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slipher-benchmark-")))
        path = root / "images.slipher"
        bundles.write(random_bundle(1, SURVEY, SIZE, POINTS), path)
        estimator = ImageEstimator(bundles.read(path), device)
        engines.one_thread(estimator.engine.engine)
        chosen = estimator.ready()
        print(f"{chosen.engine.name}: {chosen.why}")
        kind = "cuda" if "cuda" in chosen.engine.name else "onnx" if "onnx" in chosen.engine.name else "cpu"
        n = rows or (QUIET_ROWS[kind] // (10 if quick else 1))
        made = with_stamps(min(n, DISTINCT), survey=SURVEY, size=SIZE)
        made = changed(made, mjd=np.full(len(made), mjd_of(time.time_ns() // 1_000_000, rollover(SURVEY).scale)))
        clock = time.perf_counter if kind == "cuda" else time.process_time  # a core may be shared, a GPU is not
        alone = _alone(estimator, made, n, clock)
        results = _parts(estimator, made)
        del estimator
        results.append(
            _end_to_end(
                f"worker, files to durable rows, {chosen.engine.name}",
                _by_files(root, path, made, n, device),
                n,
                alone,
                clock,
            )
        )
        if kafka:
            from streamer.broker.server import Broker
            from streamer.broker.settings import BrokerSettings

            try:
                broker = stack.enter_context(Broker(BrokerSettings()))
            except SlipherError as error:  # a lent machine has no Java
                print(f"not measured by Kafka: {error}")
                return results
            work = _by_kafka(root, path, made, n, device, broker.bootstrap)
            results.append(_end_to_end(f"worker, Kafka to durable rows, {chosen.engine.name}", work, n, alone, clock))
        return results


def _alone(estimator: ImageEstimator, made: Galaxies, n: int, clock: Clock) -> float:
    """Stamps a second of the engine, from prepared stamps in memory to probabilities in memory."""
    engine = estimator.engine.engine
    asks: list[Ask] = list(estimator.asks(made, estimator.begin(made), engine.takes))
    times = max(1, n // len(made))
    stamps = np.concatenate([ask.stamps for ask in asks] * min(times, 8))
    cols = np.concatenate([ask.columns for ask in asks] * min(times, 8))
    engine.probabilities(stamps[:WARM_UP], cols[:WARM_UP])
    rates = []
    for _ in range(3):
        begun = clock()
        engine.probabilities(stamps, cols)
        rates.append(len(stamps) / (clock() - begun))
    return middle(rates)[0]


def _parts(estimator: ImageEstimator, made: Galaxies) -> list[Result]:
    """Microseconds of CPU a row of what a worker does beside the engine, one thread each; and the cutouts of a survey in gzip."""
    from consumers.rows import Provenance, build
    from schemas.batch import Messages
    from schemas.native_decoder import NativeDecoder
    from schemas.processing import processing

    payloads: list[bytes | None] = [*encode_avro(made, SURVEY)[:512]]
    n = len(payloads)
    messages = Messages(payloads, np.zeros(n, np.int32), np.arange(n), np.zeros(n, np.int64), {0: n})
    decoder, bare = NativeDecoder(SURVEY), NativeDecoder(SURVEY, stamps=False)
    galaxies, _ = decoder.decode(messages)
    begun = estimator.begin(galaxies)
    engine = estimator.engine.engine
    asks = list(estimator.asks(galaxies, begun, engine.takes))
    answers = [(ask.rows, engine.probabilities(ask.stamps, ask.columns)) for ask in asks]
    origin = Provenance(processing("images", SURVEY, "0" * 64, "x", {}), "cluster", "topic", "topic-id", "x")
    night = rollover(SURVEY)

    def rows() -> Any:
        return build(messages, galaxies, estimator.complete(begun, answers), origin, night, 0)

    works: dict[str, Callable[[], Any]] = {
        "decode a message with a stamp": lambda: decoder.decode(messages),
        "the same for a forest, which wants no pixels": lambda: bare.decode(messages),
        "prepare a decoded stamp": lambda: list(estimator.asks(galaxies, begun, engine.takes)),
        "finish PDFs and build rows": rows,
    }
    results = [_cost(case, work, n) for case, work in works.items()]
    try:
        from benchmarks.stamps import made as made_cutouts

        gzips = made_cutouts("ZTF") * 12
    except ModuleNotFoundError as error:  # astropy writes them
        print(f"no cutouts in gzip: {error}")
        return results
    results.append(
        _cost(
            "gzip FITS of 63 x 63 to a plane of 32 x 32, stretched",
            lambda: stretched([cutouts.decode_bytes(gzips).pixels], SIZE, np.float32(30.0)),
            len(gzips),
        )
    )
    return results


def _cost(case: str, work: Callable[[], Any], n: int) -> Result:
    work()
    spent = []
    for _ in range(9):
        begun = time.thread_time()
        work()
        spent.append(1e6 * (time.thread_time() - begun) / n)
    value, spread = middle(spent)
    return Result(case, value, "us/stamp", spread=spread, higher_is_better=False)


def _end_to_end(case: str, work: Callable[[], Engine], n: int, alone: float, clock: Clock) -> Result:
    """Rows a second by `clock`: of all threads of this process where that is one of CPU time."""
    engine = work()
    begun, cpu, own = time.perf_counter(), time.process_time(), clock()
    done = engine.run()
    seconds, cpu, own = time.perf_counter() - begun, time.process_time() - cpu, clock() - own
    if done.rows != n:
        raise RuntimeError(f"{done.rows:,} rows are durable, not {n:,}")
    print(f"{case}: {n:,} rows in {seconds:.1f} s, {1e6 * cpu / n:.0f} us of CPU a row in all threads")
    unit = "rows/s" if clock is time.perf_counter else "rows/s of CPU"
    return Result(case, n / own, unit, {"engine alone": alone})


def _by_files(root: Path, model: Path, made: Galaxies, n: int, device: str) -> Callable[[], Engine]:
    """Containers of Avro, frozen in a manifest; all files are in the page cache, for they were just written."""
    from streamer.backfill.plan import engine, keep, prepare
    from streamer.settings import backfill_settings

    folder = root / "files"
    folder.mkdir()
    bodies, schema = avro_bodies(made, SURVEY), avro_schema(SURVEY)
    for k, first in enumerate(range(0, n, A_FILE)):
        some = [bodies[i % len(bodies)] for i in range(first, min(first + A_FILE, n))]
        parts = containers(some, schema, records=A_BLOCK)
        header = parts[0].index(parts[0][-SYNC_BYTES:]) + SYNC_BYTES  # all begin alike: blocks of one file
        with open(folder / f"{k}.avro", "wb") as file:
            file.write(parts[0])
            file.writelines(part[header:] for part in parts[1:])

    def begin() -> Engine:
        settings = backfill_settings(catalog=root / "by-files", model=model, device=device)
        plan = prepare(settings, [folder])
        keep(plan)
        return engine(plan, plan.left)[0]

    return begin


def _by_kafka(root: Path, model: Path, made: Galaxies, n: int, device: str, brokers: str) -> Callable[[], Engine]:
    from streamer.publish import make_topic, publish
    from streamer.run import build
    from streamer.settings import run_settings

    kafka = {"bootstrap.servers": brokers}
    make_topic("stamps", PARTITIONS, kafka)
    payloads = encode_avro(made, SURVEY)
    publish((payloads[i % len(payloads)] for i in range(n)), "stamps", kafka)

    def begin() -> Engine:
        given = {"brokers": brokers, "topic": "stamps", "model": model, "catalog": root / "by-kafka", "device": device}
        return build(run_settings(**given, start="earliest"), until_end=True)

    return begin


def main() -> None:
    """This part alone, for a lent machine."""
    import argparse

    from benchmarks.report import show

    parser = argparse.ArgumentParser("python -m benchmarks.images_worker")
    parser.add_argument("--device", default="auto", choices=engines.DEVICES)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--no-kafka", action="store_true")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    show("images_worker", run(given.quick, given.device, not given.no_kafka, given.rows))


if __name__ == "__main__":
    main()
