"""Reads a table from a file into columns, whatever the format: Parquet, CSV, Feather (Arrow), HDF5."""

from pathlib import Path
from typing import Any

import numpy as np

from schemas.errors import UserError

Columns = dict[str, np.ndarray]
GROUP = "photometry"  # the group in which DESC's HDF5 files keep their columns


def read(path: str | Path) -> Columns:
    """The columns of the table at `path`, by name; text columns hold Python strings, nulls in numbers are NaN.

    In HDF5 the columns are the one-dimensional data sets of the root, or else of the group ``photometry``, or else of the only
    group.

    Raises
    ------
    schemas.errors.UserError
        If the file is missing, of no format known here, cannot be read as its name says, or holds no rows.
    """
    file = Path(path)
    if not file.is_file():
        raise UserError(f"There is no table {file}.")
    suffix = file.suffix.lower()
    if suffix not in _READERS:
        raise UserError(f"{file} is of no format known here: name it {', '.join(sorted(_READERS))}.")
    try:
        columns: Columns = _READERS[suffix](file)
    except UserError:
        raise
    except Exception as error:  # each library has its own errors for a file that is not what its name says
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{file} cannot be read as {suffix[1:]}: {first_line}") from error
    if not columns:
        raise UserError(f"{file} holds no columns.")
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        shortest, longest = min(lengths, key=lengths.__getitem__), max(lengths, key=lengths.__getitem__)
        raise UserError(
            f"{file} is no table: column {shortest} has {lengths[shortest]} rows, column {longest} has {lengths[longest]}."
        )
    if not next(iter(lengths.values())):
        raise UserError(f"{file} is an empty table: it has columns and no rows.")
    return columns


def _parquet(file: Path) -> Columns:
    import pyarrow.parquet as pq

    return _from_arrow(pq.read_table(file))


def _csv(file: Path) -> Columns:
    from pyarrow import csv

    options = csv.ConvertOptions(
        null_values=["", "nan", "NaN", "NAN", "null", "NULL", "None", "NA", "N/A"], strings_can_be_null=True
    )
    return _from_arrow(csv.read_csv(file, convert_options=options))


def _feather(file: Path) -> Columns:
    from pyarrow import feather

    return _from_arrow(feather.read_table(file))


def _from_arrow(table: Any) -> Columns:
    if len(set(table.column_names)) < len(table.column_names):
        raise UserError("a column name stands there twice")
    return {name: table.column(name).to_numpy() for name in table.column_names}


def _hdf5(file: Path) -> Columns:
    try:
        import h5py
    except ImportError as error:
        raise UserError(f"{file} is HDF5, and h5py is not installed: pip install 'slipher[train]'.") from error

    def flat(group: Any) -> Columns:
        found = {name: item[()] for name, item in group.items() if isinstance(item, h5py.Dataset) and item.ndim == 1}
        return {
            name: np.array([_text(v) for v in c], object) if c.dtype.kind in "OS" else c for name, c in found.items()
        }

    with h5py.File(file, "r") as root:
        groups = [name for name, item in root.items() if isinstance(item, h5py.Group)]
        columns = flat(root)
        if not columns and GROUP in groups:
            columns = flat(root[GROUP])
        elif not columns and len(groups) == 1:
            columns = flat(root[groups[0]])
        return columns


def _text(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


_READERS = {
    ".parquet": _parquet,
    ".pq": _parquet,
    ".csv": _csv,
    ".feather": _feather,
    ".arrow": _feather,
    ".hdf5": _hdf5,
    ".h5": _hdf5,
    ".hdf": _hdf5,
}
