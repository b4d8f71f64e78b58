"""Withdrawal: the rows of one night by one model are taken out for good, and the ledger says of every offset that they were.

Withdraw                                                                invariant kept
 1. take the care lease; its files are the rows to take out             one at a time; what comes later is not touched
 2. record that it began
 3. append to E an entry WITHDRAWN for exactly these offsets, or for    no offset is ever neither rows nor listed; what an
    single rows where others of the offset stand in another night,      interrupted run has listed is not listed again
    but for those that stand there already. The same commit takes a
    new epoch of whoever might fill these offsets again: a replay, or
    a live worker that has yet to come there
 4. commit to R the removal of the files, with the same epochs          such a one claims anew, and reads in E that the
                                                                        offsets are settled
 5. record that it is done

Whoever claimed after step 3 has read E; whoever claimed before it either saw the rows stand or is fenced by step 4. For this
processing the offsets are settled for ever, as everything that E lists. Another processing may be replayed there.
"""

import logging
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError

from schemas.batch import Int64, Reason
from schemas.catalogue import EXCEPTIONS, REST
from schemas.errors import TroubleError, UserError
from streamer.care.leases import TRIES, Lease, LeaseLost, lease_id, live_files, sync_log, take
from streamer.sink.appids import AppIds, app_id
from streamer.sink.datasets import dataset
from streamer.sink.entries import Identity
from streamer.sink.ledger import REPEATED
from streamer.sink.operations import Operation, record
from streamer.sink.settled import Settled
from streamer.sink.staging import stage

log = logging.getLogger(__name__)

_WHOSE = ["processing_id", "cluster_id", "topic", "topic_id", "kafka_partition"]


class Withdrawn(NamedTuple):
    """What was taken out, and how many rows of the night by the model came meanwhile: those stand."""

    rows: int
    offsets: int
    left: int


class Part(NamedTuple):
    """The rows to take out of one partition of one topic.

    Attributes
    ----------
    identity, partition
        Whose they are.
    rows
        How many.
    offsets
        Offsets of which all rows are taken out, int64[k], rising.
    offset, row
        Single rows, of offsets that have others in another night, int64[m] each.
    """

    identity: Identity
    partition: int
    rows: int
    offsets: Int64
    offset: Int64
    row: Int64

    @property
    def region(self) -> tuple[int, int, int]:
        """(partition, first offset, one past the last)."""
        every = np.concatenate([self.offsets, self.offset])
        return self.partition, int(every.min()), int(every.max()) + 1

    def app(self, what: str) -> str:
        """The application id of one of its numbers."""
        return app_id(self.identity.processing_id, self.identity.topic_id, self.partition, what)


def withdraw(
    root: Path,
    night: str,
    model: str,
    why: str,
    version: str,
    now_ms: Callable[[], int],
    point: Callable[[int], None] = lambda step: None,
) -> Withdrawn:
    """Take the rows of `night` by `model` out of the catalogue at `root`. Run again, it finishes what was interrupted.

    Parameters
    ----------
    root
        Directory of the catalogue.
    night, model
        As in the columns of these names.
    why
        A person's reason; it stands in the ledger.
    version
        Of the software that does it.
    now_ms
        The clock: ms since 1970 UTC.
    point
        Called between the steps with a number that rises; tests make it kill or stop.

    Raises
    ------
    UserError
        There are no such rows.
    LeaseLost
        Another command works on this night: run it again, it finishes.
    TroubleError
        A table accepts no commit.
    """
    lease = take(root, night, model)  # step 1
    if not len(lease.files):
        raise UserError(f"{root} has no rows of the night {night} by the model {model}: there is nothing to withdraw.")
    point(1)
    parts = _parts(lease, version)
    rows = sum(part.rows for part in parts)
    told = {"night": night, "model": model, "why": why, "rows": rows}
    regions: dict[Identity, list[tuple[int, int, int]]] = {}
    for part in parts:
        regions.setdefault(part.identity, []).append(part.region)
    operations = {who: Operation(uuid.uuid4().hex, "withdraw", model, who, night) for who in regions}

    def note(state: Literal["begun", "done"]) -> None:
        for who, operation in operations.items():
            record(root, operation, state, regions[who], told, now_ms())

    note("begun")  # step 2
    point(2)
    epochs = _list(lease, parts, why, now_ms(), point)  # step 3
    point(5)
    lease.replace([], "withdraw", lambda ids: {app: e for app, e in epochs.items() if ids.get(app, 0) < e})  # step 4
    point(6)
    note("done")  # step 5
    left = pc.sum(live_files(DeltaTable(str(root / "rows")), night, model)["rows"]).as_py() or 0
    offsets = sum(len(part.offsets) + len(np.unique(part.offset)) for part in parts)
    return Withdrawn(rows, offsets, left)


# -- what is taken out -----------------------------------------------------------------------------------------------------


def _parts(lease: Lease, version: str) -> list[Part]:
    """The rows under the lease, by processing, topic and partition."""
    rows = dataset(lease.table, lease.root / "rows")
    of_model = pc.field("model") == lease.model
    columns = [*_WHOSE, "kafka_offset", "kafka_row"]
    mine = rows.to_table(columns=columns, filter=of_model & (pc.field("night") == lease.night))
    ends = pc.min_max(mine["kafka_offset"]).as_py()
    offset = pc.field("kafka_offset")
    near = of_model & (pc.field("night") != lease.night) & (offset >= ends["min"]) & (offset <= ends["max"])
    others = rows.to_table(columns=["processing_id", "topic_id", "kafka_partition", "kafka_offset"], filter=near)
    parts = []
    for whose in (
        mine.select(_WHOSE).group_by(_WHOSE).aggregate([]).sort_by([(n, "ascending") for n in _WHOSE]).to_pylist()
    ):
        here, there = _of(mine, whose), _of(others, whose)
        offset, row = here["kafka_offset"].to_numpy(), here["kafka_row"].to_numpy().astype(np.int64)
        single = np.isin(offset, there["kafka_offset"].to_numpy())
        who = Identity(whose["processing_id"], whose["cluster_id"], whose["topic"], whose["topic_id"], version)
        parts.append(
            Part(who, whose["kafka_partition"], len(here), np.unique(offset[~single]), offset[single], row[single])
        )
    return parts


