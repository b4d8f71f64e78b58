"""Readers that a person has retired: another model took their place, and what they do not read any more is no lag.

Silence alone retires nobody, since a worker that is merely down is silent too. A person says it (``slipher catalog retire``),
and the operations table keeps where the reader stood then. One that has claimed or written anything beyond that is back, and
is looked at again: what was said of it was wrong, or somebody has rolled back. No clock has a part in this.
"""

import json
from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from streamer.lag.readers import Who, app_parts

KIND: Final = "retire"  # of an operation


class Mark(NamedTuple):
    """Where a reader stands.

    Attributes
    ----------
    offsets
        Next offset by partition.
    claims
        Sum of its epochs: each claim of a worker raises it.
    """

    offsets: dict[int, int]
    claims: int


def marks(operations: pa.Table) -> dict[Who, Mark]:
    """Where each reader that was retired stood at that time; those of which that was undone are left out."""
    newest: dict[Who, tuple[str, Mark | None]] = {}
    for row in operations.filter(pc.field("kind") == KIND).sort_by("time").to_pylist():
        who, said = (row["processing_id"], row["topic_id"]), json.loads(row["text"])
        if newest.get(who, ("", None))[0] != row["operation_id"]:
            newest[who] = row["operation_id"], None if said["undo"] else Mark({}, said["claims"])
        mark = newest[who][1]
        if mark is not None:
            mark.offsets[row["kafka_partition"]] = row["offset_start"]
    return {who: mark for who, (_, mark) in newest.items() if mark is not None}


def standing_at(ids: Mapping[str, int], wanted: Collection[Who]) -> dict[Who, Mark]:
    """Where readers stand by the numbers `ids` in the log of the rows table."""
    offsets: dict[Who, dict[int, int]] = {}
    claims: dict[Who, int] = {}
    for app, version in ids.items():
        parts = app_parts(app)
        if parts is None or parts[0] not in wanted:
            continue
        who, partition, what = parts
        if what == "offset":
            offsets.setdefault(who, {})[partition] = version
        elif what == "start":
            offsets.setdefault(who, {}).setdefault(partition, version)
        elif what == "epoch":
            claims[who] = claims.get(who, 0) + version
    return {who: Mark(offsets.get(who, {}), claims.get(who, 0)) for who in wanted}


def still_retired(said: Mapping[Who, Mark], ids: Mapping[str, int]) -> set[Who]:
    """Those of the readers that were retired that have claimed and written nothing since."""
    if not said:
        return set()
    now = standing_at(ids, said.keys())
    return {who for who, mark in said.items() if not _beyond(now[who], mark)}


def _beyond(now: Mark, then: Mark) -> bool:
    return now.claims > then.claims or any(at > then.offsets.get(p, -1) for p, at in now.offsets.items())
