"""Tonight in numbers: how many rows, how the redshifts are spread beside the training set, how the PDFs are calibrated.

A night may have ten million rows, and a person looks at it every few seconds. So a file is read once, and of it a bounded
number of rows; what was counted is kept by file; and no refresh reads for longer than its budget: the newest files first, the
rest at the next refresh. Each answer says of how many rows it is made.
"""

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from consumers.pdf_column import plain_column
from models.grid import trapezoid
from schemas.batch import Float32, Float64
from schemas.catalogue import ROWS
from schemas.flags import DESCRIPTIONS, Flag
from streamer.catalogue import Catalogue
from streamer.night_data import Truth, pit_values

BUDGET = 0.3  # seconds of a refresh: a few per cent of a core at one each ten
POINTS_A_FILE = 20_000  # rows of a file whose points are counted
PDFS_A_FILE = 1_000  # rows of a file whose PDFs are added up
MOST_FILES = 400  # of a night and model: 8 million points and 400,000 PDFs are a distribution
NEWEST = 12  # rows of the newest file that are shown
BINS = 60  # of a redshift distribution, over the model's grid
PIT_BINS, LEAST_PIT = 20, 50  # fewer true redshifts than these say nothing

_log = logging.getLogger(__name__)

_POINTS = ("z_median", "z_lo68", "z_hi68", "flags")
SHOWN = tuple(name for name in ROWS.names if name not in ("_healpix_29", "z_mean", "z_best_risk", "pdf_u8"))


class _File(NamedTuple):
    """What one file says: counts of some of its rows, and the sum of some PDFs."""

    rows: int
    points: int
    medians: Float64  # counts in BINS over the grid
    widths: Float64  # counts of half the 68 % interval / (1 + z), in WIDTH_BINS
    flags: npt.NDArray[np.int64]  # rows with each flag, by bit
    pdfs: int
    stacked: Float64  # sum of PDFs on the grid
    pit: Float64  # counts in PIT_BINS
    first: pa.Table  # some of its rows, newest first


WIDTH_BINS = np.linspace(0.0, 0.3, 31)


