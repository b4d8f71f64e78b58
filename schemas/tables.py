"""Reads a table into columns, whatever it is: Parquet, CSV, Feather (Arrow), HDF5 or FITS files, or a table in memory."""

from pathlib import Path
from typing import Any

import numpy as np

from schemas import stamp_columns, table_metadata
from schemas.batch import Stamps
from schemas.errors import UserError

GROUP = "photometry"  # the group in which DESC's HDF5 files keep their columns
_ASTROPY_META = "__table_column_meta__"  # a data set beside the table, about its columns


class Columns(dict[str, np.ndarray]):
    """Columns by name, each [n]; text is Python strings, nulls in numbers are NaN.

    Attributes
    ----------
    units
        Of those columns that say one, as the table writes it.
    stamps
        Of the galaxies, where the table has some and they were asked for; their columns are not among the others.
    about
        What the table says of itself: `schemas.table_metadata`.
    """

    def __init__(
        self,
        columns: dict[str, Any],
        units: dict[str, str] | None = None,
        stamps: Stamps | None = None,
        about: dict[str, str] | None = None,
    ) -> None:
        super().__init__(columns)
        self.units = units or {}
        self.stamps = stamps
        self.about = about or {}


def read(path: str | Path, *, stamps: bool = False) -> Columns:
    """The columns of the table at `path`; with `stamps`, also those of `schemas.stamp_columns`, in Parquet and Feather.

    In HDF5 the columns are the one-dimensional data sets (or the fields of a data set of records) of the root, or else of the
    group ``photometry``, or else of the only group. In FITS they are the scalar columns of the first table extension.

    Raises
    ------
    schemas.errors.UserError
        If the file is missing, of no format known here, cannot be read as its name says, or holds no rows.
    """
    file = Path(path)
    if not file.is_file():
        raise UserError(f"There is no table {file}.")
    suffix = (file.with_suffix("") if file.suffix.lower() == ".gz" else file).suffix.lower()
    if suffix not in _READERS:
        raise UserError(f"{file} is of no format known here: name it {', '.join(sorted(_READERS))}.")
    try:
        columns = _READERS[suffix](file, stamps) if suffix in _WITH_STAMPS else _READERS[suffix](file)
    except UserError:
        raise
    except Exception as error:  # each library has its own errors for a file that is not what its name says
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{file} cannot be read as {suffix[1:]}: {first_line}") from error
    return checked(columns, str(file))


def of(table: Any, name: str = "The table") -> Columns:
    """The columns of a table in memory; no library is imported for it that is not already there.

    Parameters
    ----------
    table
        A dict of arrays, a NumPy structured array, an astropy Table, or whatever gives an Arrow stream: a pandas, polars or
        DuckDB table, a pyarrow Table.
    name
        What errors call it.

    Raises
    ------
    schemas.errors.UserError
        If it is none of these, holds a single value for a column, or holds no rows.
    """
    if isinstance(table, dict):
        units = table.units if isinstance(table, Columns) else None
        about = table.about if isinstance(table, Columns) else None
        columns = Columns({str(key): np.asarray(value) for key, value in table.items()}, units, about=about)
        single = next((key for key, column in columns.items() if column.ndim == 0), None)
        if single is not None:
            raise UserError(
                f"{name}: column {single} is {columns[single].item()!r:.60}: want an array, of one value for one row."
            )
    elif isinstance(table, np.ndarray) and table.dtype.names:
        columns = Columns({key: np.ma.filled(_floating(table[key]), np.nan) for key in table.dtype.names})
    elif hasattr(table, "colnames"):
        columns = _astropy(table)
    elif hasattr(table, "__arrow_c_stream__"):
        try:
            columns = _from_arrow(_arrow(table, name))
        except ValueError as error:
            raise UserError(f"{name}: {error}.") from error
    else:
        raise UserError(
            f"{name} is a {type(table).__name__}: want a dict of arrays, a NumPy structured array, or a table of "
            "pandas, Arrow, polars or astropy."
        )
    flat = {key: _native(column) for key, column in columns.items() if column.ndim == 1}
    return checked(Columns(flat, columns.units, columns.stamps, columns.about), name)


def checked(columns: Columns, file: str) -> Columns:
    """`columns`, if they are a table with rows; `file` stands in the error."""
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


def _parquet(file: Path, stamps: bool) -> Columns:
    import pyarrow.parquet as pq

    there = pq.read_schema(file).names
    wanted = None if stamps else [name for name in there if name not in stamp_columns.NAMES]
    return _from_arrow(pq.read_table(file, columns=wanted))


def _csv(file: Path) -> Columns:
    from pyarrow import csv

    options = csv.ConvertOptions(
        null_values=["", "nan", "NaN", "NAN", "null", "NULL", "None", "NA", "N/A"], strings_can_be_null=True
    )
    return _from_arrow(csv.read_csv(file, convert_options=options))