def _of(table: pa.Table, whose: dict[str, Any]) -> pa.Table:
    """Rows of one partition."""
    keys = ("processing_id", "topic_id", "kafka_partition")
    return table.filter(
        pc.and_(pc.and_(*(pc.equal(table[k], whose[k]) for k in keys[:2])), pc.equal(table[keys[2]], whose[keys[2]]))
    )


# -- the ledger ------------------------------------------------------------------------------------------------------------


def _list(lease: Lease, parts: list[Part], why: str, now_ms: int, point: Callable[[int], None]) -> dict[str, int]:
    """Step 3; returns the epochs taken."""
    folder = lease.root / "exceptions"
    in_exceptions, in_rows = (
        AppIds(DeltaTable(str(folder)), folder),
        AppIds(DeltaTable(str(lease.root / "rows")), lease.root / "rows"),
    )
    app, error = lease_id(lease.night, lease.model), None
    epochs: dict[str, int] = {}
    before = in_exceptions.table.version()
    for _ in range(TRIES):
        in_exceptions.refresh()
        in_rows.refresh()
        held = in_exceptions.get(app) or 0
        if held == lease.number:  # landed, whatever the answer was
            sync_log(folder, before, in_exceptions.table.version())
            return epochs
        if held > lease.number:
            raise LeaseLost(f"Another command took over the night {lease.night} by {lease.model}; run this one again.")
        raised = [name for part in parts for name in _fillers(part, in_rows)]
        epochs = {name: max(in_exceptions.get(name) or 0, in_rows.get(name) or 0) + 1 for name in raised}
        entries = _entries(in_exceptions.table, folder, parts, why, now_ms)
        adds = [stage(folder, lease.name("withdraw"), entries, {}, REPEATED)] if len(entries) else []
        point(3)
        try:
            in_exceptions.table.create_write_transaction(
                adds,
                "append",
                in_exceptions.table.schema(),
                commit_properties=CommitProperties(
                    app_transactions=[
                        Transaction(name, number) for name, number in ({app: lease.number} | epochs).items()
                    ]
                ),
            )
        except (CommitFailedError, DeltaError, OSError) as failure:
            error = failure
            log.debug("entries not confirmed, looking again: %s", failure)
            time.sleep(0.01)
        point(4)
    raise TroubleError(f"{folder} accepts no commit after {TRIES} tries: {error}. Run it again when it does.")


def _fillers(part: Part, in_rows: AppIds) -> list[str]:
    """Epochs of whoever might yet write at the offsets of `part`."""
    _, _, end = part.region
    position = in_rows.get(part.app("offset"))
    return [part.app("replay-epoch"), *([part.app("epoch")] if position is None or position < end else [])]


def _entries(table: DeltaTable, folder: Path, parts: list[Part], why: str, now_ms: int) -> pa.Table:
    """What E has yet to list, in its schema."""
    known = dataset(table, folder).to_table(
        columns=["processing_id", "topic_id", "kafka_partition", "offset_start", "offset_end", "kafka_row"],
        filter=(pc.field("reason") == Reason.WITHDRAWN.name)
        & pc.field("processing_id").isin(sorted({part.identity.processing_id for part in parts})),
    )
    made = [EXCEPTIONS.empty_table()]
    for part in parts:
        who = part.identity
        held = _of(
            known, {"processing_id": who.processing_id, "topic_id": who.topic_id, "kafka_partition": part.partition}
        )
        settled = Settled()
        for start, end, row in zip(
            *(held[k].to_pylist() for k in ("offset_start", "offset_end", "kafka_row")), strict=True
        ):
            settled.add(start, end, row)
        runs = Settled()
        runs.add_offsets(part.offsets)
        left = [hole for start, end in runs.ranges for hole in settled.holes(start, end)]
        single = [
            (o, r) for o, r in zip(part.offset.tolist(), part.row.tolist(), strict=True) if (o, r) not in settled.rows
        ]
        n = len(left) + len(single)
        given = {
            "processing_id": who.processing_id,
            "cluster_id": who.cluster_id,
            "topic": who.topic,
            "topic_id": who.topic_id,
            "kafka_partition": part.partition,
            "offset_start": [start for start, _ in left] + [o for o, _ in single],
            "offset_end": [end for _, end in left] + [o + 1 for o, _ in single],
            "kafka_row": [REST] * len(left) + [r for _, r in single],
            "reason": Reason.WITHDRAWN.name,
            "text": f"withdrawn: {why}",
            "byte_position": -1,
            "payload": None,
            "payload_size": 0,
            "kafka_timestamp": None,
            "ingest_time": now_ms * 1000,
            "slipher_version": who.version,
        }
        made.append(pa.table([_column(given[f.name], f.type, n) for f in EXCEPTIONS], schema=EXCEPTIONS))
    return pa.concat_tables(made)


def _column(value: Any, kind: pa.DataType, n: int) -> pa.Array:
    return pa.array(value, kind) if isinstance(value, list) else pa.repeat(pa.scalar(value, kind), n)
