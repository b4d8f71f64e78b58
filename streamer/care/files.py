"""Do the files hold what the log says? Sizes and row counts at little cost; every page, where a person wants to know."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

_CUT = pa.scalar(1_000, pa.duration("us"))  # times in the log's statistics are cut to milliseconds


class FilesReport(NamedTuple):
    """What a check of all files found.

    Attributes
    ----------
    wrong
        Sentences, one per file that is not what the log says; each begins with the file's path.
    files, rows, bytes
        How much the log names.
    """

    wrong: list[str]
    files: int
    rows: int
    bytes: int

    @property
    def ok(self) -> bool:
        """All files are what the log says."""
        return not self.wrong

    def lines(self) -> list[str]:
        """The report in sentences; the last is the verdict."""
        head = f"{self.files:,} files, {self.bytes / 1e6:,.1f} MB: {self.rows:,} rows by the log."
        verdict = (
            "Every file is what the log says." if self.ok else f"{len(self.wrong)} files are not what the log says."
        )
        return [head, *self.wrong[:50], verdict]


def verify_files(root: Path, checksums: bool = False, on_bytes: Callable[[int], None] = lambda n: None) -> FilesReport:
    """Check every file that the logs of the catalogue at `root` name.

    Parameters
    ----------
    root
        The catalogue's directory.
    checksums
        Read all pages too: their checksums, where they have them, must hold, they must decode, and no value may lie outside
        of the statistics that readers skip files by.
    on_bytes
        Told of bytes of files that were checked.
    """
    wrong: list[str] = []
    files = rows = size = 0
    for folder in sorted(path.parent for path in root.glob("*/_delta_log")):
        try:
            actions = pa.table(DeltaTable(str(folder)).get_add_actions(flatten=True))
        except (DeltaError, OSError) as error:
            wrong.append(f"{folder.name}: its log cannot be read: {error}")
            continue
        for action in actions.to_pylist():
            files, rows, size = files + 1, rows + (action["num_records"] or 0), size + action["size_bytes"]
            text = _wrong(folder / action["path"], action, checksums)
            if text:
                wrong.append(f"{folder.name}/{action['path']}: {text}")
            on_bytes(action["size_bytes"])
    return FilesReport(wrong, files, rows, size)


def _wrong(path: Path, action: dict[str, Any], checksums: bool) -> str | None:
    """What is wrong with a file, in words; None if nothing is."""
    try:
        size = path.stat().st_size
    except OSError as error:
        return f"cannot be opened ({error.strerror or error})"
    if size != action["size_bytes"]:
        return f"has {size:,} bytes, the log says {action['size_bytes']:,}"
    try:
        with path.open("rb") as opened, pq.ParquetFile(opened, page_checksum_verification=True) as file:
            held = file.metadata.num_rows
            if action["num_records"] is not None and held != action["num_records"]:
                return f"has {held:,} rows, the log says {action['num_records']:,}"
            return _damaged(file, action) if checksums else None
    except (pa.ArrowException, OSError) as error:
        return f"cannot be read: {str(error).splitlines()[0]}"


def _damaged(file: pq.ParquetFile, action: dict[str, Any]) -> str | None:
    """Reads all of it, a row group at a time."""
    for group in range(file.metadata.num_row_groups):
        for batch in file.iter_batches(batch_size=8_192, row_groups=[group]):
            for name, column in zip(batch.schema.names, batch.columns, strict=True):
                outside = _outside(column, action.get(f"min.{name}"), action.get(f"max.{name}"))
                if outside:
                    return f"row group {group}: {outside} in {name} is outside of the log's statistics"
    return None


def _outside(column: pa.Array, low: Any, high: Any) -> str | None:
    if low is None or high is None or column.null_count == len(column):
        return None
    if pa.types.is_floating(column.type):
        column = column.filter(pc.is_finite(column))
        if not len(column):
            return None
    ends = pc.min_max(column)
    first, last = ends["min"].as_py(), ends["max"].as_py()
    if pa.types.is_timestamp(column.type):
        high = high + _CUT.as_py()
    if first < low:
        return str(first)
    return str(last) if last > high else None