def _feather(file: Path, stamps: bool) -> Columns:
    from pyarrow import feather

    whole = feather.read_table(file)
    return _from_arrow(whole if stamps else whole.drop_columns(_held(whole)))


def _held(table: Any) -> list[str]:
    return [name for name in stamp_columns.NAMES if name in table.column_names]


def _from_arrow(table: Any) -> Columns:
    if len(set(table.column_names)) < len(table.column_names):
        raise UserError("a column name stands there twice")
    about = table_metadata.of_schema(table.schema)
    table, stamps = stamp_columns.parted(table)
    units = {f.name: f.metadata[b"unit"].decode() for f in table.schema if f.metadata and b"unit" in f.metadata}
    return Columns({name: table.column(name).to_numpy() for name in table.column_names}, units, stamps, about)


def _arrow(table: Any, name: str) -> Any:
    import pyarrow as pa

    try:
        return table if isinstance(table, pa.Table) else pa.table(table)
    except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, ValueError) as error:
        raise UserError(f"{name} cannot be read through Arrow: {str(error).splitlines()[0]}") from error


def _hdf5(file: Path) -> Columns:
    try:
        import h5py
    except ImportError as error:
        raise UserError(f"{file} is HDF5, and h5py is not installed: pip install 'slipher[train]'.") from error

    def flat(group: Any) -> Columns:
        found: dict[str, np.ndarray] = {}
        for name, item in group.items():
            if isinstance(item, h5py.Dataset) and item.ndim == 1 and not name.endswith(_ASTROPY_META):
                held = item[()]  # a data set of records, as astropy and PyTables write, is a table itself
                found |= {field: held[field] for field in held.dtype.names} if held.dtype.names else {name: held}
        return Columns({name: _native(column) for name, column in found.items() if column.ndim == 1})

    with h5py.File(file, "r") as root:
        groups = [name for name, item in root.items() if isinstance(item, h5py.Group)]
        columns = flat(root)
        if not columns and GROUP in groups:
            columns = flat(root[GROUP])
        elif not columns and len(groups) == 1:
            columns = flat(root[groups[0]])
        return columns


def _fits(file: Path) -> Columns:
    try:
        from astropy.io import fits
    except ImportError as error:
        raise UserError(f"{file} is FITS, and astropy is not installed: pip install 'slipher[fits]'.") from error
    with fits.open(file, memmap=False) as extensions:
        found = next((hdu for hdu in extensions if isinstance(hdu, fits.BinTableHDU | fits.TableHDU)), None)
        if found is None:
            raise UserError(f"{file} holds no table: a binary table extension is wanted, it holds images or nothing.")
        columns, units = {}, {}
        for definition in found.columns:
            column = np.asarray(found.data[definition.name])
            if column.ndim == 1:
                if definition.null is not None and column.dtype.kind in "iu":
                    column = np.where(column == definition.null, np.nan, column)
                columns[definition.name] = _native(column)
                if definition.unit:
                    units[definition.name] = definition.unit
        return Columns(columns, units)


def _astropy(table: Any) -> Columns:
    """Columns of an astropy Table or QTable: masked values become NaN."""
    columns, units = {}, {}
    for name in table.colnames:
        column = table[name]
        if getattr(column, "unit", None) is not None:
            units[name] = str(column.unit)
        columns[name] = np.ma.filled(_floating(getattr(column, "value", column)), np.nan)
    return Columns(columns, units)


def _floating(column: Any) -> Any:
    """A masked column of numbers as floating point, so that NaN can stand for what is masked."""
    masked = np.ma.isMaskedArray(column)
    return column.astype(np.float64) if masked and column.dtype.kind in "iufb" else np.asarray(column)


def _native(column: np.ndarray) -> np.ndarray:
    """Numbers in this machine's byte order, text as Python strings."""
    if column.dtype.kind in "OS":
        return np.array([_text(value) for value in column], object)
    if column.dtype.kind == "U":
        return column.astype(object)
    return column if column.dtype.isnative else column.astype(column.dtype.newbyteorder("="))


def _text(value: Any) -> Any:
    return value.decode("utf-8", "replace").rstrip() if isinstance(value, bytes) else value


_READERS: dict[str, Any] = {
    ".parquet": _parquet,
    ".pq": _parquet,
    ".csv": _csv,
    ".feather": _feather,
    ".arrow": _feather,
    ".hdf5": _hdf5,
    ".h5": _hdf5,
    ".hdf": _hdf5,
    ".fits": _fits,
    ".fit": _fits,
}
_WITH_STAMPS = (".parquet", ".pq", ".feather", ".arrow")
