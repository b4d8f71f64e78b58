"""Puts a run together: broker, topic, model, catalogue, worker, engine."""

import logging
import time
from collections.abc import Callable
from importlib.metadata import version

from consumers.rows import Provenance
from consumers.tree import TreeWorker
from models.estimator import load
from schemas.decoder import Decoder
from schemas.errors import UserError
from schemas.native_decoder import NativeDecoder
from schemas.night import rollover
from schemas.processing import processing
from schemas.surveys.native import known_avro_schemas
from schemas.wire.confluent import KnownSchemas, SchemaSource
from streamer.engine import Engine, Limits
from streamer.registry.client import InTurn, registry
from streamer.settings import RunSettings
from streamer.sink.appids import app_id, read_app_ids
from streamer.sink.catalogue import bind, ensure, register
from streamer.sink.delta import DeltaSink
from streamer.sink.entries import Identity
from streamer.source.connection import LogEnds, Start, TopicIdentity, identify, parse_start
from streamer.source.kafka import KafkaSource, consumer_settings
from streamer.tally import Progress

log = logging.getLogger(__name__)


def now_ms() -> int:
    """The wall clock, ms since 1970 UTC."""
    return time.time_ns() // 1_000_000


def build(
    settings: RunSettings,
    until_end: bool = False,
    on_commit: Callable[[Progress], None] = lambda progress: None,
    point: Callable[[int], None] = lambda step: None,
) -> Engine:
    """An engine ready to run.

    Raises
    ------
    SlipherError
        Bundle, catalogue, broker or topic are not what they should be; nothing was written.
    """
    estimator = load(settings.model)
    decoder = decoder_for(settings, estimator.survey)
    if tuple(decoder.bands) != tuple(estimator.bands):
        raise UserError(
            f"The model {settings.model} knows bands {', '.join(estimator.bands)}, "
            f"survey {estimator.survey} sends {', '.join(decoder.bands)}."
        )
    night = rollover(estimator.survey)
    what = processing(
        estimator.kind, estimator.survey, estimator.sha256, decoder.version, {"rollover": list(night), "pdf_bits": 12}
    )
    group = settings.group or f"slipher-{what.model}"
    kafka = consumer_settings(settings.brokers, group, settings.kafka)
    begin = parse_start(settings.start) if settings.start else None
    ensure(settings.catalog)
    connection = {key: value for key, value in kafka.items() if key in settings.kafka} | {
        "bootstrap.servers": settings.brokers
    }
    topic = identify(connection, settings.topic, settings.patience)
    if begin is None and not _known(settings, what.id, topic):
        raise _must_say(what.model, settings)
    bind(settings.catalog, what.id, topic.cluster_id, topic.topic, topic.topic_id, now_ms())
    register(
        settings.catalog, what, list(estimator.bands), [float(z) for z in estimator.grid], estimator.card, now_ms()
    )

    ends = LogEnds(connection, topic)
    source = KafkaSource(kafka, topic.topic, ends)
    origin = Provenance(what, topic.cluster_id, topic.topic, topic.topic_id, version("slipher"))
    worker = TreeWorker(decoder, estimator, origin, night, now_ms)
    identity = Identity(what.id, topic.cluster_id, topic.topic, topic.topic_id, origin.version)
    sink = DeltaSink(settings.catalog, identity, now_ms, point)

    def first(partitions: list[int], known: bool) -> dict[int, int]:
        if known:  # the topic is known, the partition is new: it was added, and all of it is ours
            return ends.at(partitions, Start("earliest"))
        if begin is None:
            raise _must_say(what.model, settings)
        partitions = list(range(topic.partitions))  # all of them: what has no start later on was added
        if begin.kind == "after":
            return _after(settings, begin.value, topic, partitions)
        return ends.at(partitions, begin)

    limits = Limits(settings.commit_rows, settings.commit_seconds, settings.refused_limit)
    log.info("model %s (processing %s) reads %s, group %s", what.model, what.id, topic.topic, group)
    return Engine(source, worker, sink, first, ends.confirm, limits, until_end, on_commit)


def decoder_for(settings: RunSettings, survey: str) -> Decoder:
    """What reads the messages: the native schemas are known by their fingerprints, others come from the registry."""
    schemas: SchemaSource = KnownSchemas(known_avro_schemas())
    if settings.registry:
        schemas = InTurn(schemas, registry(settings.registry, settings.registry_setting))
    return NativeDecoder(survey, schemas, settings.framing)


def _must_say(model: str, settings: RunSettings) -> UserError:
    return UserError(
        f"{model} has never read {settings.topic} into {settings.catalog}: say where it begins, "
        f"--start earliest, latest, a time, or after:MODEL."
    )


def _known(settings: RunSettings, processing_id: str, topic: TopicIdentity) -> bool:
    prefix = f"slipher/{processing_id}/{topic.topic_id}/"
    return any(app.startswith(prefix) and app.endswith("/start") for app in read_app_ids(settings.catalog / "rows"))


def _after(settings: RunSettings, model: str, topic: TopicIdentity, partitions: list[int]) -> dict[int, int]:
    """Positions of another model in the same topic: it goes on where that one stands."""
    from deltalake import DeltaTable

    table = DeltaTable(str(settings.catalog / "models")).to_pyarrow_table(columns=["processing_id", "model"])
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
