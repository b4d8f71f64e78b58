"""Two models over the same night, row beside row: shifts, PDF distances, flags gained and lost, the biggest movers.

Rows are matched by identity (topic id, partition, offset, row in the message): the same message seen by both. What is left on
both sides is matched by object id, its rows in the order of their event times: a model may have read the same alerts from
another topic.
"""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models import grid as grids
from models.metrics import point_metrics
from schemas.batch import Float32, Float64, Int64
from schemas.errors import UserError
from schemas.flags import Flag, names
from streamer.best import IDENTITY, joined
from streamer.catalogue import Catalogue

PDF_PAIRS = 50_000  # pairs whose PDFs are compared: more make no figure better, and each costs 2.4 kB
OUTLIER = 0.15  # |shift| beyond which a pair is an outlier
_BLOCK = 4096  # pairs whose distribution functions are in memory at once

_COLUMNS = [*IDENTITY, "object_id", "mjd", "z_median", "flags"]


class Pairs(NamedTuple):
    """n pairs of rows, in no particular order.

    Attributes
    ----------
    a, b
        The rows, n each, of the columns topic_id, kafka_partition, kafka_offset, kafka_row, object_id, mjd, z_median, flags.
    by_identity
        How many of them, the first ones, were matched by identity.
    """

    a: pa.Table
    b: pa.Table
    by_identity: int

    @property
    def z(self) -> tuple[Float64, Float64]:
        """Median redshifts of both, NaN where there is none."""
        return _floats(self.a["z_median"]), _floats(self.b["z_median"])

    @property
    def shift(self) -> Float64:
        """(z_b - z_a) / (1 + z_a), NaN where one has no redshift."""
        a, b = self.z
        return (b - a) / (1 + a)


class Distances(NamedTuple):
    """PDFs of some k pairs against each other.

    Attributes
    ----------
    pair
        Which pairs, int64[k].
    ks
        Greatest distance of the distribution functions, 0 to 1, float64[k]; NaN where one has no PDF.
    area
        Integral of their distance over redshift, float64[k]: how far probability has to be moved.
    grid, stacked
        Redshifts of A's and B's PDFs, and their means over the pairs that have both.
    """

    pair: Int64
    ks: Float64
    area: Float64
    grid: tuple[Float64, Float64]
    stacked: tuple[Float64, Float64]


class Comparison(NamedTuple):
    """What `compare` found."""

    night: str
    models: tuple[str, str]
    only: tuple[int, int]
    pairs: Pairs
    distances: Distances
    movers: Int64  # pairs with the greatest |shift|, greatest first

    def figures(self) -> dict[str, Any]:
        """Everything as plain numbers, for a table or JSON; a figure that nothing stands behind is None."""
        a, b = self.pairs.z
        has_a, has_b = np.isfinite(a), np.isfinite(b)
        points = point_metrics(np.where(has_a, b, np.nan), a)
        seen = np.isfinite(self.distances.ks)
        ks, area = self.distances.ks[seen], self.distances.area[seen]
        return {
            "night": self.night,
            "models": list(self.models),
            "rows": {
                "both": len(self.pairs.a),
                "by_identity": self.pairs.by_identity,
                "by_object": len(self.pairs.a) - self.pairs.by_identity,
                "only_a": self.only[0],
                "only_b": self.only[1],
            },
            "redshifts": {
                "both": int((has_a & has_b).sum()),
                "gained": int((~has_a & has_b).sum()),
                "lost": int((has_a & ~has_b).sum()),
            },
            "shift": {
                "bias": points.get("bias"),
                "sigma_mad": points.get("sigma_mad"),
                "outliers_15": points.get("outliers_15"),
            },
            "pdf": {
                "pairs": len(ks),
                "ks_median": float(np.median(ks)) if len(ks) else None,
                "ks_99": float(np.percentile(ks, 99)) if len(ks) else None,
                "area_median": float(np.median(area)) if len(area) else None,
            },
            "flags": self._flags(),
            "movers": [self._mover(int(k)) for k in self.movers],
        }

    def _flags(self) -> list[dict[str, Any]]:
        a, b = self.pairs.a["flags"].to_numpy(), self.pairs.b["flags"].to_numpy()
        told = []
        for flag in Flag:
            in_a, in_b = (a & flag) != 0, (b & flag) != 0
            if in_a.any() or in_b.any():
                counts = (int(which.sum()) for which in (in_a, in_b, in_b & ~in_a, in_a & ~in_b))
                told.append({"flag": flag.name, **dict(zip(("a", "b", "gained", "lost"), counts, strict=True))})
        return told

    def _mover(self, k: int) -> dict[str, Any]:
        row, beside = self.pairs.a.slice(k, 1).to_pylist()[0], self.pairs.b.slice(k, 1).to_pylist()[0]
        at = np.flatnonzero(self.distances.pair == k)
        ks = float(self.distances.ks[at[0]]) if len(at) else np.nan
        before, after = row["flags"], beside["flags"]
        return {
            "object_id": row["object_id"],
            "partition": row["kafka_partition"],
            "offset": row["kafka_offset"],
            "row": row["kafka_row"],
            "z_a": row["z_median"],
            "z_b": beside["z_median"],
            "shift": float(self.pairs.shift[k]),
            "ks": ks if np.isfinite(ks) else None,
            "flags_gained": names(after & ~before),
            "flags_lost": names(before & ~after),
        }