class Night:
    """The newest night of a catalogue, followed. One thread at a time.

    Parameters
    ----------
    catalogue
        Ours alone: it is refreshed.
    truth
        True redshifts: columns object_id and z; None where there are none.
    budget
        Seconds that a refresh may read.
    clock
        Seconds, rising.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        truth: pa.Table | None = None,
        budget: float = BUDGET,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._catalogue, self._budget, self._clock = catalogue, budget, clock
        self._truth, self._has_truth = Truth(truth), truth is not None
        self._known: dict[str, _File] = {}
        self.unread = 0  # files that the next refreshes will read

    def refresh(self) -> dict[str, Any] | None:
        """Tonight as the page shows it, JSON values only; None where the catalogue has no rows."""
        files = self._catalogue.files()
        held = files.filter(pc.greater(files["rows"], 0))
        if not len(held):
            return None
        night = pc.max(held["night"]).as_py()
        held = held.filter(pc.equal(held["night"], night)).sort_by([("newest", "descending")])
        models = {row["model"]: row for row in self._catalogue.models().to_pylist()}
        until = self._clock() + self._budget
        wanted: dict[str, tuple[str, Float64]] = {}
        for model in pc.unique(held["model"]).to_pylist():
            if model in models:
                paths = held.filter(pc.equal(held["model"], model))["path"].to_pylist()[:MOST_FILES]
                wanted |= {path: (model, np.asarray(models[model]["z_grid"])) for path in paths}
        self._known = {path: known for path, known in self._known.items() if path in wanted}
        unread = [path for path in held["path"].to_pylist() if path in wanted and path not in self._known]
        for number, path in enumerate(unread):  # newest first, of all models; one at least: a slow disk gets there too
            if number and self._clock() >= until:
                break
            try:
                self._known[path] = self._read(path, night, *wanted[path])
            except FileNotFoundError:  # a compaction took its place, and a vacuum took it
                _log.info("%s is gone", path)
        self.unread = sum(path not in self._known for path in unread)
        parts = []
        for model in sorted({model for model, _ in wanted.values()}):
            mine = held.filter(pc.equal(held["model"], model))
            parts.append(self._part(models[model], mine, [p for p, (m, _) in wanted.items() if m == model]))
        return {"night": night, "truth": self._has_truth, "models": parts}

    def newest(self) -> list[dict[str, Any]]:
        """Rows of the newest file that was read, newest first, as ``shown`` makes them."""
        tables = [known.first for known in self._known.values()]
        if not tables:
            return []
        rows = pa.concat_tables(tables).sort_by([("ingest_time", "descending")]).slice(0, NEWEST)
        return shown(rows, self._catalogue.models())

    def _read(self, path: str, night: str, model: str, grid: Float64) -> _File:
        with (self._catalogue.root / "rows" / Path(path)).open("rb") as opened:
            file = pq.ParquetFile(opened)
            there = [name for name in (*SHOWN, "pdf_u8") if name in file.schema_arrow.names]
            points = next(file.iter_batches(POINTS_A_FILE, columns=list(_POINTS)))
            some = next(file.iter_batches(PDFS_A_FILE, columns=there))
        z, low, high = (_float(points[name]) for name in ("z_median", "z_lo68", "z_hi68"))
        flags = points["flags"].to_numpy(zero_copy_only=False)
        pdf = some["pdf"]
        if "pdf_u8" in there:
            names = pa.array([model] * len(some))
            pdf = plain_column(pdf, some["pdf_u8"], names, {model: grid})
        has = pdf.is_valid().to_numpy(zero_copy_only=False)
        densities: Float32 = pdf.drop_null().flatten().to_numpy().reshape(-1, len(grid))
        true = self._truth.of(some["object_id"])[has]
        pit = pit_values(densities, grid, true)
        rows = pa.table({name: _column(some, name, pdf, night, model) for name in SHOWN})
        return _File(
            rows=file.metadata.num_rows,
            points=len(points),
            medians=np.histogram(z[np.isfinite(z)], BINS, (0, grid[-1]))[0].astype(np.float64),
            widths=np.histogram((high - low) / 2 / (1 + z), WIDTH_BINS)[0].astype(np.float64),
            flags=np.array([np.count_nonzero(flags & flag) for flag in Flag]),
            pdfs=len(densities),
            stacked=densities.sum(axis=0, dtype=np.float64),
            pit=np.histogram(pit[np.isfinite(pit)], PIT_BINS, (0, 1))[0].astype(np.float64),
            first=rows.sort_by([("ingest_time", "descending")]).slice(0, NEWEST),
        )

    def _part(self, model: dict[str, Any], files: pa.Table, paths: list[str]) -> dict[str, Any]:
        """One model's night."""
        read = [self._known[path] for path in paths if path in self._known]
        grid = np.asarray(model["z_grid"])
        card = json.loads(model["card"])
        training = (card.get("training") or {}).get("n_z")
        newest = pc.max(files["newest"]).as_py()
        out: dict[str, Any] = {
            "model": model["model"],
            "processing_id": model["processing_id"],
            "rows": pc.sum(files["rows"]).as_py(),
            "bytes": pc.sum(files["bytes"]).as_py(),
            "newest": newest.timestamp() if newest else None,
            "points": int(sum(f.points for f in read)),
            "z_max": float(grid[-1]),
            "medians": _density(sum(f.medians * (f.rows / f.points) for f in read), grid[-1]),
            "training": None if training is None else _density(np.array(training), grid[-1]),
            "stacked": None,
            "pdfs": int(sum(f.pdfs for f in read)),
            "pit": None,
            "widths": _numbers(sum(f.widths for f in read)),
            "flags": _flags(read),
        }
        if out["pdfs"]:
            mean = sum(f.stacked * (f.rows / f.pdfs) for f in read if f.pdfs)  # a file counts by its rows
            out["stacked"] = _numbers(mean / (mean @ trapezoid(grid)))
            pit = np.asarray(sum(f.pit for f in read))
            if pit.sum() >= LEAST_PIT:
                out["pit"] = {"n": int(pit.sum()), "density": _numbers(pit * PIT_BINS / pit.sum())}
        return out


