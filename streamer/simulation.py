"""Writes a simulated sky to a file, piece by piece, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.errors import UserError

if TYPE_CHECKING:
    from models.sky.surveys import SkySurvey

SUFFIXES = (".parquet", ".arrow", ".feather")
ROWS = 1024  # of a row group: stamps of 5 x 32 x 32 with their variance are 42 MB


def check_place(out: Path) -> None:
    """Refuse, before any galaxy is made, a place where no table can be written.

    Raises
    ------
    schemas.errors.UserError
        If the directory does not exist, or the name says another format than Parquet or Arrow.
    """
    if out.suffix.lower() not in SUFFIXES:
        raise UserError(f"A sky is written as Parquet or Arrow: call it {out.with_suffix('.parquet')}, not {out}.")
    if not out.parent.is_dir():
        raise UserError(f"There is no directory {out.parent} to write {out.name} to.")


def write_sky(
    out: Path,
    survey: SkySurvey,
    n: int,
    seed: int = 1,
    size: int | None = None,
    threads: int | None = None,
    progress: Callable[[int], None] = lambda _done: None,
) -> None:
    """Simulate `n` galaxies and write them: Parquet, or Arrow's file format (Feather) by the name's suffix.

    Parameters
    ----------
    out
        The file, replaced when the new one is whole; after Ctrl-C nothing of it is left.
    survey, n, seed, size, threads
        As `models.sky.simulate.simulate` has them.
    progress
        Called with the galaxies written so far.

    Raises
    ------
    schemas.errors.UserError
        As `check_place`; if the packages with spectra and filters are missing; if the file cannot be written.
    """
    import pyarrow as pa

    from models.sky.table import batches, schema

    check_place(out)
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    columns = schema(survey, survey.size if size is None else size, n, seed)
    done = 0
    try:
        with _writer(part, columns) as writer:
            waiting: list[pa.RecordBatch] = []
            for batch in batches(survey, n, seed, size, threads):
                waiting.append(batch)
                done += len(batch)
                if sum(map(len, waiting)) >= ROWS or done == n:
                    writer.write_table(pa.Table.from_batches(waiting))
                    waiting = []
                progress(done)
        os.replace(part, out)
    except OSError as error:
        raise UserError(f"The sky cannot be written to {out}: {error.strerror or error}.") from error
    finally:
        part.unlink(missing_ok=True)


def _writer(path: Path, columns: Any) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from schemas.stamp_columns import PIXELS, VARIANCE

    if not path.name.split(f".{os.getpid()}.")[0].lower().endswith(".parquet"):
        return pa.ipc.new_file(str(path), columns)
    plain = (PIXELS, VARIANCE)  # noise does not compress
    codecs = {name: "NONE" if name in plain else "ZSTD" for name in columns.names}
    return pq.ParquetWriter(path, columns, compression=codecs, use_dictionary=False, write_statistics=False)