def compare(
    catalogue: Catalogue, model_a: str, model_b: str, night: str | None = None, movers: int = 10, pdfs: int = PDF_PAIRS
) -> Comparison:
    """Compare the rows that two models gave in one night.

    Parameters
    ----------
    catalogue
        Where the rows are.
    model_a, model_b
        Names as in the column ``model``: before and after.
    night
        YYYY-MM-DD; None is the newest one that both have.
    movers
        How many of the pairs with the greatest shift to name.
    pdfs
        Most pairs whose PDFs are compared: the movers, and others by chance.

    Raises
    ------
    UserError
        A model is not there, has no rows in that night, or both are the same.
    """
    night = _night(catalogue, model_a, model_b, night)
    a, b = _read(catalogue, night, model_a), _read(catalogue, night, model_b)
    pairs = match(a, b)
    size = np.abs(pairs.shift)
    moved = np.flatnonzero(np.isfinite(size))
    top = moved[np.lexsort((moved, -size[moved]))][:movers]
    wanted = top
    if len(pairs.a) > pdfs:
        chance = np.random.default_rng(0).choice(len(pairs.a), max(pdfs - len(top), 0), replace=False)
        wanted = np.union1d(top, chance)
    else:
        wanted = np.arange(len(pairs.a))
    distances = _distances(catalogue, night, (model_a, model_b), pairs, wanted)
    only = len(a) - len(pairs.a), len(b) - len(pairs.b)
    return Comparison(night, (model_a, model_b), only, pairs, distances, top)


def match(a: pa.Table, b: pa.Table) -> Pairs:
    """Pair rows of `a` with rows of `b`: by identity, then what is left by object id in the order of event times."""
    left, right = joined(a, b, IDENTITY)
    rest_a = np.setdiff1d(np.arange(len(a)), left)
    rest_b = np.setdiff1d(np.arange(len(b)), right)
    more_a, more_b = joined(_ranked(a.take(rest_a)), _ranked(b.take(rest_b)), ["object_id", "rank"])
    at_a, at_b = np.concatenate([left, rest_a[more_a]]), np.concatenate([right, rest_b[more_b]])
    return Pairs(a.take(at_a), b.take(at_b), len(left))


def pdf_distances(pdf_a: Float32, grid_a: Float64, pdf_b: Float32, grid_b: Float64) -> tuple[Float64, Float64]:
    """Greatest distance, and area between, the distribution functions of k pairs of PDFs.

    Parameters
    ----------
    pdf_a, pdf_b
        [k, G] each on its own grid; rows of NaN give NaN.
    grid_a, grid_b
        Redshifts, evenly spaced. Beyond its grid a PDF is 0.
    """
    both = grid_a if np.array_equal(grid_a, grid_b) else np.union1d(grid_a, grid_b)
    ks, area = np.full(len(pdf_a), np.nan), np.full(len(pdf_a), np.nan)
    for at in range(0, len(pdf_a), _BLOCK):
        part = slice(at, at + _BLOCK)
        apart = np.abs(_cumulative(pdf_a[part], grid_a, both) - _cumulative(pdf_b[part], grid_b, both))
        ks[part], area[part] = apart.max(axis=1), np.trapezoid(apart, both, axis=1)
    return ks, area


