"""The acts of the demo, each a function; the command plays them in order."""

import shutil
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from schemas import dc2, photometry_table
from schemas.bands import BandSet, band_set
from schemas.errors import UserError
from schemas.night import mjd_of, rollover
from schemas.table_alerts import payloads
from streamer.demo.sky import Night, observe, poison_in, with_poison
from streamer.demo.watch import Glance, Watch
from streamer.demo.workers import Workers
from streamer.publish import Published, make_topic, publish
from streamer.run import now_ms
from streamer.sink.catalogue import ensure
from streamer.source.connection import TopicIdentity, identify

SURVEY = "lsst"
DUST_LAW = "SF11"
TOPIC = "lsst-alerts-demo"
PARTITIONS = 8
LOOK_SECONDS = 0.25
PATIENCE_SECONDS = 120.0  # without progress: then something is wrong


class Folder(NamedTuple):
    """Where the demo keeps its things."""

    root: Path

    @property
    def model(self) -> Path:
        """The bundle, of this version of slipher."""
        return self.root / f"dc2-{version('slipher')}.slipher"

    @property
    def catalog(self) -> Path:
        """The catalogue of the last night."""
        return self.root / "catalog"

    @property
    def truth(self) -> Path:
        """True redshifts of that night."""
        return self.root / "truth.parquet"

    @property
    def plots(self) -> Path:
        """Its pictures."""
        return self.root / "plots"


def prepare(root: Path) -> Folder:
    """Make the folder, and clear away the last night; the model is kept.

    Raises
    ------
    UserError
        `root` holds something that is not ours.
    """
    folder, mark = Folder(root), root / ".slipher-demo"
    if root.exists() and any(root.iterdir()) and not mark.exists():
        raise UserError(f"{root} exists and is not the demo's: say another --folder.")
    try:
        root.mkdir(parents=True, exist_ok=True)
        mark.touch()
        for old in (folder.catalog, folder.plots):
            shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise UserError(f"{root} cannot be written ({error.strerror}): say another --folder.") from None
    return folder


def train(folder: Folder, bands: BandSet, tell: Callable[[str, float], None]) -> dict[str, Any] | None:
    """Train on DC2's training galaxies, measure on its validation galaxies; None where the model is there already."""
    from models import bundle as bundles

    if folder.model.exists():
        try:
            bundles.read(folder.model)
            return None
        except UserError:
            pass  # of an older version, or damaged: train again
    from models import training

    known = photometry_table.read(dc2.training(), bands, want_redshift=True).with_redshift()
    unseen = photometry_table.read(dc2.validation(), bands, want_redshift=True).with_redshift()
    settings = training.ForestSettings(dust_law=DUST_LAW, augment="no", copies=2)  # half the time, CRPS 2 % up
    bundle = training.fit(known.flux, known.flux_err, known.band_state, known.ebv, known.z, bands, settings, tell)
    tell("measuring on galaxies not trained on", 1.0)
    held_out = training.evaluate(bundle, unseen.flux, unseen.flux_err, unseen.band_state, unseen.ebv, unseen.z)
    bundles.write(training.with_metrics(bundle, held_out), folder.model)
    return held_out


def make_night(folder: Folder, alerts: int, seed: int) -> Night:
    """Draw the night and write down its truth."""
    bands = band_set(SURVEY)
    validation = photometry_table.read(dc2.validation(), bands, want_redshift=True).with_redshift()
    mjd = float(mjd_of(now_ms(), rollover(SURVEY).scale))
    night = observe(validation, bands, DUST_LAW, alerts, mjd, np.random.default_rng(seed))
    pq.write_table(night.truth, folder.truth)
    return night


class Outcome(NamedTuple):
    """How the night went."""

    messages: int
    published: Published
    seconds: float  # from the first message published to the last durable
    streaming: float  # from the first commit to the last
    topic: TopicIdentity


def play(
    folder: Folder, night: Night, brokers: str, topic: str, workers: int, show: Callable[[Watch, Glance], None]
) -> Outcome:
    """Publish the night while workers consume it; returns when all of it is durable and the workers have left."""
    kafka = {"bootstrap.servers": brokers}
    ensure(folder.catalog)
    if not make_topic(topic, PARTITIONS, kafka):
        raise UserError(f"The broker at {brokers} has a topic {topic} already: say another --topic.")
    identity = identify(kafka, topic)
    alerts = len(night.mjd)
    total = alerts + poison_in(alerts)
    watch = Watch(folder.catalog, identity.topic_id, total)
    arguments = ["--brokers", brokers, "--topic", topic, "--model", str(folder.model.absolute())]
    arguments += ["--catalog", str(folder.catalog.absolute()), "--start", "earliest", "--commit-seconds", "2"]
    with Workers(workers, arguments, folder.root.absolute()) as staff:
        producer = _Producer(night, topic, kafka, watch)
        producer.start()
        last, moved = 0, time.monotonic()
        while True:
            glance = watch.look()
            show(watch, glance)
            if glance.durable >= total:
                break
            if glance.durable + glance.published > last:
                last, moved = glance.durable + glance.published, time.monotonic()
            elif time.monotonic() - moved > PATIENCE_SECONDS:
                raise UserError(f"Nothing moved for {PATIENCE_SECONDS:.0f} s: see {staff.log}.")
            staff.check()
            producer.check()
            time.sleep(LOOK_SECONDS)
        ended = time.monotonic()
        published = producer.result()
    return Outcome(total, published, ended - producer.begun, ended - watch.first_durable, identity)


class _Producer(threading.Thread):
    """Publishes beside the watching; what it raises is raised by ``check``."""

    def __init__(self, night: Night, topic: str, kafka: dict[str, Any], watch: Watch) -> None:
        super().__init__(name="producer", daemon=True)
        self._night, self._topic, self._kafka, self._watch = night, topic, kafka, watch
        self._published: Published | None = None
        self._error: BaseException | None = None
        self.begun = time.monotonic()

    def run(self) -> None:
        def sent(count: int) -> None:
            self._watch.published = count

        try:
            messages = with_poison(payloads(self._night.table, band_set(SURVEY), self._night.mjd, "avro"))
            self._published = publish(messages, self._topic, self._kafka, on_progress=sent)
        except BaseException as error:
            self._error = error

    def check(self) -> None:
        if self._error is not None:
            raise self._error

    def result(self) -> Published:
        self.join()
        self.check()
        if self._published is None:
            raise RuntimeError("the producer ended without a result")
        return self._published


def truth_of(folder: Folder) -> pa.Table:
    """True redshifts of the night: object_id, z."""
    return pq.read_table(folder.truth)
