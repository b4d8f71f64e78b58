"""Photometry tables at rest: each row a native message, as ``slipher publish`` would send it."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from schemas import photometry_table, table_alerts, tables
from schemas.bands import BandSet
from schemas.batch import Reason
from schemas.errors import TroubleError, UserError
from schemas.writing import avro_encode
from streamer.backfill.at_rest import Fault, FileAtRest, Item, Items, Stretch

CHUNK_ROWS = 20_000  # read, checked and encoded together; a row's fate may depend on its chunk, so this never changes
STRETCH_ROWS = 1 << 20  # of a large Parquet file: a shard
MJD, ALERT_ID = "mjd", "alert_id"


def cut(file: FileAtRest) -> list[Stretch]:
    """A table is one stretch of all its rows; one that cannot be read is one message."""
    try:
        return [Stretch(0, len(file), _length(tables.read(file.path)))]
    except UserError as error:
        _reraise(error)
        return [Stretch(0, len(file), 1)]


def cut_parquet(file: FileAtRest) -> list[Stretch]:
    """Stretches of whole row groups, each of about ``STRETCH_ROWS``."""
    try:
        groups = pq.ParquetFile(file.file).metadata
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        return [Stretch(0, 0, 1)]
    stretches: list[Stretch] = []
    begin = rows = 0
    for k in range(groups.num_row_groups):
        rows += groups.row_group(k).num_rows
        if rows >= STRETCH_ROWS or k == groups.num_row_groups - 1:
            stretches.append(Stretch(begin, k + 1, rows))
            begin, rows = k + 1, 0
    return stretches or [Stretch(0, 0, 0)]


def items(file: FileAtRest, begin: int, end: int, skip: int, bands: BandSet) -> Items:
    """The rows of a table that is read whole, but for the first `skip`."""
    n = 1
    try:
        columns = tables.read(file.path, stamps=True)
        n = _length(columns)
        table = photometry_table.find(columns, bands, file.path.name)
    except UserError as error:
        _reraise(error)
        yield from [_fault(error)] * (n - skip)
        return
    for first in range(skip, len(table), CHUNK_ROWS):
        rows = np.arange(first, min(first + CHUNK_ROWS, len(table)))
        yield from _encoded(table.take(rows), _some(columns, rows), bands)


def parquet_items(file: FileAtRest, begin: int, end: int, skip: int, record: int, bands: BandSet) -> Items:
    """The rows of the row groups `begin` to `end`, but for the first `skip`; `record` is the number of the first row."""
    for n, columns in _chunks(file, begin, end):
        if n <= skip:
            skip -= n
            yield None
        else:
            yield from _chunk(columns, n, record, file.path.name, bands)[skip:]
            skip = 0
        record += n


def _chunks(file: FileAtRest, begin: int, end: int) -> Iterator[tuple[int, tables.Columns | Fault]]:
    """Pieces of row groups, always cut at the same rows: (rows, columns or why they cannot be read)."""
    try:
        parquet = pq.ParquetFile(file.file)
    except (pa.ArrowException, OSError) as error:
        yield 1, Fault(Reason.CORRUPT, f"it cannot be read as parquet: {_first_line(error)}")
        return
    for group in range(begin, end):
        left = parquet.metadata.row_group(group).num_rows
        try:
            for batch in parquet.iter_batches(CHUNK_ROWS, row_groups=[group]):
                whole = pa.Table.from_batches([batch])
                left -= batch.num_rows
                yield batch.num_rows, tables.of(whole)
        except UserError as error:
            yield left + batch.num_rows, Fault(Reason.LACKS_FIELD, str(error))
        except (pa.ArrowException, OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            yield left, Fault(Reason.CORRUPT, f"row group {group} cannot be read: {_first_line(error)}")


def _chunk(columns: tables.Columns | Fault, n: int, record: int, name: str, bands: BandSet) -> list[Item]:
    if isinstance(columns, Fault):
        return [Item(None, columns)] * n
    if not any(column.lower() in {name.lower() for name in photometry_table.OBJECT_ID} for column in columns):
        columns["object_id"] = np.arange(record, record + n).astype(str).astype(object)
    try:
        table = photometry_table.find(columns, bands, name)
    except UserError as error:
        return [_fault(error)] * n
    return _encoded(table, columns, bands)


def _encoded(table: photometry_table.PhotometryTable, columns: tables.Columns, bands: BandSet) -> list[Item]:
    """Messages of the rows of `table`, with the event times and alert ids that `columns` may have."""
    n = len(table)
    mjd = columns.get(MJD)
    times = np.full(n, np.nan) if mjd is None or mjd.dtype.kind not in "iuf" else mjd.astype(np.float64)
    named = columns.get(ALERT_ID)
    names = [""] * n if named is None else ["" if value is None else str(value) for value in named]
    galaxies = replace(table_alerts.galaxies(table, bands, times), alert_id=pa.array(names, pa.string()))
    return [Item(payload) for payload in avro_encode("native", bands.survey)(galaxies, 0)]


def _some(columns: tables.Columns, rows: np.ndarray) -> tables.Columns:
    return tables.Columns({name: columns[name][rows] for name in (MJD, ALERT_ID) if name in columns})


def _length(columns: tables.Columns) -> int:
    return len(next(iter(columns.values())))


def _fault(error: UserError) -> Item:
    return Item(None, Fault(Reason.LACKS_FIELD, str(error)))


def _reraise(error: UserError) -> None:
    """A disk that is away, or memory that is short, is not the table's fault."""
    cause = error.__cause__
    if isinstance(cause, MemoryError | ImportError) or (isinstance(cause, OSError) and cause.errno is not None):
        raise TroubleError(str(error)) if not isinstance(cause, ImportError) else error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
