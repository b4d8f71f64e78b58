"""Puts a run together: broker, topic, model, catalogue, worker, engine."""

import logging
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, NamedTuple

from consumers.pdf_column import SETTINGS
from consumers.rows import Provenance
from models.estimator import Estimator, load
from schemas.errors import UserError
from schemas.processing import Processing, processing
from streamer.alerts import Alerts, alerts
from streamer.engine import Engine
from streamer.observer import Lookout
from streamer.settings import ProcessingSettings, RunSettings
from streamer.settler import Limits
from streamer.sink.appids import app_id, read_app_ids
from streamer.sink.catalogue import bind, bindings, ensure, register
from streamer.sink.datasets import whole
from streamer.sink.delta import DeltaSink
from streamer.sink.entries import Identity
from streamer.source.client import consumer_settings, poll_interval
from streamer.source.connection import LogEnds, Start, TopicIdentity, identify, parse_start
from streamer.source.kafka import KafkaSource
from streamer.tally import Progress
from streamer.workers import kind_of_worker, worker

log = logging.getLogger(__name__)

ANSWER_SECONDS = 5.0  # of a broker, to a worker that reads: it asks again, and who is told to leave waits no longer


class Method(NamedTuple):
    """How messages become rows, wherever they come from.

    Attributes
    ----------
    settings, estimator, alerts
        As given, and the model and the alerts that they name.
    processing
        The identity of the rows.
    """

    settings: ProcessingSettings
    estimator: Estimator
    alerts: Alerts
    processing: Processing


class Plan(NamedTuple):
    """What all topics of a run have in common.

    Attributes
    ----------
    settings, estimator, alerts
        As given, and the model and the alerts that they name.
    processing
        The identity of the rows.
    group
        The consumer group.
    consumer, connection
        Settings of the Kafka client for members of a group, and for asking.
    begin
        Where a first reading begins; None = a person has not said.
    """

    settings: RunSettings
    estimator: Estimator
    alerts: Alerts
    processing: Processing
    group: str
    consumer: dict[str, Any]
    connection: dict[str, Any]
    begin: Start | None


def now_ms() -> int:
    """The wall clock, ms since 1970 UTC."""
    return time.time_ns() // 1_000_000


def plan(settings: RunSettings) -> Plan:
    """Read the model, choose the decoder, name the processing; and how Kafka is asked.

    Raises
    ------
    SlipherError
        Bundle or settings are not what they should be; nothing was written.
    """
    _, estimator, read, what = method(settings)
    group = settings.group or f"slipher-{what.model}"
    kafka = consumer_settings(settings.brokers, group, settings.kafka)
    connection = {key: value for key, value in kafka.items() if key in settings.kafka}
    connection["bootstrap.servers"] = settings.brokers
    begin = parse_start(settings.start) if settings.start else None
    return Plan(settings, estimator, read, what, group, kafka, connection, begin)


def method(settings: ProcessingSettings) -> Method:
    """Read the model, choose the decoder, name the processing.

    Raises
    ------
    SlipherError
        Bundle or settings are not what they should be; nothing was written.
    """
    estimator = load(settings.model, settings.device)
    kind_of_worker(settings, estimator.kind)
    read = alerts(settings, estimator)
    return Method(settings, estimator, read, identity_of(settings, estimator, read))


def identity_of(settings: ProcessingSettings, estimator: Estimator, read: Alerts) -> Processing:
    """What the rows are named by, wherever their messages come from."""
    rows = {"rollover": list(read.night), **SETTINGS[settings.pdf]} | read.settings
    return processing(estimator.kind, estimator.survey, estimator.sha256, read.decoder().version, rows)


def build(
    settings: RunSettings,
    until_end: bool = False,
    on_commit: Callable[[Progress], None] = lambda progress: None,
    point: Callable[[int], None] = lambda step: None,
    lookout: Lookout = Lookout(),
) -> Engine:
    """An engine for one topic, ready to run.

    Raises
    ------
    SlipherError
        Bundle, catalogue, broker or topic are not what they should be; nothing was written.
    """
    made = plan(settings)
    lookout.loaded(made.processing, made.estimator.kind)
    topic = identify(made.connection, settings.topic, settings.patience)
    if made.begin is None and not known(made, topic):
        raise must_say(made)
    ensure(settings.catalog)
    return engine(made, topic, until_end, on_commit, point, lookout)


