"""Dead letters: the refused entries of the exceptions ledger, numbered, with their night, and whether they are still open.

A dead letter is *open* until a row of its identity (topic id, partition, offset, and row where one row of a message was
refused) exists, whichever processing made it: a mended decoder or another model has another processing id, and its row
answers the letter as well. The ledger itself is append-only and keeps every entry.
"""

import datetime as dt
import json
from collections.abc import Container, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.batch import Int64, Reason
from schemas.catalogue import EXCEPTIONS, REST
from schemas.errors import UserError
from schemas.night import DEFAULT, Rollover, night_name, nights
from streamer.catalogue import Catalogue

# What a person may want to look at: not the offsets that never held a message, not what a person has taken out.
RETRYABLE: list[str] = [reason.name for reason in Reason if reason >= Reason.BAD_FRAMING]
REFUSED: list[str] = [Reason.EMPTY.name, Reason.RETENTION_GAP.name, *RETRYABLE]
OPEN, CLOSED, NOTHING_TO_DO = "open", "closed", ""  # the last: a tombstone, or what retention took, gives no row ever

Message = tuple[str, str, int, int]
MESSAGE = ("processing_id", "topic_id", "kafka_partition", "offset_start")
_PLACE = list(MESSAGE[1:])
_BATCH = 64  # entries whose payloads, up to 1 MiB each, are in memory at once


def letters(catalogue: Catalogue) -> pa.Table:
    """All dead letters, oldest first, without their payloads.

    Returns
    -------
    pyarrow.Table
        The columns of the exceptions ledger but ``payload``, and before them ``number`` (int64, from 1; a letter keeps its
        number as others are added), ``state`` (open, closed, or nothing) and ``night`` (of its Kafka time; null without one).
    """
    table = catalogue.exceptions(REFUSED, [name for name in EXCEPTIONS.names if name != "payload"])
    number = pa.array(np.arange(1, len(table) + 1))
    table = table.add_column(0, "night", _nights(catalogue, table)).add_column(0, "number", number)
    return table.add_column(1, "state", states(catalogue, table))


def states(catalogue: Catalogue, table: pa.Table) -> pa.Array:
    """Whether each of `table`, which has the columns of the ledger, is ``OPEN`` or ``CLOSED``, or never to be answered."""
    out = np.full(len(table), NOTHING_TO_DO, object)
    may = np.flatnonzero(pc.is_in(table["reason"], pa.array(RETRYABLE)).to_numpy(zero_copy_only=False))
    out[may] = OPEN
    if len(may):
        keys = table.select([*_PLACE, "kafka_row"]).take(pa.array(may))
        out[may[_answered(catalogue, keys)]] = CLOSED
    return pa.array(out, pa.string())


def chosen(
    table: pa.Table,
    reason: str | None = None,
    night: str | None = None,
    since: dt.datetime | None = None,
    state: str | None = None,
) -> pa.Table:
    """Those of `table`, as `letters` gives it, that fit everything given.

    Parameters
    ----------
    reason
        Name of a schemas.batch.Reason.
    night
        YYYY-MM-DD, of the message's Kafka time.
    since
        Listed at this time or later.
    state
        ``OPEN`` or ``CLOSED``.

    Raises
    ------
    UserError
        There is no such reason.
    """
    if reason is not None and reason not in REFUSED:
        raise UserError(f"There is no reason {reason}: there are {', '.join(REFUSED)}.")
    for name, value in (("reason", reason), ("night", night), ("state", state)):
        if value is not None:
            table = table.filter(pc.equal(table[name], value))
    if since is not None:
        table = table.filter(
            pc.greater_equal(table["ingest_time"], pa.scalar(since, table.schema.field("ingest_time").type))
        )
    return table


def named(table: pa.Table, which: str) -> pa.Table:
    """Those of `table` that `which` names: a number such as 3, or partition:offset such as 0:1234.

    Raises
    ------
    UserError
        `which` is neither.
    """
    partition, colon, offset = which.partition(":")
    if not partition.isdigit() or (colon and not offset.isdigit()):
        raise UserError(
            f"{which} names no entry: give a number of the list, such as 3, or partition:offset, such as 0:1234."
        )
    if not colon:
        return table.filter(pc.equal(table["number"], int(which)))
    at = int(offset)
    covers = pc.and_(pc.less_equal(table["offset_start"], at), pc.greater(table["offset_end"], at))
    return table.filter(pc.and_(covers, pc.equal(table["kafka_partition"], int(partition))))


