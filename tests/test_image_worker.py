"""The image worker: what it hands to its device, that its rows are those of the model, and every message once, through Kafka."""

import importlib.util
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from consumers.device import Closed, Device
from consumers.rows import Provenance, RowBuilder
from models import bundle as bundles
from models.images import sight
from models.images.engine import DeviceLost
from models.images.estimator import Ask
from schemas.avro.write import containers
from schemas.batch import Float32, Galaxies, Messages
from schemas.encoder import avro_bodies, encode_arrow, encode_avro
from schemas.errors import TroubleError, UserError
from schemas.flags import Flag
from schemas.native_decoder import NativeDecoder
from schemas.night import rollover
from schemas.processing import processing
from schemas.surveys.native import avro_schema
from streamer.backfill.crew import Crew
from streamer.backfill.plan import keep, prepare
from streamer.broker.server import Broker
from streamer.gpus import gpu_of_each, gpus
from streamer.in_order import InOrder
from streamer.run import build
from streamer.settings import backfill_settings
from streamer.sink.verify import verify
from streamer.source import files
from streamer.supervisor import worker_commands
from streamer.workers import kind_of_worker
from tests.image_bundle import SIZE, SURVEY, random_bundle, with_stamps
from tests.made_galaxies import assert_same, changed, messages
from tests.streaming import assert_once, identities, send, settings, small_model

Topic = Callable[..., str]


class Adding:
    """An engine that anybody can follow, and that waits where it is told to."""

    name, batch, takes = "adding", 8, np.dtype(np.float32)

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.go = threading.Event()
        self.go.set()
        self.at_work = threading.Event()

    def probabilities(self, stamps: np.ndarray, columns: Float32) -> Float32:
        self.at_work.set()
        assert self.go.wait(30)
        if (columns < 0).any():
            raise DeviceLost("gone")
        self.rows.append(len(columns))
        return stamps.sum((1, 2, 3))[:, None] + columns


@pytest.fixture
def adding() -> Iterator[Adding]:
    one = Adding()
    yield one
    one.go.set()


def ask(rows: int, value: float = 1.0) -> Ask:
    return Ask(np.arange(rows), np.full((rows, 1, 2, 2), value, np.float32), np.full((rows, 3), value, np.float32))


def test_what_waits_for_the_device_is_put_together_up_to_its_batch(adding: Adding) -> None:
    device = Device(adding, seconds=30)
    adding.go.clear()
    with device:
        first = device.ask(ask(8, 1))  # a whole batch: no need to wait
        assert adding.at_work.wait(30)
        others = [device.ask(ask(3, k)) for k in (2, 3, 4)]
    adding.go.set()
    assert first.result(30).tolist() == [[5.0] * 3] * 8
    for k, one in zip((2, 3, 4), others, strict=True):
        assert one.result(30).tolist() == [[5.0 * k] * 3] * 3
    assert adding.rows == [8, 9]
    device.close()


def test_an_ask_waits_no_longer_than_it_may(adding: Adding) -> None:
    device = Device(adding, seconds=0.05)
    with device:  # more may come, and nothing does
        assert device.ask(ask(2)).result(30).shape == (2, 3)
    assert adding.rows == [2]
    device.close()


def test_a_device_that_fails_tells_all_who_wait_and_one_that_is_closed_too(adding: Adding) -> None:
    device = Device(adding, seconds=0.05)
    with device:
        lost = device.ask(ask(1, -1.0))
        with pytest.raises(DeviceLost):
            lost.result(30)
        adding.at_work.clear()
        adding.go.clear()
        device.ask(ask(8))
        assert adding.at_work.wait(30)
        late = device.ask(ask(8))
        device.close()
        with pytest.raises(Closed):
            late.result(30)
        with pytest.raises(Closed):
            device.ask(ask(1))


def test_a_device_that_is_closed_while_it_gathers_ends(adding: Adding) -> None:
    device = Device(adding, seconds=30)
    with device:
        said = device.ask(ask(2))  # others could come
        device.close()
        device._thread.join(10)
        assert not device._thread.is_alive()
        assert said.exception(0) is not None or said.result(0).shape == (2, 3)


