"""A Delta table as Arrow: a dataset to scan, or all of it.

Where files are on a disk, Arrow's own file system reads them. The other way is Delta's file system, through which every buffer of
a scan is a Python object: Arrow lets go of it in threads of its own, also after the last batch was taken, and where the process
ends in that moment they hang it or abort it (measured: six of six processes that left a scan after its first batch; one of
twelve that read small tables whole). For an object store there is no other way; commands
leave without taking the interpreter down (`streamer.cli.main.leave`), other programs that read one should end by ``os._exit``.
"""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs
from deltalake import DeltaTable

from streamer.sink.store import is_local


def dataset(table: DeltaTable, folder: Path, **options: Any) -> ds.Dataset:
    """The files of `table`, which stands at `folder`, to be scanned.

    Parameters
    ----------
    table, folder
        The table, and where it stands.
    options
        Further ones of ``DeltaTable.to_pyarrow_dataset``.
    """
    return table.to_pyarrow_dataset(filesystem=_disk(folder), **options)


def whole(table: DeltaTable, folder: Path, **options: Any) -> pa.Table:
    """What `table` holds, at once.

    Parameters
    ----------
    table, folder
        The table, and where it stands.
    options
        ``columns`` and ``filters``, as of ``DeltaTable.to_pyarrow_table``.
    """
    return table.to_pyarrow_table(filesystem=_disk(folder), **options)


def _disk(folder: Path) -> pyarrow.fs.FileSystem | None:
    if not is_local(folder):
        return None
    return pyarrow.fs.SubTreeFileSystem(str(folder.absolute()), pyarrow.fs.LocalFileSystem())
