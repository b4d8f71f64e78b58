"""What exactly once costs: the sink's claims, fences and proofs, beside blind appends of the same rows that also fsync."""

import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from benchmarks.report import Result, compared
from consumers.worker import Output
from schemas.batch import Messages
from schemas.catalogue import ROW_PARTITIONS, ROWS
from streamer.run import now_ms
from streamer.sink.catalogue import ensure
from streamer.sink.delta import DeltaSink
from streamer.sink.entries import Identity
from streamer.sink.ledger import REPEATED
from streamer.sink.staging import fsync, stage


def run(root: Path, messages: Messages, output: Output, rounds: int) -> list[Result]:
    """Both in turn, a commit of the same rows each time, by the wall clock and in CPU.

    Parameters
    ----------
    root
        An empty folder.
    messages, output
        Of partition 0 from its beginning, and what a worker made of them.
    rounds
        How often; the first is not counted.
    """
    end = messages.ends[0]
    ensure(root / "once")
    who = Identity(*(output.rows[name][0].as_py() for name in (*Identity._fields[:-1], "slipher_version")))
    sink = DeltaSink(root / "once", who, now_ms)
    sink.claim([0], lambda partitions, known: dict.fromkeys(partitions, 0))
    blind = DeltaTable.create(str(root / "blind"), ROWS, partition_by=list(ROW_PARTITIONS))
    rates: dict[str, list[float]] = defaultdict(list)
    spent: dict[str, list[float]] = defaultdict(list)
    for k in range(rounds + 1):
        batch, rows = _moved(messages, output.rows, k * end)
        for name in ("slipher", "blind appends")[:: 1 if k % 2 else -1]:
            began, cpu = time.perf_counter(), time.process_time()
            if name == "slipher":
                _once(sink, batch, Output(rows, output.refusals))
            else:
                _blind(blind, root / "blind", rows)
            if k:
                rates[name].append(len(rows) / (time.perf_counter() - began))
                spent[name].append(1e6 * (time.process_time() - cpu) / len(rows))
    in_cpu = compared("exactly once: CPU", "us/object", spent)
    in_cpu.higher_is_better = False
    in_cpu.ratios = {who: 1 / ratio for who, ratio in in_cpu.ratios.items()}
    return [compared("exactly once: rows of a commit", "rows/s", rates), in_cpu]


def _moved(messages: Messages, rows: pa.Table, by: int) -> tuple[Messages, pa.Table]:
    """The same, `by` offsets later in the log."""
    at = rows.schema.get_field_index("kafka_offset")
    offset = pa.array(rows["kafka_offset"].to_numpy() + by)
    moved = messages._replace(offset=messages.offset + by, ends={0: messages.ends[0] + by}, starts={0: by})
    return moved, rows.set_column(at, rows.schema.field(at), offset)


def _once(sink: DeltaSink, messages: Messages, output: Output) -> None:
    sink.write(messages, output)
    durable, fenced = sink.commit()
    if fenced or durable != messages.ends:
        raise RuntimeError(f"a commit of the benchmark did not land: {durable}, fenced {fenced}")


def _blind(table: DeltaTable, root: Path, rows: pa.Table) -> None:
    """As ``write_deltalake(mode="append")``, with the writer and the fsyncs of the sink."""
    values = {name: rows[name][0].as_py() for name in ROW_PARTITIONS}
    name = f"part-{time.time_ns()}"
    for night in np.unique(rows["night"].to_numpy(zero_copy_only=False)):  # one, unless noon passes while it was drawn
        part = rows if night == values["night"] else rows.filter(pc.equal(rows["night"], night))
        add = stage(root, name, part.drop_columns(list(ROW_PARTITIONS)), {**values, "night": night}, REPEATED)
        table.create_write_transaction([add], "append", table.schema(), partition_by=list(ROW_PARTITIONS))
    table.update_incremental()
    fsync(root / "_delta_log" / f"{table.version():020d}.json")
    fsync(root / "_delta_log")
