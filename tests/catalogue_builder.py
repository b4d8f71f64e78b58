"""Small catalogues made by hand: plausible rows, PDFs on 301 points, refusals; no writer of ours is involved."""

import datetime as dt
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

from schemas.catalogue import EXCEPTIONS, MODELS, REST, ROW_PARTITIONS, ROWS, TABLES, TOPICS
from schemas.flags import Flag

GRID = np.linspace(0.0, 3.0, 301)
NIGHTS = ("2026-03-01", "2026-03-02", "2026-03-03")
MODELS_HERE = (("forest", "0123456789abcdef"), ("image", "fedcba9876543210"))
TOPIC, TOPIC_ID, CLUSTER = "galaxies", "q83vEjRWeJCrze8SNFZ4kA", "test-cluster"
EPOCH = dt.datetime(2026, 3, 1, 3, tzinfo=dt.UTC)


class Built(NamedTuple):
    """A catalogue made by `build`, and what went into it."""

    path: Path
    rows: pa.Table
    truth: pa.Table  # object_id, z


def model_name(kind: str, processing_id: str) -> str:
    return f"{kind}-lsst-{processing_id[:8]}"


def build(
    path: Path,
    rows_a_night: int = 200,
    nights: tuple[str, ...] = NIGHTS,
    seed: int = 7,
    commits: int = 2,
    compact: tuple[str, ...] = (),
    lacking: tuple[str, ...] = (),
) -> Built:
    """A catalogue of two models over `nights`, each night in `commits` commits, with exceptions, models and topics.

    Models of the kinds in `compact` store compact PDFs; `rows` of the result holds them as plain ones. Columns `lacking` are
    not in the rows table: it is of an older version.
    """
    rng = np.random.default_rng(seed)
    for name, schema in TABLES.items():
        if name == "rows":
            schema = pa.schema([field for field in ROWS if field.name not in lacking])
        DeltaTable.create(str(path / name), schema, partition_by=list(ROW_PARTITIONS) if name == "rows" else [])
    tables, truths = [], []
    for k, night in enumerate(nights):
        z = rng.gamma(3.0, 0.25, rows_a_night).clip(0.02, 2.8)
        ids = [f"{k:02d}{i:08d}" for i in range(rows_a_night)]
        truths.append(pa.table({"object_id": ids, "z": z}))
        for kind, processing_id in MODELS_HERE:
            table = night_rows(rng, z, ids, night, kind, processing_id, first_offset=k * rows_a_night)
            tables.append(table)
            step = -(-rows_a_night // commits)
            for at in range(0, rows_a_night, step):
                part = table.slice(at, step).drop_columns(list(lacking))
                if kind in compact:
                    part = compacted(part)
                end = k * rows_a_night + at + len(part)
                append(path / "rows", part, {f"slipher/{processing_id}/{TOPIC_ID}/0/offset": end})
    ids_started = {f"slipher/{p}/{TOPIC_ID}/{q}/start": 0 for _, p in MODELS_HERE for q in (0, 1)}
    append(path / "rows", ROWS.empty_table().drop_columns(list(lacking)), ids_started)
    append(path / "exceptions", exceptions())
    append(path / "models", models())
    bound = [[p, CLUSTER, TOPIC, TOPIC_ID, EPOCH] for _, p in MODELS_HERE]
    append(path / "topics", pa.Table.from_pylist([dict(zip(TOPICS.names, b, strict=True)) for b in bound], TOPICS))
    return Built(
        path, pa.concat_tables([ROWS.empty_table(), *tables]), pa.concat_tables(truths) if truths else pa.table({})
    )


def night_rows(
    rng: np.random.Generator,
    z: np.ndarray,
    ids: list[str],
    night: str,
    kind: str,
    processing_id: str,
    first_offset: int = 0,
) -> pa.Table:
    """Rows whose PDFs are calibrated by construction: Gaussians around draws from themselves, every tenth one bimodal."""
    n = len(z)
    width = (0.02 + 0.06 * rng.random(n) ** 3) * (1 + z)
    centre = z + width * rng.standard_normal(n)
    second = np.where(
        np.arange(n) % 10 == 3, np.where(rng.random(n) < 0.3, 0.7, 0.3), 0.0
    )  # three in ten: truth is in the lesser peak
    pdf = gaussians(centre, width) * (1 - second)[:, None] + gaussians((centre + 1.1) % 2.9, width) * second[:, None]
    pdf /= np.trapezoid(pdf, GRID, axis=1)[:, None]
    cumulative = np.concatenate(
        [np.zeros((n, 1)), np.cumsum((pdf[:, 1:] + pdf[:, :-1]) / 2 * np.diff(GRID), axis=1)], axis=1
    )
    quantile = {
        q: np.array([np.interp(q, cumulative[i], GRID) for i in range(n)]) for q in (0.025, 0.16, 0.5, 0.84, 0.975)
    }
    mean = np.trapezoid(pdf * GRID, GRID, axis=1)
    nothing = np.arange(n) % 25 == 7
    flags = np.where(second > 0, Flag.MULTIMODAL_PDF | Flag.BAND_NON_DETECTED, 0) | np.where(
        nothing, Flag.NO_PHOTOMETRY, 0
    )
    flags |= np.where(np.arange(n) % 17 == 2, Flag.FEATURE_RANGE | Flag.NO_EBV, 0)
    times = [EPOCH + dt.timedelta(seconds=first_offset + 0.01 * i) for i in range(n)]
    later = [time + dt.timedelta(seconds=2 if kind == "forest" else 3) for time in times]

    def point(values: np.ndarray) -> pa.Array:
        return pa.array(np.where(nothing, np.nan, values).astype(np.float32), from_pandas=True)

    columns = {
        "night": [night] * n,
        "model": [model_name(kind, processing_id)] * n,
        "survey": ["lsst"] * n,
        "object_id": ids,
        "alert_id": [f"a{i}" for i in ids],
        "ra": 53.0 + rng.normal(0, 0.8, n),
        "dec": -28.0 + rng.normal(0, 0.6, n),
        "_healpix_29": rng.integers(0, 1 << 58, n),
        "mjd": np.full(n, 61100.2),
        "z_mode": point(GRID[np.argmax(pdf, axis=1)]),
        "z_mean": point(mean),
        "z_median": point(quantile[0.5]),
        "z_best": point(quantile[0.5]),
        "z_best_risk": point(0.05 + second / 2),
        "z_sigma": point(np.sqrt(np.trapezoid(pdf * (GRID - mean[:, None]) ** 2, GRID, axis=1))),
        "z_lo68": point(quantile[0.16]),
        "z_hi68": point(quantile[0.84]),
        "z_lo95": point(quantile[0.025]),
        "z_hi95": point(quantile[0.975]),
        "odds_0p03": point(0.9 - second / 2),
        "mag_ref": point(rng.uniform(20, 25, n)),
        "ebv": pa.array(np.where(flags & Flag.NO_EBV, np.nan, 0.02).astype(np.float32), from_pandas=True),
        "flags": flags.astype(np.int32),
        "band_mask": np.where(nothing, 0, np.where(second > 0, 0b011111, 0b111111)).astype(np.int32),
        "nondetection_mask": np.where(second > 0, 0b100000, 0).astype(np.int32),
        "pdf": [None if nothing[i] else row for i, row in enumerate(pdf.astype(np.float32))],
        "pdf_u8": [None] * n,
        "cluster_id": [CLUSTER] * n,
        "topic": [TOPIC] * n,
        "topic_id": [TOPIC_ID] * n,
        "kafka_partition": np.zeros(n, np.int32),
        "kafka_offset": first_offset + np.arange(n),
        "kafka_row": np.zeros(n, np.int32),
        "kafka_timestamp": times,
        "ingest_time": later,
        "processing_id": [processing_id] * n,
        "slipher_version": ["0.1.0"] * n,
    }
    return pa.table([pa.array(columns[f.name], f.type) for f in ROWS], schema=ROWS)


def compacted(rows: pa.Table) -> pa.Table:
    """`rows` with their PDFs in the other column: whole 255ths of the peak, as bytes."""
    stored = [None if p is None else bytes(round(255 * v / max(p)) for v in p) for p in rows["pdf"].to_pylist()]
    rows = rows.set_column(rows.column_names.index("pdf_u8"), ROWS.field("pdf_u8"), pa.array(stored, pa.binary()))
    nothing = pa.nulls(len(rows), ROWS.field("pdf").type)
    return rows.set_column(rows.column_names.index("pdf"), ROWS.field("pdf"), nothing)


def gaussians(centre: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Normal densities on the grid, float64[n, 301]."""
    return np.exp(-0.5 * ((GRID - centre[:, None]) / width[:, None]) ** 2) / (width[:, None] * np.sqrt(2 * np.pi))


def exceptions() -> pa.Table:
    """A transaction marker, a tombstone, two refused messages, a refused row and a retention gap."""
    broken = b"\x00\x00\x00\x00\x07" + bytes(range(90)) + b"object_id"
    listed = [
        (600, 601, REST, "NO_MESSAGE", "the log holds nothing for us here", -1, None, 0),
        (601, 602, REST, "EMPTY", "a tombstone", -1, None, 0),
        (
            602,
            603,
            REST,
            "CORRUPT",
            "field flux: array block runs past the end of the message",
            37,
            broken,
            len(broken),
        ),
        (603, 604, REST, "UNKNOWN_SCHEMA", "schema id 9 is not in the registry", 1, b"\x00\x00\x00\x00\x09hello", 10),
        (604, 605, 3, "BAD_POSITION", "dec is 91.2 degrees", -1, b"\x01" * 40, 2_000_000),
        (700, 750, REST, "RETENTION_GAP", "expired before it was read", -1, None, 0),
    ]
    rows = []
    for kind_row in listed:
        start, end, row, reason, text, byte, payload, size = kind_row
        values = [MODELS_HERE[0][1], CLUSTER, TOPIC, TOPIC_ID, 0, start, end, row, reason, text, byte, payload, size]
        values += [EPOCH, EPOCH + dt.timedelta(seconds=start), "0.1.0"]
        rows.append(dict(zip(EXCEPTIONS.names, values, strict=True)))
    return pa.Table.from_pylist(rows, EXCEPTIONS)


def models() -> pa.Table:
    """The two models, six bands, one grid."""
    rows = []
    for kind, processing_id in MODELS_HERE:
        card = {"kind": kind, "survey": "lsst", "training": {"rows": 10225}}
        values = [
            processing_id,
            model_name(kind, processing_id),
            "images" if kind == "image" else kind,  # as bundles say it
            "lsst",
            list("ugrizy"),
            GRID.tolist(),
            processing_id * 4,
        ]
        values += ["native 1", json.dumps({"dust": "SF11"}), json.dumps(card), EPOCH]
        rows.append(dict(zip(MODELS.names, values, strict=True)))
    return pa.Table.from_pylist(rows, MODELS)


def append(folder: Path, table: pa.Table, ids: dict[str, int] | None = None) -> None:
    transactions = [Transaction(app, version) for app, version in (ids or {}).items()]
    write_deltalake(
        str(folder), table, mode="append", commit_properties=CommitProperties(app_transactions=transactions)
    )
