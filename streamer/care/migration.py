"""Migration: tables of an older version gain what this one has, under live writers."""

from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from schemas.catalogue import TABLES
from streamer.sink.catalogue import ensure


def migrate(root: Path, dry_run: bool = False) -> dict[str, list[str]]:
    """Add to the tables of the catalogue at `root` the columns that they lack, null in the rows there are.

    Workers that write meanwhile look again and write on. Old files hold none of these columns: until a night is compacted
    pyarrow's datasets answer ``is_null`` of them wrongly (as if the rows were not there), SQL rightly.

    Returns
    -------
    added
        Names of columns, by table; of a table that is new, all of them.

    Raises
    ------
    UserError
        A table is not one of ours, or cannot be written.
    """
    lacking = {name: [f for f in schema.names if f not in _columns(root / name)] for name, schema in TABLES.items()}
    if not dry_run:
        ensure(root)
    return {name: columns for name, columns in lacking.items() if columns}


def _columns(folder: Path) -> list[str]:
    try:
        return pa.schema(DeltaTable(str(folder)).schema().to_arrow()).names
    except TableNotFoundError:
        return []