def engine(
    made: Plan,
    topic: TopicIdentity,
    until_end: bool = False,
    on_commit: Callable[[Progress], None] = lambda progress: None,
    point: Callable[[int], None] = lambda step: None,
    lookout: Lookout = Lookout(),
) -> Engine:
    """An engine that reads `topic` as `made` has it; the catalogue is there.

    Raises
    ------
    SlipherError
        The topic is another one than the catalogue knows by this name.
    """
    settings, what = made.settings, made.processing
    rebound = bind(settings.catalog, what.id, topic.cluster_id, topic.topic, topic.topic_id, now_ms())
    grid = [float(z) for z in made.estimator.grid]
    register(settings.catalog, what, list(made.estimator.bands), grid, made.estimator.card, now_ms())

    ends = LogEnds(made.connection, topic, ANSWER_SECONDS)
    source = KafkaSource(made.consumer, topic.topic, ends)
    origin = Provenance(what, topic.cluster_id, topic.topic, topic.topic_id, version("slipher"))
    observer = lookout.observer(topic.topic)
    work = worker(settings, made.estimator, made.alerts, origin, now_ms, observer.timed)
    identity = Identity(what.id, topic.cluster_id, topic.topic, topic.topic_id, origin.version)
    sink = DeltaSink(settings.catalog, identity, now_ms, point)

    def first(partitions: list[int], known: bool) -> dict[int, int]:
        if known or rebound:  # a partition that was added, or a topic that a person took for the old one's successor
            return dict.fromkeys(partitions, 0)  # what of it has expired is listed as a gap
        if made.begin is None:
            raise must_say(made)
        partitions = list(range(topic.partitions))  # all of them: what has no start later on was added
        if made.begin.kind == "after":
            return _after(settings, made.begin.value, topic, partitions)
        return ends.at(partitions, made.begin)

    flush = min(Limits().flush, poll_interval(made.consumer) / 5)
    limits = Limits(
        settings.commit_rows, settings.commit_seconds, settings.refused_limit, settings.refused_in_a_row, flush
    )
    fields = {"model": what.model, "processing_id": what.id, "topic": topic.topic, "group": made.group}
    log.info("model %s (processing %s) reads %s, group %s", what.model, what.id, topic.topic, made.group, extra=fields)
    return Engine(source, work, sink, first, ends.confirm, limits, until_end, on_commit, observer=observer)


def known(made: Plan, topic: TopicIdentity) -> bool:
    """Whether this processing has read `topic` before, or another one of its name: then nobody needs to say where it begins."""
    catalog, who = made.settings.catalog, made.processing.id
    if not all((catalog / name).is_dir() for name in ("rows", "topics")):
        return False
    prefix = f"slipher/{who}/{topic.topic_id}/"
    if any(app.startswith(prefix) and app.endswith("/start") for app in read_app_ids(catalog / "rows")):
        return True
    meant = [topic_id for _, topic_id in bindings(catalog, who, topic.cluster_id, topic.topic)]
    return set(meant) - {topic.topic_id} != set()


def must_say(made: Plan) -> UserError:
    """That a first reading needs a beginning."""
    return UserError(
        f"{made.processing.model} has never read {made.settings.topic} into {made.settings.catalog}: say where it begins, "
        f"--start earliest, latest, a time, or after:MODEL."
    )


def _after(settings: RunSettings, model: str, topic: TopicIdentity, partitions: list[int]) -> dict[int, int]:
    """Positions of another model in the same topic: it goes on where that one stands."""
    from deltalake import DeltaTable

    table = whole(
        DeltaTable(str(settings.catalog / "models")), settings.catalog / "models", columns=["processing_id", "model"]
    )
    ids = dict(zip(table["model"].to_pylist(), table["processing_id"].to_pylist(), strict=True))
    if model not in ids:
        raise UserError(
            f"--start after:{model}: no such model in {settings.catalog}. It has {', '.join(sorted(ids)) or 'none'}."
        )
    apps = read_app_ids(settings.catalog / "rows")
    where = {p: app_id(ids[model], topic.topic_id, p, "") for p in partitions}
    found = {p: apps.get(w + "offset", apps.get(w + "start")) for p, w in where.items()}
    missing = [p for p, offset in found.items() if offset is None]
    if missing:
        raise UserError(f"--start after:{model}: it has never read partitions {missing} of {topic.topic}.")
    return {p: offset for p, offset in found.items() if offset is not None}