# -- inside ----------------------------------------------------------------------------------------------------------------


def _night(catalogue: Catalogue, model_a: str, model_b: str, night: str | None) -> str:
    if model_a == model_b:
        raise UserError(f"{model_a} twice: name two models to compare.")
    nights = {m: set(catalogue.files(model=m)["night"].to_pylist()) for m in (model_a, model_b)}
    for model, held in nights.items():
        there = sorted(set(catalogue.files(night)["model"].to_pylist()))
        if not held or (night is not None and night not in held):
            when = f" in the night {night}" if night else ""
            raise UserError(
                f"{catalogue.root} has no rows of the model {model}{when}: there are {', '.join(there) or 'none'}."
            )
    shared = nights[model_a] & nights[model_b]
    if not shared:
        raise UserError(f"{model_a} and {model_b} have no night in common in {catalogue.root}.")
    return night or max(shared)


def _read(catalogue: Catalogue, night: str, model: str) -> pa.Table:
    return catalogue.scan(_COLUMNS, night, model).read_all().combine_chunks()


def _ranked(rows: pa.Table) -> pa.Table:
    """`rows` with the column rank: which of its object's rows each is, by event time."""
    _, which = np.unique(rows["object_id"].to_numpy(zero_copy_only=False).astype(str), return_inverse=True)
    order = np.lexsort((rows["kafka_row"].to_numpy(), rows["kafka_offset"].to_numpy(), _floats(rows["mjd"]), which))
    first = np.flatnonzero(np.diff(which[order], prepend=-1))
    rank = np.empty(len(rows), np.int64)
    rank[order] = np.arange(len(rows)) - np.repeat(first, np.diff(np.append(first, len(rows))))
    return rows.append_column("rank", pa.array(rank))


def _distances(catalogue: Catalogue, night: str, models: tuple[str, str], pairs: Pairs, wanted: Int64) -> Distances:
    grid_a, grid_b = catalogue.grid(models[0]), catalogue.grid(models[1])
    pdf_a = _pdfs(catalogue, night, models[0], pairs.a.take(wanted), len(grid_a))
    pdf_b = _pdfs(catalogue, night, models[1], pairs.b.take(wanted), len(grid_b))
    ks, area = pdf_distances(pdf_a, grid_a, pdf_b, grid_b)
    has = np.isfinite(ks)
    stacked = [p[has].mean(axis=0, dtype=np.float64) if has.any() else np.zeros(p.shape[1]) for p in (pdf_a, pdf_b)]
    return Distances(wanted, ks, area, (grid_a, grid_b), (stacked[0], stacked[1]))


def _pdfs(catalogue: Catalogue, night: str, model: str, rows: pa.Table, points: int) -> Float32:
    """The PDFs of `rows`, normalised, float32[k, points]; NaN where there is none. All others are only passed by."""
    out = np.full((len(rows), points), np.nan, np.float32)
    offsets = rows["kafka_offset"].combine_chunks()
    for batch in catalogue.scan([*IDENTITY, "pdf"], night, model):
        near = batch.filter(pc.and_(pc.is_in(batch["kafka_offset"], offsets), batch["pdf"].is_valid()))
        if len(near):
            there, here = joined(pa.Table.from_batches([near]), rows, IDENTITY)
            found = near["pdf"].take(pa.array(there))
            out[here] = found.flatten().to_numpy().reshape(-1, points)
    return out


def _cumulative(pdf: Float32, grid: Float64, at: Float64) -> Float64:
    cdf = grids.cumulative(pdf.astype(np.float64), grid)
    return cdf if at is grid else np.stack([np.interp(at, grid, row, 0.0, 1.0) for row in cdf])


def _floats(column: pa.ChunkedArray) -> Float64:
    """Null becomes NaN."""
    return column.cast(pa.float64()).fill_null(np.nan).to_numpy()
