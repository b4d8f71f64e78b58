"""A catalogue of many millions of rows, made cheaply: real rows of one batch over and over, each time as other objects."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import healpix
import numpy as np
import pyarrow as pa

from benchmarks.feed import DUST_LAW, SURVEY
from consumers.rows import HEALPIX_ORDER, Provenance, RowBuilder
from consumers.tree import TreeWorker
from consumers.worker import Output
from models import bundle as bundles
from models import training
from schemas import dc2, photometry_table
from schemas.bands import band_set
from schemas.batch import Float64, Int64, Messages, Reason, Refusals
from schemas.catalogue import REST
from schemas.night import MJD_1970, mjd_of, rollover
from schemas.surveys.native import avro_schema
from schemas.table_alerts import payloads
from streamer.demo.sky import observe
from streamer.run import Plan, now_ms, plan
from streamer.settings import run_settings
from streamer.sink.catalogue import ensure, register
from streamer.sink.delta import DeltaSink
from streamer.sink.entries import Identity

FIRST_NIGHT = date(2026, 5, 1)
NIGHT_ROWS = 2_000_000
COMMIT_ROWS = 100_000
PARTITIONS = 8
SEEN = 0.8  # of all objects there are, those that a night shows: an object has rows in four nights of five
REFUSED = 0.01  # of the messages: their schema is not known yet
SCHEMA_ID = 7
TREES = 20
LOOKS = 100  # objects that are told of
SEED = 1


class Large(NamedTuple):
    """The catalogue, and what a person needs to go on with it.

    Attributes
    ----------
    root, model, schema
        The catalogue, the bundle of its model, and the schema that its dead letters lack.
    nights, name
        Its nights, and its model in the column ``model``.
    object_id, ra, dec
        Some objects that are in it, of its first night.
    rows, letters
        How many.
    """

    root: Path
    model: Path
    schema: Path
    nights: list[str]
    name: str
    object_id: list[str]
    ra: Float64
    dec: Float64
    rows: int
    letters: int


class _Sky(NamedTuple):
    """All objects: their names are as good as random, as those of surveys that number what they find in time."""

    object_id: Int64
    ra: Float64
    dec: Float64
    pixel: Int64


def build(folder: Path, rows: int, tell: Callable[[str, float], None] = lambda what, share: None) -> Large:
    """Fill a new catalogue in `folder` through the sink, a commit for each `COMMIT_ROWS` messages."""
    model, schema = folder / "model.slipher", folder / "schema.avsc"
    known = photometry_table.read(dc2.training(), band_set(SURVEY), want_redshift=True).with_redshift()
    settings = training.ForestSettings(augment="no", trees=TREES)
    arrays = (known.flux, known.flux_err, known.band_state, known.ebv, known.z)
    bundles.write(training.fit(*arrays, band_set(SURVEY), settings), model)
    schema.write_text(json.dumps(avro_schema(SURVEY)))
    root = folder / "catalogue"
    made = plan(run_settings(brokers="none", topic="galaxies", model=model, catalog=root))
    ensure(root)
    register(root, made.processing, list(made.estimator.bands), [float(z) for z in made.estimator.grid], {}, now_ms())
    who = Identity(made.processing.id, "benchmark", "galaxies", "lAY7wVzqTXqkC3mGyLsUog", "benchmark")
    commit = min(COMMIT_ROWS, rows)
    nights = [(FIRST_NIGHT + timedelta(days=k)).isoformat() for k in range(-(-rows // NIGHT_ROWS))]
    first, sent = _first(made, who, commit)
    rng = np.random.default_rng(SEED)
    a_night = -(-rows // len(nights))
    sky = _sky(rng, max(int(a_night / SEEN), commit))
    sink = DeltaSink(root, who, now_ms)
    at = sink.claim(list(range(PARTITIONS)), lambda partitions, known: dict.fromkeys(partitions, 0))
    letters = done = 0
    some: pa.Table | None = None
    for night, index in _commits(rng, nights, a_night, commit, len(sky.object_id)):
        messages, output = _batch(rng, first, sent, sky, night, index, at)
        letters += len(output.refusals.message)
        done += len(output.rows)
        some = some or output.rows.select(["object_id", "ra", "dec"]).slice(0, LOOKS)
        sink.write(messages, output)
        at, _ = sink.commit()
        tell("rows", done / rows)
    assert some is not None
    objects, ra, dec = some["object_id"].to_pylist(), some["ra"].to_numpy(), some["dec"].to_numpy()
    return Large(root, model, schema, nights, made.processing.model, objects, ra, dec, done, letters)


def _first(made: Plan, who: Identity, n: int) -> tuple[pa.Table, list[bytes]]:
    """Rows of `n` galaxies, as a worker makes them, and their messages."""
    bands = band_set(SURVEY)
    unseen = photometry_table.read(dc2.validation(), bands, want_redshift=True).with_redshift()
    begin = datetime.combine(FIRST_NIGHT, datetime.min.time(), UTC) + timedelta(days=1)
    mjd = float(mjd_of(int(begin.timestamp() * 1000), rollover(SURVEY).scale))
    drawn = observe(unseen, bands, DUST_LAW, n, mjd, np.random.default_rng(SEED))
    sent = list(payloads(drawn.table, bands, drawn.mjd, "avro"))
    origin = Provenance(made.processing, who.cluster_id, who.topic, who.topic_id, who.version)
    worker = TreeWorker(made.alerts.decoder(), made.estimator, RowBuilder(origin, made.alerts.night, now_ms))
    offset = np.arange(n, dtype=np.int64)
    messages = Messages([*sent], np.zeros(n, np.int32), offset, np.full(n, int(begin.timestamp() * 1000)), {0: n})
    output = worker.process(messages)
    if len(output.rows) != n:
        raise RuntimeError(f"{n} messages gave {len(output.rows)} rows")
    return output.rows.combine_chunks(), sent


def _sky(rng: np.random.Generator, n: int) -> _Sky:
    object_id = rng.integers(1 << 60, 1 << 62, n)
    ra, dec = rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-0.95, 0.05, n)))
    pixel = healpix.ang2pix(1 << HEALPIX_ORDER, ra, dec, lonlat=True, nest=True)
    return _Sky(object_id, ra, dec, np.asarray(pixel, np.int64))


def _commits(
    rng: np.random.Generator, nights: list[str], rows: int, commit: int, objects: int
) -> Iterator[tuple[str, Int64]]:
    """(night, which objects) of each commit: a night shows an object once."""
    for night in nights:
        seen = rng.permutation(objects)[:rows]
        for start in range(0, len(seen), commit):
            yield night, seen[start : start + commit]


def _batch(
    rng: np.random.Generator,
    first: pa.Table,
    sent: list[bytes],
    sky: _Sky,
    night: str,
    index: Int64,
    at: dict[int, int],
) -> tuple[Messages, Output]:
    """Messages of the objects `index` in `night`: rows of the first batch in another order, under other names."""
    n = len(index)
    drawn = rng.permutation(len(first))[:n]
    partition = np.arange(n, dtype=np.int32) % PARTITIONS
    offset = np.array([at[p] for p in range(PARTITIONS)])[partition] + np.arange(n) // PARTITIONS
    begin = datetime.combine(date.fromisoformat(night), datetime.min.time(), UTC) + timedelta(days=1)
    time = int(begin.timestamp() * 1000) + np.arange(n, dtype=np.int64) // 10
    order = np.lexsort((offset, partition))
    partition, offset, time = partition[order], offset[order], time[order]
    micros = pa.array(time * 1000, pa.timestamp("us", tz="UTC"))
    text = pa.array(sky.object_id[index]).cast(pa.string())
    given = {
        "night": pa.repeat(pa.scalar(night), n),
        "object_id": text,
        "alert_id": text,
        "ra": pa.array(sky.ra[index]),
        "dec": pa.array(sky.dec[index]),
        "_healpix_29": pa.array(sky.pixel[index]),
        "mjd": pa.array(MJD_1970 + time / 86_400_000),
        "kafka_partition": pa.array(partition),
        "kafka_offset": pa.array(offset),
        "kafka_row": pa.array(np.zeros(n, np.int32)),
        "kafka_timestamp": micros,
        "ingest_time": micros,
    }
    table = first.take(pa.array(drawn))
    rows = pa.table([given.get(field.name, table[field.name]) for field in first.schema], schema=first.schema)
    refused = rng.random(n) < REFUSED
    bad = np.flatnonzero(refused)
    payload: list[bytes | None] = [None] * n
    for k in bad:
        payload[k] = b"\x00" + SCHEMA_ID.to_bytes(4, "big") + sent[drawn[k]][5:]
    refusals = Refusals(
        bad,
        np.full(len(bad), REST, np.int32),
        np.full(len(bad), Reason.UNKNOWN_SCHEMA, np.uint8),
        [f"schema id {SCHEMA_ID} is not known"] * len(bad),
        np.ones(len(bad), np.int64),
    )
    ends = {p: at[p] + int((partition == p).sum()) for p in range(PARTITIONS)}
    messages = Messages(payload, partition, offset, time, ends, (), dict(at))
    return messages, Output(rows.filter(pa.array(~refused)), refusals)
