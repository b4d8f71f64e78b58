"""Sorting more rows than memory holds: cut into ranges of the key, spill each range to disk, sort range after range."""

import tempfile
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Batches = Callable[[], Iterable[pa.RecordBatch]]

_SAMPLE = 200_000  # keys that the cuts are chosen from
_COMPRESSION = pa.Codec("zstd", 1)  # a spilled night is then about as large as the night itself


def sorted_tables(
    batches: Batches, keys: Batches, rows: int, order: Sequence[str], bound: int, scratch: Path
) -> Iterator[pa.Table]:
    """All rows of `batches`, in ascending order of the columns `order`, as tables of some `bound` rows each.

    Rows of one value of the first column stand together. Where a single value has more than `bound` rows, these come in the
    order in which they were read.

    Parameters
    ----------
    batches
        Gives all rows; called once.
    keys
        Gives the first column of `order` of all rows; called where there are more rows than `bound`.
    rows
        How many there are.
    order
        Names of columns, the first one a string without nulls.
    bound
        Rows that are held in memory at once, about; twice that while they are sorted.
    scratch
        A directory for spilled ranges; what is put there is gone when the iterator ends or is closed.
    """
    if rows <= bound:
        table = pa.Table.from_batches(list(batches())) if rows else None
        if table is not None and len(table):
            yield table.combine_chunks().sort_by([(name, "ascending") for name in order])
        return
    cuts = _cuts(keys(), rows, order[0], bound) or _second(keys(), order[0])
    if not cuts:  # one value alone
        yield from _pieces(batches(), bound)
        return
    with tempfile.TemporaryDirectory(prefix="sort-", dir=scratch) as folder:
        counts = _spill(batches(), order[0], cuts, Path(folder))
        for path, count in counts.items():

            def again(path: Path = path, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
                return _read(path, columns)

            def first(path: Path = path) -> Iterator[pa.RecordBatch]:
                return _read(path, [order[0]])

            # A range is rarely much larger than it should be: then it is cut again. One that nothing cuts is one value.
            whole = bound if count > 2 * bound else count
            yield from sorted_tables(again, first, count, order, whole, Path(folder))
            path.unlink()


def _cuts(keys: Iterable[pa.RecordBatch], rows: int, name: str, bound: int) -> list[str]:
    """Values that part the rows into ranges of about `bound`: from a sample spread over all of them."""
    step = max(rows // _SAMPLE, 1)
    sample, at = [], 0
    for batch in keys:
        picked = np.arange(-at % step, len(batch), step)
        sample.append(batch[name].take(pa.array(picked)))
        at += len(batch)
    ranked = np.sort(np.array(pa.chunked_array(sample).to_pylist(), object))
    parts = -(-rows // bound)
    chosen = ranked[(np.arange(1, parts) * len(ranked)) // parts].tolist()
    return sorted({cut for cut in chosen if cut != ranked[0]})


def _second(keys: Iterable[pa.RecordBatch], name: str) -> list[str]:
    """The least value but one, where there is one: most rows are of one value, and a sample saw no other."""
    held: set[str] = set()
    for batch in keys:
        held = set(sorted(held | set(pc.unique(batch[name]).to_pylist()))[:2])
    return sorted(held)[1:]


def _spill(batches: Iterable[pa.RecordBatch], name: str, cuts: list[str], folder: Path) -> dict[Path, int]:
    """Put each row into the file of its range; files in the order of their ranges, with their numbers of rows."""
    paths = [folder / f"{k:06d}.arrow" for k in range(len(cuts) + 1)]
    counts = [0] * len(paths)
    options = pa.ipc.IpcWriteOptions(compression=_COMPRESSION)
    with ExitStack() as stack:
        writers: dict[int, pa.ipc.RecordBatchFileWriter] = {}
        for batch in batches:
            ranked = batch.take(pc.sort_indices(batch[name]))
            key = ranked[name]
            edges = [0, *(bisect_left(key, cut, key=lambda value: value.as_py()) for cut in cuts), len(ranked)]
            for k in range(len(paths)):
                if edges[k + 1] > edges[k]:
                    if k not in writers:
                        sink = stack.enter_context(pa.OSFile(str(paths[k]), "wb"))
                        writers[k] = stack.enter_context(pa.ipc.new_file(sink, batch.schema, options=options))
                    writers[k].write_batch(ranked.slice(edges[k], edges[k + 1] - edges[k]))
                    counts[k] += edges[k + 1] - edges[k]
    return {path: count for path, count in zip(paths, counts, strict=True) if count}


def _read(path: Path, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    with pa.OSFile(str(path), "rb") as source, pa.ipc.open_file(source) as file:
        for k in range(file.num_record_batches):
            batch = file.get_batch(k)
            yield batch if columns is None else batch.select(list(columns))


def _pieces(batches: Iterable[pa.RecordBatch], bound: int) -> Iterator[pa.Table]:
    held, rows = [], 0
    for batch in batches:
        held.append(batch)
        rows += len(batch)
        if rows >= bound:
            yield pa.Table.from_batches(held)
            held, rows = [], 0
    if held:
        yield pa.Table.from_batches(held)
