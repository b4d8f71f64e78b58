"""Makes a catalogue's tables, registers the model behind a processing id, and binds a topic's name to its id."""

import json
import uuid
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake import Schema as DeltaSchema
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from schemas.catalogue import MODELS, ROW_PARTITIONS, TABLES, TOPICS
from schemas.errors import IntegrityError, TroubleError, UserError
from schemas.processing import Processing
from streamer.sink.appids import read_app_ids
from streamer.sink.datasets import whole
from streamer.sink.store import place, refuse_blind
from streamer.sink.torn import refuse_torn

# Checkpoints every 20 commits keep the tail that a claim reads short. Transaction ids must never expire: they are the positions.
CONFIGURATION: dict[str, str | None] = {
    "delta.checkpointInterval": "20",
    "delta.logRetentionDuration": "interval 7 days",
    "delta.enableExpiredLogCleanup": "true",
}


def ensure(root: Path) -> None:
    """Create the catalogue in `root` where it does not exist; check the schemas where it does, and add new columns to them.

    Raises
    ------
    UserError
        `root` cannot be written, or holds a table that is not ours.
    IntegrityError
        The last entry of a table's log is torn.
    """
    root = place(root)
    if "%" in str(root):
        raise UserError(f"The catalogue {root} has a % in its path, which the table's library takes for an escape.")
    refuse_blind(root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe = root / f".writable-{uuid.uuid4().hex}"  # no process id: containers share those
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        why = error.strerror or error
        raise UserError(
            f"The catalogue {root} cannot be written ({why}): choose another --catalog or mend its permissions."
        ) from None
    refuse_torn(root, list(TABLES))
    for name, schema in TABLES.items():
        try:
            table = DeltaTable(str(root / name))
        except TableNotFoundError:
            _create(root / name, schema, list(ROW_PARTITIONS) if name == "rows" else [])
            table = DeltaTable(str(root / name))
        missing = _missing(table, schema)
        if missing and all(field.nullable for field in missing):
            missing = _add(root / name, schema)
        if missing:
            names = ", ".join(field.name for field in missing)
            raise UserError(f"{root / name} is not a table of this version of slipher: it lacks {names}.")


def register(
    root: Path, processing: Processing, bands: list[str], grid: list[float], card: dict[str, Any], now_ms: int
) -> None:
    """Enter the model behind `processing` into the models table, once."""
    row = {
        "processing_id": processing.id,
        "model": processing.model,
        "kind": processing.kind,
        "survey": processing.survey,
        "bands": bands,
        "z_grid": grid,
        "bundle_sha256": processing.bundle_sha256,
        "decoder": processing.decoder,
        "settings": json.dumps(processing.settings, sort_keys=True),
        "card": json.dumps(card, sort_keys=True),
        "registered": now_ms * 1000,
    }
    _append_once(root / "models", MODELS, row, f"slipher/{processing.id}/registered", 1)


def bind(root: Path, processing_id: str, cluster_id: str, topic: str, topic_id: str, now_ms: int) -> bool:
    """Remember what `topic` means to this processing; refuse where it has come to mean something else.

    Returns
    -------
    bool
        Whether the name meant another topic once, and a person has bound it to this one (``rebind``): all of it is to be read.

    Raises
    ------
    IntegrityError
        The topic was recreated: its offsets start again at 0 and would be taken for old ones.
    """
    bound = bindings(root, processing_id, cluster_id, topic)
    if not bound:
        _bind(root, (processing_id, cluster_id, topic, topic_id, now_ms * 1000), 1)
        bound = bindings(root, processing_id, cluster_id, topic)  # of several workers one wins
    when, meant = bound[-1]
    if meant != topic_id:
        raise IntegrityError(
            f"The topic {topic} was recreated: its id was {meant} on {when:%Y-%m-%d %H:%M} and is {topic_id} now, and its "
            f"offsets began again. Nothing is read until a person decides: `slipher catalog rebind {root} --topic {topic} --all` "
            f"takes the new topic for the old one's successor and reads all of it."
        )
    return len(bound) > 1


def rebind(root: Path, processing_id: str, cluster_id: str, topic: str, topic_id: str, now_ms: int) -> bool:
    """Let `topic` mean another topic than before: a person accepts one that was recreated. False where it does already.

    The old binding stays, and so do the rows: they carry the id of the topic that they came from.
    """
    bound = bindings(root, processing_id, cluster_id, topic)
    when, meant = bound[-1]
    if meant == topic_id:
        return False
    later = max(
        now_ms * 1000, int(when.timestamp()) * 1_000_000 + 1_000_000
    )  # the newest holds, whatever the clock says
    _bind(root, (processing_id, cluster_id, topic, topic_id, later), len(bound) + 1)
    return True


def bindings(root: Path, processing_id: str, cluster_id: str, topic: str) -> list[tuple[datetime, str]]:
    """(since when, topic id): what `topic` has meant to this processing, oldest first."""
    table = whole(
        DeltaTable(str(root / "topics")),
        root / "topics",
        filters=[("processing_id", "=", processing_id), ("topic", "=", topic), ("cluster_id", "=", cluster_id)],
    )
    return sorted(zip(table["bound"].to_pylist(), table["topic_id"].to_pylist(), strict=True))


def _bind(root: Path, row: tuple[str, str, str, str, int], number: int) -> None:
    processing_id, cluster_id, topic, *_ = row
    app = f"slipher/{processing_id}/{cluster_id}/{topic}/bound"
    _append_once(root / "topics", TOPICS, dict(zip(TOPICS.names, row, strict=True)), app, number)


def _create(folder: Path, schema: pa.Schema, by: list[str]) -> None:
    try:
        DeltaTable.create(str(folder), schema, partition_by=by, configuration=CONFIGURATION)
    except (DeltaError, OSError) as error:
        try:
            DeltaTable(str(folder))  # another worker was quicker
        except TableNotFoundError:
            raise TroubleError(f"{folder} cannot be made: {error}.") from error


def _missing(table: DeltaTable, schema: pa.Schema) -> list[pa.Field]:
    found = pa.schema(table.schema().to_arrow()).names
    return [field for field in schema if field.name not in found]


def _add(folder: Path, schema: pa.Schema) -> list[pa.Field]:
    """Add the columns that an older version's table lacks, null in its rows; returns those that could not be added.

    Workers that write at this moment see "metadata changed", look again, and write on: their rows have null there too.
    """
    for _ in range(20):
        table = DeltaTable(str(folder))
        missing = _missing(table, schema)
        if not missing:
            return []
        try:
            table.alter.add_columns(list(DeltaSchema.from_arrow(pa.schema(missing)).fields))
        except CommitFailedError:
            continue  # another worker was quicker, or wrote meanwhile
    return _missing(DeltaTable(str(folder)), schema)


def _append_once(folder: Path, schema: pa.Schema, row: dict[str, Any], app: str, version: int) -> None:
    """Append `row` unless the transaction `app` stands in the log already: of several workers one wins."""
    for _ in range(20):
        table = DeltaTable(str(folder))
        if read_app_ids(folder).get(app, 0) >= version:
            return
        try:
            write_deltalake(
                table,
                pa.Table.from_pylist([row], schema),
                mode="append",
                commit_properties=CommitProperties(app_transactions=[Transaction(app, version)]),
            )
        except CommitFailedError:
            continue
    if read_app_ids(folder).get(app, 0) < version:
        raise TroubleError(f"{folder} accepts no commit after 20 tries: is its disk full or read-only?")
