"""What the pictures of a night are drawn from: points, truth where it is known, PIT values, the stacked PDF."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.batch import Float32, Float64
from schemas.errors import UserError
from streamer.catalogue import Catalogue

MOST_ROWS = 200_000  # more make the pictures no clearer
KEPT_PDFS = 20_000  # from which examples are chosen
OUTLIER = 0.15  # |dz| / (1 + z) beyond which a redshift is called an outlier

_POINTS = ("ra", "dec", "z_best", "z_median", "z_lo68", "z_hi68", "z_sigma", "mag_ref", "flags")
_COLUMNS = ("object_id", *_POINTS, "pdf")


class Night(NamedTuple):
    """A night of one model: n rows looked at, of `total`.

    Attributes
    ----------
    night, model
        Which.
    total
        Rows that the catalogue holds of them.
    points
        By column name, float64[n], NaN where null; ``flags`` int32[n].
    truth
        True redshifts, float64[n], NaN where unknown.
    pit
        Cumulative probability at the true redshift, float64[n], NaN where unknown.
    grid, stacked
        Redshifts and the mean PDF on them, float64[G].
    pdf, where
        Some PDFs, float32[k, G], and which of the n rows they belong to, int64[k].
    """

    night: str
    model: str
    total: int
    points: dict[str, npt.NDArray[np.generic]]
    truth: Float64
    pit: Float64
    grid: Float64
    stacked: Float64
    pdf: Float32
    where: npt.NDArray[np.int64]


class Scores(NamedTuple):
    """How good point estimates are against true redshifts; dz = (z_best - z) / (1 + z)."""

    n: int
    bias: float  # median of dz
    sigma_mad: float  # 1.4826 median |dz - bias|
    outliers: float  # share of |dz| > 0.15


def read_night(catalogue: Catalogue, night: str | None, model: str | None, truth: pa.Table | None) -> Night:
    """Read at most some MOST_ROWS rows of a night.

    Parameters
    ----------
    catalogue
        Where the rows are.
    night
        Observing night; None is the newest one.
    model
        Model's name; None is the one with most rows in that night.
    truth
        Columns object_id (string) and z, or None.

    Raises
    ------
    UserError
        If there are no such rows.
    """
    counts = catalogue.info().counts
    held = [r for r in counts.to_pylist() if r["rows"] and night in (None, r["night"]) and model in (None, r["model"])]
    if not held:
        asked = " and ".join(w for w in (night, model) if w)
        raise UserError(
            f"{catalogue.root} has no rows{' of ' + asked if asked else ''}: `slipher catalog info` lists what there is."
        )
    newest = max(r["night"] for r in held)
    chosen = max((r for r in held if r["night"] == newest), key=lambda r: r["rows"])
    grid = catalogue.grid(chosen["model"])
    about = MOST_ROWS if chosen["rows"] > MOST_ROWS else None
    reader = catalogue.scan(_COLUMNS, chosen["night"], chosen["model"], about=about)

    known = Truth(truth)
    points: dict[str, list[npt.NDArray[np.generic]]] = {name: [] for name in _POINTS}
    true, pit, kept, where = [], [], [], []
    stacked, n, with_pdf, n_kept = np.zeros(len(grid)), 0, 0, 0
    for batch in reader:
        for name in _POINTS:
            column = batch[name]
            points[name].append(column.to_numpy(zero_copy_only=False) if name == "flags" else _float(column))
        z = known.of(batch["object_id"])
        has = batch["pdf"].is_valid().to_numpy(zero_copy_only=False)
        pdf = batch["pdf"].flatten().to_numpy().reshape(-1, len(grid))
        stacked += pdf.sum(axis=0, dtype=np.float64)
        values = np.full(len(batch), np.nan)
        values[has] = pit_values(pdf, grid, z[has])
        room = max(KEPT_PDFS - n_kept, 0)
        kept.append(pdf[:room].copy())
        where.append(n + np.flatnonzero(has)[:room])
        true.append(z)
        pit.append(values)
        n, with_pdf, n_kept = n + len(batch), with_pdf + len(pdf), n_kept + len(kept[-1])
        if n >= MOST_ROWS:
            break
    return Night(
        night=chosen["night"],
        model=chosen["model"],
        total=chosen["rows"],
        points={name: np.concatenate(parts) for name, parts in points.items()},
        truth=np.concatenate(true),
        pit=np.concatenate(pit),
        grid=grid,
        stacked=stacked / max(with_pdf, 1),
        pdf=np.concatenate(kept),
        where=np.concatenate(where),
    )


def pit_values(pdf: Float32, grid: Float64, z: Float64) -> Float64:
    """Cumulative probability of each PDF below its `z`: uniform on [0, 1] where PDFs are calibrated.

    Parameters
    ----------
    pdf
        p(z), [n, G], taken as linear between grid points; need not be normalised exactly.
    grid
        Redshifts, [G].
    z
        True redshifts, [n]; NaN gives NaN. Beyond the grid gives 0 or 1.
    """
    out = np.full(len(z), np.nan)
    rows = np.flatnonzero(np.isfinite(z))
    p, at = pdf[rows].astype(np.float64), np.clip(z[rows], grid[0], grid[-1])
    step = np.diff(grid)
    areas = (p[:, 1:] + p[:, :-1]) * (step / 2)
    below = np.cumsum(areas, axis=1)
    bin_ = np.clip(np.searchsorted(grid, at, side="right") - 1, 0, len(step) - 1)
    every = np.arange(len(rows))
    into = at - grid[bin_]
    slope = (p[every, bin_ + 1] - p[every, bin_]) / step[bin_]
    partial = p[every, bin_] * into + slope * into**2 / 2
    total = below[:, -1]
    with np.errstate(invalid="ignore", divide="ignore"):
        out[rows] = (below[every, bin_] - areas[every, bin_] + partial) / total
    return np.clip(out, 0.0, 1.0)


def scores(night: Night) -> Scores | None:
    """Point statistics over the rows whose true redshift is known; None where there are fewer than ten."""
    best = night.points["z_best"].astype(np.float64)
    both = np.isfinite(best) & np.isfinite(night.truth)
    if both.sum() < 10:
        return None
    dz = (best[both] - night.truth[both]) / (1 + night.truth[both])
    bias = float(np.median(dz))
    mad = 1.4826 * float(np.median(np.abs(dz - bias)))
    return Scores(int(both.sum()), bias, mad, float(np.mean(np.abs(dz) > OUTLIER)))


def ks_distance(pit: Float64) -> float:
    """Greatest distance between the distribution of `pit` and the uniform one."""
    ranked = np.sort(pit)
    n = len(ranked)
    return float(max(np.max(np.arange(1, n + 1) / n - ranked), np.max(ranked - np.arange(n) / n)))


def read_truth(path: Path) -> pa.Table:
    """A Parquet or CSV table with columns object_id and z (or redshift), as object_id string and z float64.

    Raises
    ------
    UserError
        If the file is missing, unreadable, or lacks a column.
    """
    import pyarrow.csv
    import pyarrow.parquet as pq

    try:
        table = pyarrow.csv.read_csv(path) if path.suffix == ".csv" else pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"The truth table {path} cannot be read as {path.suffix or 'Parquet'}: {error}.") from None
    return as_truth(table, str(path))


def as_truth(table: pa.Table, name: str) -> pa.Table:
    """The columns object_id and z of `table`, in the types that joins want."""
    redshift = next((column for column in ("z", "redshift") if column in table.column_names), None)
    if "object_id" not in table.column_names or redshift is None:
        raise UserError(
            f"The truth table {name} needs columns object_id and z; it has {', '.join(table.column_names)}."
        )
    return pa.table({"object_id": table["object_id"].cast(pa.string()), "z": table[redshift].cast(pa.float64())})


class Truth:
    """True redshifts by object id: columns object_id (string) and z (float64) of a table, or none."""

    def __init__(self, table: pa.Table | None) -> None:
        self._ids = None if table is None else table["object_id"].combine_chunks()
        self._z = np.array([]) if table is None else _float(table["z"].combine_chunks())

    def of(self, object_id: pa.Array) -> Float64:
        """True redshifts of these objects, float64[n]; NaN where unknown."""
        if self._ids is None or not len(self._z):
            return np.full(len(object_id), np.nan)
        place = pc.index_in(object_id, value_set=self._ids)
        found = place.is_valid().to_numpy(zero_copy_only=False)
        return np.where(found, self._z[place.fill_null(0).to_numpy(zero_copy_only=False)], np.nan)


def _float(column: pa.Array) -> Float64:
    return column.cast(pa.float64()).to_numpy(zero_copy_only=False)
