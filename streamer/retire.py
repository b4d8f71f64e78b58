"""A person retires a model that another one has replaced: what it does not read any more is no lag, and alarms nobody."""

import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import UserError
from streamer.catalogue import open_catalogue
from streamer.lag.readers import Reader, readers
from streamer.lag.retired import KIND, marks, standing_at, still_retired
from streamer.sink.appids import read_app_ids
from streamer.sink.entries import Identity
from streamer.sink.operations import Operation, record


def retire(root: Path, model: str, topic: str | None, undo: bool, version: str, now_ms: int) -> list[Reader]:
    """Leave `model` out of the lag of `topic`, or of all that it reads, until it claims or writes anything again.

    Where it stands is recorded in the operations table. No row and no position changes.

    Parameters
    ----------
    root
        Directory of the catalogue, which has an operations table.
    model
        Its name or its processing id.
    topic
        Only of this topic; None is all.
    undo
        Look at it again.
    version
        Of the software that does it.
    now_ms
        ms since 1970 UTC.

    Returns
    -------
    list
        Whom that changed.

    Raises
    ------
    UserError
        There is no such reader, or it is so already.
    TroubleError
        The operations table cannot be written.
    """
    catalogue = open_catalogue(root)
    operations, ids = catalogue.operations(), read_app_ids(catalogue.root / "rows")
    known = readers(catalogue, topic, model)
    stands = {who: mark for who, mark in standing_at(ids, known.keys()).items() if mark.offsets}
    if not stands:
        there = ", ".join(sorted(catalogue.models()["model"].to_pylist())) or "none"
        raise UserError(f"No model {model} has read {topic or 'a topic'} into {root}. It has {there}.")
    out = still_retired(marks(operations), ids)
    chosen = [who for who in stands if (who in out) == undo]
    if not chosen:
        raise UserError(f"{model} is {'not retired' if undo else 'retired already'}: nothing is to be done.")
    when = _after(operations, now_ms)
    for who in chosen:
        reader, mark = known[who], stands[who]
        identity = Identity(reader.processing_id, reader.cluster_id, reader.topic, reader.topic_id, version)
        places = [(p, offset, offset) for p, offset in sorted(mark.offsets.items())]
        text = {"undo": undo, "claims": mark.claims}
        record(catalogue.root, Operation(uuid.uuid4().hex, KIND, reader.model, identity), "done", places, text, when)
    return [known[who] for who in chosen]


def _after(operations: pa.Table, now_ms: int) -> int:
    """A time after all that was said before: the newest word holds, whatever the clock says."""
    said = operations.filter(pc.field("kind") == KIND)
    if not len(said):
        return now_ms
    return max(now_ms, pc.max(said["time"].cast(pa.int64())).as_py() // 1000 + 1)
