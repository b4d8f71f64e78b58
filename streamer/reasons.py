"""Why an offset gave no row: what the exceptions ledger's reasons mean to a person, a sentence each, and how often they came."""

import pyarrow as pa
import pyarrow.compute as pc

from schemas.batch import Reason

MEANING: dict[str, str] = {
    Reason.NO_MESSAGE.name: "the log holds nothing there: a transaction marker, aborted or compacted away",
    Reason.EMPTY.name: "a message without a galaxy: a tombstone, or no rows",
    Reason.RETENTION_GAP.name: "expired before it was read: lost by the broker's retention",
    Reason.WITHDRAWN.name: "its rows stood here, and a person took them out for good",
    Reason.BAD_FRAMING.name: "no header of a framing we know",
    Reason.UNKNOWN_SCHEMA.name: "a schema id that nobody can resolve",
    Reason.LACKS_FIELD.name: "the writer's schema lacks a field that a galaxy needs",
    Reason.CORRUPT.name: "the body does not follow its schema",
    Reason.TOO_LARGE.name: "more bytes, or more rows, than the bound",
    Reason.WRONG_SURVEY.name: "another survey's message",
    Reason.BAD_POSITION.name: "right ascension or declination is no position on the sky",
    Reason.BAD_OBJECT_ID.name: "a row without an object id",
}

COUNTED = (
    "reason",
    "topic_id",
    "processing_id",
    "kafka_partition",
    "offset_start",
    "offset_end",
)  # what `counted` needs


def counted(listed: pa.Table) -> pa.Table:
    """Columns reason, entries and offsets of entries of the ledger: a row per reason, in the order of `Reason`.

    Two rows of one message are two entries and one offset.
    """
    spans = listed.append_column("offsets", pc.subtract(listed["offset_end"], listed["offset_start"]))
    entries = spans.group_by("reason").aggregate([("offsets", "count")])
    whole = spans.group_by(list(COUNTED[:-1])).aggregate([("offsets", "max")])
    offsets = whole.group_by("reason").aggregate([("offsets_max", "sum")])
    held_entries = dict(zip(entries["reason"].to_pylist(), entries["offsets_count"].to_pylist(), strict=True))
    held_offsets = dict(zip(offsets["reason"].to_pylist(), offsets["offsets_max_sum"].to_pylist(), strict=True))
    rank = {reason.name: reason.value for reason in Reason}
    names = sorted(held_entries, key=lambda name: rank.get(name, 1000))
    return pa.table(
        {
            "reason": pa.array(names, pa.string()),
            "entries": pa.array([held_entries[name] for name in names], pa.int64()),
            "offsets": pa.array([held_offsets[name] for name in names], pa.int64()),
        }
    )
