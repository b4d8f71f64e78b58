"""A catalogue, or a part of it, as one file that other tools open: Parquet, CSV, or the three files that qp reads."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from schemas.batch import Float64
from schemas.catalogue import ROWS
from schemas.errors import UserError
from streamer.catalogue import Catalogue

FORMATS = ("parquet", "csv", "qp")
_GROUP = 50_000  # rows of a Parquet row group: 60 MB of PDFs on 301 points
_PDFS = ("pdf", "pdf_u8")

Grids = dict[str, Float64]  # redshifts of the points of PDFs, by the name in the column model


class Exported(NamedTuple):
    """What was written."""

    rows: int
    without_pdf: int  # rows left out of a qp ensemble, since they have no PDF
    paths: list[Path]


def format_of(out: Path) -> str:
    """The format that a file's name asks for."""
    return {".csv": "csv", ".pq": "qp"}.get(out.suffix, "parquet")


def export(
    catalogue: Catalogue,
    out: Path,
    form: str,
    night: str | None = None,
    model: str | None = None,
    columns: Sequence[str] | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write rows to `out`. Files appear under their names only when they are whole.

    Parameters
    ----------
    catalogue
        Where the rows are.
    out
        File to write. For qp, ``X.pq`` stands for ``Xmeta.pq``, ``Xdata.pq`` and ``Xancil.pq``.
    form
        One of FORMATS.
    night, model
        Only these rows.
    columns
        Only these columns; None is all that the format can hold, and PDFs of either form as ``pdf``.
    overwrite
        Replace files of the same name.

    Raises
    ------
    UserError
        For an unknown format or column, lists in CSV, several grids in one qp ensemble, no rows, or a file that exists.
    """
    if form not in FORMATS:
        raise UserError(f"There is no format {form}: there are {', '.join(FORMATS)}.")
    every = [n for n in catalogue.schema_of(model).names if n not in _PDFS or (n == "pdf" and form == "parquet")]
    names = list(columns) if columns is not None else every
    lists = [name for name in names if name in _PDFS]
    if form == "csv" and lists:
        raise UserError(f"CSV has no place for PDFs: leave the column {lists[0]} out, or export Parquet.")
    paths = _qp_paths(out) if form == "qp" else [out]
    present = [path for path in paths if path.exists()]
    if present and not overwrite:
        raise UserError(f"{', '.join(map(str, present))} exists already: choose another name, or give --force.")
    if not out.parent.is_dir():
        raise UserError(f"There is no directory {out.parent} to write {out.name} into.")
    grids = catalogue.grids_of(night, model)
    if not grids:
        raise UserError(
            f"{catalogue.root} has no rows of {' and '.join(w for w in (night, model) if w) or 'any night'}."
        )
    write = {"parquet": _parquet, "csv": _csv, "qp": _qp}[form]
    made = [path.with_name(f".{path.name}.{os.getpid()}.part") for path in paths]
    try:
        rows, without = write(catalogue, made, names, night, model, grids)
        for part, path in zip(made, paths, strict=True):
            part.replace(path)
    finally:
        for part in made:
            part.unlink(missing_ok=True)
    return Exported(rows, without, paths)


def _parquet(
    catalogue: Catalogue, made: list[Path], names: list[str], night: str | None, model: str | None, grids: Grids
) -> tuple[int, int]:
    told = json.dumps({name: grid.tolist() for name, grid in grids.items()})
    about = {"slipher.z_grids": told} if set(names) & set(_PDFS) else {}
    reader = catalogue.scan(names, night, model)  # which says if there is no such column
    schema = pa.schema([catalogue.schema_of(model).field(name) for name in names], metadata=about)
    return _write_parquet(made[0], schema, reader), 0


def _csv(
    catalogue: Catalogue, made: list[Path], names: list[str], night: str | None, model: str | None, grids: Grids
) -> tuple[int, int]:
    rows = 0
    reader = catalogue.scan(names, night, model)
    with pyarrow.csv.CSVWriter(made[0], reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)
            rows += len(batch)
    return rows, 0


def _qp(
    catalogue: Catalogue, made: list[Path], names: list[str], night: str | None, model: str | None, grids: Grids
) -> tuple[int, int]:
    """An ensemble of qp's ``interp``: one grid, n PDFs, and n rows of everything else."""
    grid = next(iter(grids.values()))
    if any(not np.array_equal(grid, other) for other in grids.values()):
        raise UserError(
            f"A qp ensemble has one redshift grid, these models have several: give --model ({', '.join(grids)})."
        )
    ancillary_names = list(
        dict.fromkeys(["object_id", *(name for name in names if name not in _PDFS)])
    )  # a PDF needs a name
    beside = [catalogue.schema_of(model).field(name) for name in ancillary_names]
    meta = pa.table({"pdf_name": ["interp"], "pdf_version": pa.array([0], pa.int64()), "xvals": [grid.tolist()]})
    pq.write_table(meta, made[0])
    counted = [0, 0]
    ancillary = pq.ParquetWriter(made[2], pa.schema(beside), compression="zstd")

    def with_pdf() -> Iterator[pa.RecordBatch]:
        for batch in catalogue.scan([*(f.name for f in beside), "pdf"], night, model):
            held = batch.filter(pc.is_valid(batch["pdf"]))
            counted[0] += len(held)
            counted[1] += len(batch) - len(held)
            ancillary.write_table(
                pa.Table.from_batches([held.select([f.name for f in beside])]).cast(pa.schema(beside))
            )
            yield pa.record_batch([held["pdf"]], names=["yvals"])

    data = pa.schema([pa.field("yvals", ROWS.field("pdf").type)])
    with ancillary:
        _write_parquet(made[1], data, with_pdf())
    if not counted[0]:
        raise UserError("None of these rows has a PDF: there is no ensemble to write.")
    return counted[0], counted[1]


def _write_parquet(path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch] | pa.RecordBatchReader) -> int:
    """Write `batches` in row groups of some _GROUP rows; PDFs encoded as in the catalogue."""
    plain = [field for field in schema if not pa.types.is_nested(field.type)]
    repeated = [
        field.name for field in plain if pa.types.is_string(field.type) and field.name not in ("object_id", "alert_id")
    ]
    encodings = {f"{field.name}.list.element": "BYTE_STREAM_SPLIT" for field in schema if pa.types.is_list(field.type)}
    encodings |= {field.name: "DELTA_LENGTH_BYTE_ARRAY" for field in schema if pa.types.is_binary(field.type)}
    rows = 0
    with pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        compression_level=3,
        use_dictionary=repeated or False,
        column_encoding=encodings or None,
    ) as writer:
        held: list[pa.RecordBatch] = []
        for batch in batches:
            held.append(batch)
            rows += len(batch)
            if sum(map(len, held)) >= _GROUP:
                writer.write_table(pa.Table.from_batches(held).cast(schema))
                held = []
        if held:
            writer.write_table(pa.Table.from_batches(held).cast(schema))
    return rows


def _qp_paths(out: Path) -> list[Path]:
    stem = out.name.removesuffix(".pq")
    return [out.with_name(f"{stem}{part}.pq") for part in ("meta", "data", "ancil")]