def payload_of(catalogue: Catalogue, letter: dict[str, Any]) -> bytes | None:
    """What the ledger keeps of a letter's message, None where there was none. The others' payloads are not read."""
    columns = [*MESSAGE, "payload"]
    near = catalogue.exceptions(None, columns, (letter["kafka_partition"], letter["offset_start"]))
    same = [row for row in near.to_pylist() if message_of(row) == message_of(letter)]
    return next((row["payload"] for row in same if row["payload"] is not None), None)


def payloads(catalogue: Catalogue, wanted: Container[Message]) -> Iterator[tuple[Message, bytes]]:
    """What the ledger keeps of each message of `wanted`, once, in no particular order, a few in memory at a time."""
    given = set()
    batches = catalogue.dataset("exceptions").scanner(
        [*MESSAGE, "payload"], pc.field("payload").is_valid(), batch_size=_BATCH
    )
    for batch in batches.to_batches():
        for row in batch.to_pylist():
            key = message_of(row)
            if key in wanted and key not in given:
                given.add(key)
                yield key, row["payload"]


def message_of(row: dict[str, Any]) -> Message:
    """Which message of which processing: the payload stands with one of its entries."""
    return row["processing_id"], row["topic_id"], row["kafka_partition"], row["offset_start"]


def is_cut(payload: bytes | None, size: int) -> bool:
    """Whether the ledger keeps only the beginning of a message of `size` bytes."""
    return payload is not None and len(payload) < size


# -- inside ----------------------------------------------------------------------------------------------------------------


def _answered(catalogue: Catalogue, keys: pa.Table) -> Int64:
    """Indices of those whose identity has a row."""
    offsets = keys["offset_start"]
    ends = pc.min_max(offsets).as_py()  # lets files be skipped by their statistics
    offset = pc.field("kafka_offset")
    near = (offset >= ends["min"]) & (offset <= ends["max"]) & offset.isin(offsets.unique())
    near &= pc.field("topic_id").isin(keys["topic_id"].unique())
    columns = ["topic_id", "kafka_partition", "kafka_offset", "kafka_row"]
    found = catalogue.dataset("rows").to_table(columns=columns, filter=near).rename_columns([*_PLACE, "kafka_row"])
    keys = keys.append_column("index", pa.array(np.arange(len(keys))))
    whole = pc.equal(keys["kafka_row"], REST)
    messages, rows = found.group_by(_PLACE).aggregate([]), found.group_by([*_PLACE, "kafka_row"]).aggregate([])
    by_message = keys.filter(whole).join(messages, _PLACE, join_type="left semi")
    by_row = keys.filter(pc.invert(whole)).join(rows, [*_PLACE, "kafka_row"], join_type="left semi")
    return np.concatenate([by_message["index"].to_numpy(), by_row["index"].to_numpy()])


def _nights(catalogue: Catalogue, table: pa.Table) -> pa.Array:
    """The night of each letter's Kafka time, by the rule of the processing that refused it."""
    rules = {
        row["processing_id"]: _rule(json.loads(row["settings"]).get("rollover"))
        for row in catalogue.models().select(["processing_id", "settings"]).to_pylist()
    }
    sent = pc.cast(table["kafka_timestamp"], pa.int64()).fill_null(-1000).to_numpy() // 1000
    out = np.full(len(table), None, object)
    ids = table["processing_id"].to_numpy()
    for processing_id in set(ids.tolist()):
        mine = np.flatnonzero((ids == processing_id) & (sent >= 0))
        index, _ = nights(np.full(len(mine), np.nan), sent[mine], rules.get(processing_id, DEFAULT))
        out[mine] = [night_name(int(k)) for k in index]
    return pa.array(out, pa.string())


def _rule(stored: list[Any] | None) -> Rollover:
    return Rollover(stored[0], stored[1]) if stored else DEFAULT
