"""Messages in Kafka to durable rows with 301-point PDFs: slipher beside the plain way, broker on the same cores."""

import os
import shutil
import tempfile
import uuid
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from deltalake import DeltaTable
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import feed as feeds
from benchmarks import ours, plain
from benchmarks.crew import Race, race
from benchmarks.feed import Feed
from benchmarks.report import Result, middle
from schemas.surveys.native import avro_schema
from schemas.table_alerts import Form
from streamer.broker.server import Broker
from streamer.broker.settings import BrokerSettings
from streamer.sink.verify import verify

PEERS: dict[str, plain.Way] = {"scikit-learn + NumPy": "numpy", "scikit-learn + SciPy": "scipy"}
OURS = "slipher"
FORMS: tuple[Form, ...] = ("arrow", "avro")
CREWS = (2, 1)  # processes
STAGES = ("consume", "decode", "estimate", "rows", "parquet", "commit", "account", "all of the process")
# Some machines carry these to steer OpenBLAS, and they slow NumPy down: neither side is to run with them.
STEERED = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
# Members that come together share the partitions at once, as with Kafka's own default: a rebalance is not what we measure.
JOIN_MS = {"group.initial.rebalance.delay.ms": 3_000}


Races = dict[tuple[str, str], list[Race]]  # (case, who) -> repeats


class Size(NamedTuple):
    """How much."""

    ours: dict[Form, int]  # rows
    peer: dict[Form, int]  # rates are compared: the peers read the beginning of each partition
    repeats: int


FULL = Size({"arrow": 1_000_000, "avro": 400_000}, {"arrow": 400_000, "avro": 200_000}, 3)
QUICK = Size({"arrow": 100_000, "avro": 40_000}, {"arrow": 40_000, "avro": 20_000}, 1)


class Stage(NamedTuple):
    """Where it all happens; everything under `root` is removed in the end."""

    root: Path
    brokers: str

    @property
    def bundle(self) -> Path:
        """Our model."""
        return self.root / "dc2.slipher"

    @property
    def plain(self) -> Path:
        """The peer's model."""
        return self.root / "dc2.joblib"


def run(quick: bool) -> list[Result]:
    """All cases, ours and the peer's in turn."""
    size = QUICK if quick else FULL
    for name in STEERED:
        os.environ.pop(name, None)
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # one process a core: inherited by all of them
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with ExitStack() as stack:
        progress = stack.enter_context(Progress(*columns, console=console, transient=True))
        steps = 2 + len(FORMS) * (1 + (1 + len(PEERS)) * size.repeats * len(CREWS))
        task = progress.add_task("starting Kafka", total=steps)

        def now(text: str) -> None:
            progress.update(task, advance=1, description=text)

        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slipher-benchmark-")))
        broker = stack.enter_context(Broker(BrokerSettings(properties=JOIN_MS)))
        stage = Stage(root, broker.bootstrap)
        now("training")
        feeds.train(stage.bundle, stage.plain, lambda what, _: progress.update(task, description=f"training: {what}"))
        now("drawing the night")
        drawn = feeds.night(max(size.ours.values()))
        topics: list[Feed] = []
        for form in FORMS:
            progress.update(task, description=f"publishing {form}")
            topics.append(feeds.feed(drawn, form, size.ours[form], broker.bootstrap))
            now(f"published {form}")
        del drawn
        races: Races = defaultdict(list)
        for repeat in range(size.repeats):
            for topic in topics:
                for processes in CREWS:
                    case = _case(topic.form, processes)
                    for name in (OURS, *PEERS):
                        progress.update(task, description=f"{case}, {repeat + 1} of {size.repeats}: {name}")
                        if name == OURS:
                            found = _ours(stage, topic, processes)
                        else:
                            found = _plain(stage, topic, processes, size.peer[topic.form], PEERS[name])
                        races[case, name].append(found)
                        progress.advance(task)
                        console.print(f"{case}, {name}: {found.rate:,.0f} rows/s")
    for form in FORMS:
        for name in PEERS:
            told = ", ".join(f"{stage} {middle(spent)[0]:.2f}" for stage, spent in _stages(races[_case(form, 2), name]))
            console.print(f"{name}, {form}, us of CPU per object: {told}", soft_wrap=True)
    results = [_compared(_case(form, n), races) for form in FORMS for n in CREWS]
    return results + [r for form in FORMS for r in _by_stage(form, races[_case(form, 2), OURS])]


def _ours(stage: Stage, topic: Feed, processes: int) -> Race:
    catalog = stage.root / f"catalog-{uuid.uuid4().hex}"
    settings = {
        "brokers": stage.brokers,
        "topic": topic.topic,
        "model": stage.bundle,
        "catalog": catalog,
        "group": catalog.name,
        "start": "earliest",
    }
    try:
        found = race(ours.prepare, [(settings, topic.warm_up)] * processes)
        report = verify(catalog)
        if not report.ok or not report.rows == found.rows == topic.rows:
            raise RuntimeError(f"the catalogue is wrong, {topic.rows:,} rows expected: {' '.join(report.lines())}")
    finally:
        shutil.rmtree(catalog, ignore_errors=True)
    return found


def _plain(stage: Stage, topic: Feed, processes: int, rows: int, way: plain.Way) -> Race:
    table = stage.root / f"plain-{uuid.uuid4().hex}"
    try:
        plain.make_table(table)
        tasks = [
            plain.Task(
                stage.brokers,
                topic.topic,
                partitions=list(range(k, feeds.PARTITIONS, processes)),
                rows=rows // processes,
                form=topic.form,
                schema=avro_schema(feeds.SURVEY),
                table=table,
                model=stage.plain,
                way=way,
                threads=max(1, len(os.sched_getaffinity(0)) // processes),
                warm_up=topic.warm_up,
            )
            for k in range(processes)
        ]
        found = race(plain.prepare, [(task,) for task in tasks])
        written = DeltaTable(str(table)).to_pyarrow_dataset().count_rows()
        if not written == found.rows == rows:
            raise RuntimeError(f"the plain way wrote {written:,} rows, not {rows:,}")
    finally:
        shutil.rmtree(table, ignore_errors=True)
    return found


def _case(form: Form, processes: int) -> str:
    return f"{form}, {processes} process{'es' if processes > 1 else ''}"


def _compared(case: str, races: Races) -> Result:
    rate, spread = middle([r.rate for r in races[case, OURS]])
    peers = {name: middle([r.rate for r in races[case, name]]) for name in PEERS}
    return Result(
        case,
        rate,
        "rows/s",
        {name: value for name, (value, _) in peers.items()},
        spread,
        peer_spreads={name: margin for name, (_, margin) in peers.items()},
    )


def _by_stage(form: Form, races: list[Race]) -> list[Result]:
    spent = {name: middle(values) for name, values in _stages(races)}
    return [
        Result(f"stage: {name} ({form})", spent[name][0], "us/object", spread=spent[name][1], higher_is_better=False)
        for name in STAGES
    ]


def _stages(races: list[Race]) -> list[tuple[str, list[float]]]:
    """Microseconds of CPU per object of each stage, in all repeats."""
    return [(name, [r.stages[name] for r in races]) for name in races[0].stages]