def models_shown(models: pa.Table) -> list[dict[str, Any]]:
    """The models table as the page shows it, newest first, JSON values only."""
    out = []
    for row in reversed(models.to_pylist()):
        card = json.loads(row["card"])
        training, held_out = card.get("training") or {}, card.get("held_out") or {}
        out.append(
            {
                name: row[name]
                for name in ("model", "kind", "survey", "bands", "processing_id", "bundle_sha256", "decoder")
            }
            | {
                "registered": row["registered"].timestamp(),
                "galaxies": training.get("n"),
                "held_out": {k: held_out[k] for k in ("sigma_iqr", "outliers_15", "crps", "pit_ks") if k in held_out},
            }
        )
    return out


def shown(rows: pa.Table, models: pa.Table) -> list[dict[str, Any]]:
    """Rows as the page draws them: times in seconds, flags in words, bands by name, PDFs to four figures."""
    known = {row["processing_id"]: row for row in models.to_pylist()}
    out = []
    for row in rows.select([name for name in SHOWN if name in rows.column_names]).to_pylist():
        model = known.get(row["processing_id"])
        bands = model["bands"] if model else []
        pdf, grid = row.pop("pdf"), model["z_grid"] if model else []
        for name in ("kafka_timestamp", "ingest_time"):
            row[name] = row[name].timestamp() if row[name] is not None else None
        row["flags"] = [[flag.name, DESCRIPTIONS[flag]] for flag in Flag if row["flags"] & flag]
        for name, mask in (("bands", row.pop("band_mask")), ("dark", row.pop("nondetection_mask"))):
            row[name] = [band for b, band in enumerate(bands) if mask >> b & 1]
        row["pdf"] = None if pdf is None or len(pdf) != len(grid) else _numbers(np.array(pdf))
        row["z_max"] = grid[-1] if len(grid) else None
        row["bundle"] = model["bundle_sha256"] if model else None
        row["decoder"] = model["decoder"] if model else None
        for name, value in row.items():
            if isinstance(value, float):
                row[name] = float(f"{value:.{_digits(name)}g}") if np.isfinite(value) else None
        out.append(row)
    return out


def _column(some: pa.RecordBatch, name: str, pdf: pa.Array, night: str, model: str) -> pa.Array:
    if name in ("night", "model"):  # the folders' names, not in the file
        return pa.array([night if name == "night" else model] * len(some))
    return (pdf if name == "pdf" else some[name]).cast(ROWS.field(name).type)


def _digits(name: str) -> int:
    return 9 if name in ROWS.names and ROWS.field(name).type == pa.float32() else 15


def _flags(read: list[_File]) -> list[dict[str, Any]]:
    """Flags that any row has, the most frequent first, with their part of the rows."""
    rows = sum(f.points for f in read)
    if not rows:
        return []
    counts = np.asarray(sum(f.flags for f in read))
    found = [(int(n), flag) for n, flag in zip(counts, Flag, strict=True) if n]
    ranked = sorted(found, key=lambda pair: -pair[0])
    return [{"flag": flag.name, "text": DESCRIPTIONS[flag], "part": round(n / rows, 6)} for n, flag in ranked]


def _density(counts: Any, z_max: float) -> list[float]:
    """Counts in equal bins up to `z_max` as a density that integrates to 1."""
    counts = np.atleast_1d(np.asarray(counts, np.float64))
    return _numbers(counts / max(counts.sum(), 1e-300) * len(counts) / z_max)


def _numbers(values: Any) -> list[float]:
    return [float(f"{v:.4g}") for v in np.atleast_1d(np.asarray(values, np.float64))]


def _float(column: pa.Array) -> Float64:
    return column.cast(pa.float64()).to_numpy(zero_copy_only=False)
