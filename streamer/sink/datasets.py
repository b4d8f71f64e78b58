"""A Delta table as an Arrow dataset."""

from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pyarrow.fs
from deltalake import DeltaTable

from streamer.sink.store import is_local


def dataset(table: DeltaTable, folder: Path, **options: Any) -> ds.Dataset:
    """The files of `table` at `folder`, read by Arrow's own file system where they are on a disk.

    The other way is Delta's file system, whose every read takes Python's lock: Arrow reads ahead in threads of its own, and
    where nobody waits for them any more and the process ends, they hang it or abort it (measured: six of six processes that
    left a scan after its first batch). For an object store there is no other way.

    Parameters
    ----------
    table, folder
        The table, and where it stands.
    options
        Further ones of ``DeltaTable.to_pyarrow_dataset``.
    """
    disk = None
    if is_local(folder):
        disk = pyarrow.fs.SubTreeFileSystem(str(folder.absolute()), pyarrow.fs.LocalFileSystem())
    return table.to_pyarrow_dataset(filesystem=disk, **options)