def test_without_stamps_a_decoder_says_the_same_of_everything_else() -> None:
    some = with_stamps(7)
    payloads: list[bytes | None] = [*encode_avro(some, SURVEY), *encode_arrow(some, SURVEY, rows=3), None, b"nonsense"]
    payloads.append(payloads[0][:-5])  # type: ignore[index] # a stamp that is cut off
    whole, refused = NativeDecoder(SURVEY).decode(messages(payloads))
    bare, refused_too = NativeDecoder(SURVEY, stamps=False).decode(messages(payloads))
    assert whole.stamps is not None
    assert bare.stamps is None
    assert_same(bare, changed(whole, stamps=None))
    assert refused_too.text == refused.text
    np.testing.assert_array_equal(refused_too.message, refused.message)
    assert len(refused.text) == 3


def test_each_worker_sees_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, 5")
    assert gpus() == ["3", "5"]
    commands = worker_commands(["run"], 3, None, None, ["3", "5", "3"])
    assert [one[1] for one in commands] == [f"CUDA_VISIBLE_DEVICES={gpu}" for gpu in "353"]
    assert all(one[0].endswith("env") for one in commands)
    for hidden, seen in (("", []), ("-1", []), ("1,-1,2", ["1"])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert gpus() == seen
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("PATH", "/nowhere")
    assert gpus() == []


def test_a_forest_wants_no_gpu_and_no_image_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    for kind, wanted in (("forest", []), ("images", ["0", "0"])):
        bundles.write(bundles.seal({"kind": kind}, {}), tmp_path / kind)
        given = settings("127.0.0.1:9", "topic", tmp_path / "catalog", model=tmp_path / kind)
        assert gpu_of_each(given, 2) == wanted
        assert gpu_of_each(given.model_copy(update={"device": "cpu"}), 2) == []
    with pytest.raises(UserError, match="kind forest, which is for the worker tree"):
        kind_of_worker(given.model_copy(update={"worker": "images"}), "forest")
    with pytest.raises(UserError, match="kind images, which is for the worker images"):
        kind_of_worker(given.model_copy(update={"worker": "tree"}), "images")


# -- with networks -----------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a core has no wide vectors, kernels are slower, and right."""
    monkeypatch.setattr(sight, "vectors", lambda: True)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "images.slipher"
    bundles.write(random_bundle(), path)
    return path


def image_worker(
    bundle: Path, device: str = "cpu", decoder: Callable[[], Any] = lambda: NativeDecoder(SURVEY), **more: Any
) -> Any:
    from consumers.images import ImageWorker
    from models.images.estimator import ImageEstimator

    what = processing("images", SURVEY, "0" * 64, "test", {})
    origin = Provenance(what, "cluster", "topic", "lAY7wVzqTXqkC3mGyLsUog", "0")
    estimator = ImageEstimator(bundles.read(bundle), device)
    return ImageWorker(decoder, estimator, RowBuilder(origin, rollover(SURVEY), lambda: 0), **more)


def batch(some: Galaxies, first: int = 0) -> Messages:
    return messages(encode_avro(some, SURVEY))._replace(offset=np.arange(first, first + len(some)))


def test_rows_are_what_the_model_says_however_batches_come(bundle: Path) -> None:
    from models.images.estimator import ImageEstimator

    given = [with_stamps(n, seed) for seed, n in enumerate((5, 40, 1, 17))]
    known = [ImageEstimator(bundles.read(bundle), "cpu").estimate(some) for some in given]
    work = image_worker(bundle)
    read = [batch(some) for some in given]
    for one in read:
        work.begin(one)
    for some, one, want in zip(given[1:], read[1:], known[1:], strict=True):  # the first is nobody's any more
        found = work.process(one)
        assert found.rows["object_id"].to_pylist() == some.object_id.to_pylist()
        np.testing.assert_allclose(found.rows["z_mean"].to_numpy(), want.z_mean, atol=1e-4)
        flags = found.rows["flags"].to_numpy() & ~int(Flag.BAD_EVENT_TIME)
        np.testing.assert_array_equal(flags, want.flags.astype(np.int32))
        assert not len(found.refusals.text)
    again = work.process(read[0])  # never begun, as far as it knows
    np.testing.assert_allclose(again.rows["z_mean"].to_numpy(), known[0].z_mean, atol=1e-4)
    assert np.ptp(known[1].z_mean) > 0.01
    assert work.depth > 2
    work.close()


def test_what_failed_ahead_of_its_turn_begins_anew_in_its_turn(bundle: Path) -> None:
    """A registry that was away while two batches were begun, and is back now: neither is held up by what was."""
    away = True

    class Registry(NativeDecoder):
        def decode(self, given: Messages) -> Any:
            if away:
                raise TroubleError("no registry answers")
            return super().decode(given)

    work = image_worker(bundle, decoder=lambda: Registry(SURVEY))
    read = [batch(with_stamps(n)) for n in (3, 4)]
    for one in read:
        work.begin(one)
    wait([job.output for job in work._ahead], 60)
    with pytest.raises(TroubleError, match="no registry answers"):
        work.process(read[0])
    away = False
    assert [len(work.process(one).rows) for one in read] == [3, 4]
    work.close()


def test_who_waits_for_a_batch_that_was_never_begun_is_told_of_the_end(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from models.images.kernels_engine import KernelEngine

    work, go_on, asked = image_worker(bundle), threading.Event(), threading.Event()
    real = KernelEngine.probabilities

    def hangs(self: KernelEngine, stamps: np.ndarray, columns: Float32) -> Float32:
        asked.set()
        go_on.wait(60)
        return real(self, stamps, columns)

    monkeypatch.setattr(KernelEngine, "probabilities", hangs)
    read = [batch(with_stamps(2, seed)) for seed in range(work.depth + 2)]
    for one in read:
        work.begin(one)
    assert asked.wait(60)
    told = InOrder("who waits").submit(work.process, read[-1])
    work.close()
    with pytest.raises(Closed):
        told.result(60)
    go_on.set()


def gpu_is_there() -> bool:
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return bool(torch.cuda.is_available())


@pytest.mark.skipif(not gpu_is_there(), reason="torch sees no CUDA GPU: the image worker is not tested on one here")
def test_on_a_gpu_rows_are_those_of_the_cpu_when_its_memory_is_full_too(bundle: Path) -> None:
    import torch

    given = [batch(with_stamps(n, seed)) for seed, n in enumerate((300, 1, 700))]
    on_cpu, on_gpu = image_worker(bundle), image_worker(bundle, "cuda")
    assert on_gpu.depth > on_cpu.depth or len(os.sched_getaffinity(0)) < 3
    torch.cuda.empty_cache()
    for fraction in (1.0, 0.02):
        if fraction < 1:
            on_gpu._engine.batch, on_gpu._engine._slots = 1 << 17, []  # more than there is room for
            torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(fraction)
        try:
            for one in given:
                on_gpu.begin(one)
            for one in given:
                found, want = (work.process(one).rows for work in (on_gpu, on_cpu))
                assert found["object_id"].to_pylist() == want["object_id"].to_pylist()
                pdf, known = (np.array(rows["pdf"].to_pylist()) for rows in (found, want))
                assert np.abs(np.cumsum(pdf - known, 1)).max() * 2.0 / (pdf.shape[1] - 1) < 2e-3
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
    assert on_gpu._engine.batch < 1 << 17
    for work in (on_cpu, on_gpu):
        work.close()


def test_every_galaxy_is_a_row_whatever_its_stamp_and_every_other_message_a_refusal(bundle: Path) -> None:
    some = with_stamps(6)
    assert some.stamps is not None
    pixels = some.stamps.pixels.to_pylist()
    planes = np.frombuffer(pixels[3], "<f4").reshape(4, SIZE, SIZE).copy()
    pixels[0], pixels[1] = None, pixels[1][:-4]
    pixels[2] = np.full((4, SIZE, SIZE), np.nan, "<f4").tobytes()
    planes[0, 7:9, 7:9] = np.inf
    pixels[3] = planes.tobytes()
    broken = changed(some, stamps=some.stamps._replace(pixels=pa.array(pixels, pa.large_binary())))
    payloads = [*encode_avro(broken, SURVEY), None, b"nonsense"]
    work = image_worker(bundle)
    rows, refusals = work.process(messages(payloads))
    work.close()
    flags = rows["flags"].to_pylist()
    wanted = [Flag.NO_STAMP, Flag.BAD_STAMP, Flag.BAD_STAMP, Flag.SATURATED_STAMP, 0, 0]
    images = Flag.NO_STAMP | Flag.BAD_STAMP | Flag.SATURATED_STAMP
    assert [flag & images for flag in flags] == wanted
    assert [z is None for z in rows["z_mean"].to_pylist()] == [True, True, True, False, False, False]
    assert refusals.message.tolist() == [6, 7]


def test_a_device_that_is_lost_ends_a_backfill_and_costs_nothing(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first batches are durable when it goes; the next start reads the rest."""
    monkeypatch.setattr(files, "BATCH_MESSAGES", 20)
    archive, catalog = tmp_path / "stamps.avro", tmp_path / "catalog"
    from models.images.kernels_engine import KernelEngine

    bodies = avro_bodies(with_stamps(100), SURVEY)
    archive.write_bytes(b"".join(containers(bodies, avro_schema(SURVEY), records=100)))
    given = backfill_settings(catalog=catalog, model=bundle, device="cpu", commit_rows=20)
    plan = prepare(given, [archive])
    keep(plan)
    asked = 0
    real = KernelEngine.probabilities

    def gone(self: KernelEngine, stamps: np.ndarray, columns: Float32) -> Float32:
        nonlocal asked
        asked += len(columns)
        if asked > 50:
            raise DeviceLost("The GPU failed: unplugged.")
        return real(self, stamps, columns)

    with monkeypatch.context() as during:
        during.setattr(KernelEngine, "probabilities", gone)
        with pytest.raises(DeviceLost, match="unplugged") as lost:
            Crew(plan).run()
    assert lost.value.exit_code == 75
    before = len(DeltaTable(str(catalog / "rows")).to_pyarrow_table())
    assert before < 100
    assert Crew(prepare(given, [archive])).run().progress.rows == 100 - before
    report = verify(catalog)
    assert report.ok, report.lines()
    rows = DeltaTable(str(catalog / "rows")).to_pyarrow_table()
    assert sorted(rows["object_id"].to_pylist()) == sorted(f"object-{k}" for k in range(100))
    assert rows["z_mean"].null_count == 0


@pytest.mark.broker
def test_from_kafka_to_rows_once(
    broker: Broker, topic: Topic, tmp_path: Path, bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name, catalog = topic(2), tmp_path / "catalog"
    some = with_stamps(120)
    payloads = encode_avro(some, SURVEY)
    send(broker.bootstrap, name, {0: payloads[:60], 1: [*payloads[60:], b"nonsense"]})
    given = settings(broker.bootstrap, name, catalog, model=bundle, worker="images", device="cpu", commit_seconds=0.05)
    caplog.set_level("INFO")
    assert build(given, until_end=True).run().rows == 120
    assert "image networks on kernels cpu float32: asked for" in caplog.text
    assert_once(catalog, identities({0: 60, 1: 60}), {(1, 60, -1)})
    rows = DeltaTable(str(catalog / "rows")).to_pyarrow_table()
    assert all(model.startswith(f"images-{SURVEY}-") for model in rows["model"].to_pylist())
    assert rows["z_mean"].null_count == 0


@pytest.mark.broker
def test_a_forest_and_networks_read_one_topic_into_one_table(
    broker: Broker, topic: Topic, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Each has its own rows and offsets, and the catalogue proves both."""
    name, catalog = topic(1), tmp_path / "catalog"
    path = tmp_path / "lsst.slipher"
    bundles.write(random_bundle(survey="lsst"), path)
    send(broker.bootstrap, name, {0: encode_avro(with_stamps(30, survey="lsst"), "lsst")})
    for model in (small_model(), path):
        assert build(settings(broker.bootstrap, name, catalog, model=model), until_end=True).run().rows == 30
    rows = DeltaTable(str(catalog / "rows")).to_pyarrow_table()
    assert sorted({model.split("-")[0] for model in rows["model"].to_pylist()}) == ["forest", "images"]
    assert len(rows) == 60
