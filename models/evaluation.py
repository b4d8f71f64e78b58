"""How good a model is on galaxies with known redshifts: overall, by magnitude, redshift and bands, beside its gate.

The gate is trainZ: every galaxy gets the n(z) of the training set. It is perfectly calibrated and knows nothing, so a model
must beat it in CDE loss and CRPS, on every line (Schmidt et al. 2020, MNRAS 499, 1587).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models import grid as grids
from models import metrics
from models.bundle import Bundle
from models.estimator import Estimator
from schemas.batch import Estimates, Float64
from schemas.flags import Flag
from schemas.photometry_table import PhotometryTable

BLOCK = 20_000  # galaxies estimated at once: 24 MB of PDFs on 301 points
BLOCK_WITH_STAMPS = 4_096  # stamps of 6 x 64 x 64 with their variance: 800 MB
RESAMPLES = 200  # of the bootstrap
MOST_RESAMPLED = 20_000  # rows drawn each time; errors of more rows are scaled by the square root (m out of n)
FEWEST = 30  # galaxies a line needs: fewer say nothing
MOST_MASKS = 8  # lines by band mask; rarer combinations share one
REPEATED = 0.3  # part of the redshifts found in the training set that makes us ask
UNLIKE = 0.2  # part of galaxies outside the training range that makes us ask
BEYOND = 1e-3  # part of galaxies beyond the redshift grid worth a word
POINTS = ("z_median", "z_mode", "z_mean", "z_best")
HEADLINES = (  # figures that get bootstrap errors
    *("bias", "sigma_mad", "sigma_iqr", "outliers_15", "outliers_05", "outliers_3sigma", "mse"),
    *("cde", "crps", "brier", "pit_ks", "pit_outside", "coverage_50", "coverage_68", "coverage_90", "coverage_95"),
)

Progress = Callable[[float], None]


@dataclass(frozen=True, eq=False)
class Scored:
    """What a model said of n galaxies, and how right it was: all that any figure or picture needs.

    Attributes
    ----------
    z
        True redshifts, float64[n].
    point
        Point estimates, float64[n]; NaN where there is none.
    scores, gate
        Of the model's PDFs and of trainZ; NaN in the model's where it gave none. No gate where the bundle does not hold its
        training redshifts.
    gate_point
        Median of trainZ; NaN without a gate.
    mag_ref, width
        Reference magnitude, and half the 68 % interval, float64[n].
    flags, band_mask
        Of the estimates, uint32[n].
    grid, stacked, n_z
        Redshift grid, mean of all PDFs on it, and trainZ (or nothing), float64[G].
    """

    z: Float64
    point: Float64
    scores: metrics.Scores
    gate: metrics.Scores | None
    gate_point: float
    mag_ref: Float64
    width: Float64
    flags: npt.NDArray[np.uint32]
    band_mask: npt.NDArray[np.uint32]
    grid: Float64
    stacked: Float64
    n_z: Float64 | None

    @property
    def error(self) -> Float64:
        """e = (z_phot - z) / (1 + z), float64[n]."""
        return (self.point - self.z) / (1.0 + self.z)

    def figures(self, rows: npt.NDArray[Any] | slice = slice(None)) -> dict[str, Any]:
        """Metrics of some rows; those of trainZ under ``trainz``."""
        found: dict[str, Any] = _figures(self.point[rows], self.z[rows], _some(self.scores, rows))
        if self.gate is not None:
            z = self.z[rows]
            found["trainz"] = _figures(np.full(len(z), self.gate_point), z, _some(self.gate, rows))
        return found


def _some(scores: metrics.Scores, rows: npt.NDArray[Any] | slice) -> metrics.Scores:
    return metrics.Scores(*(score[rows] for score in scores))


def _figures(point: Float64, z: Float64, scores: metrics.Scores) -> dict[str, Any]:
    return {**metrics.point_metrics(point, z), **metrics.summary(scores)}


def score(
    estimator: Estimator,
    bundle: Bundle,
    truth: PhotometryTable,
    point: str = "z_median",
    progress: Progress | None = None,
) -> Scored:
    """Estimate every galaxy of `truth`, block by block, and keep what its metrics need.

    Parameters
    ----------
    estimator, bundle
        The model, ready to estimate, and what it came from.
    truth
        Galaxies with redshifts, in the model's bands.
    point
        The estimate called z_phot: one of `POINTS`.
    progress
        Called with the fraction done.
    """
    grid, n = estimator.grid, len(truth)
    out = metrics.Scores(*(np.full(n, np.nan) for _ in range(4)))
    z_phot, mag_ref, width = (np.full(n, np.nan) for _ in range(3))
    flags, band_mask = np.zeros(n, np.uint32), np.zeros(n, np.uint32)
    stacked, with_pdf = np.zeros(len(grid)), 0
    block = _block(truth)
    for first in range(0, n, block):
        rows = slice(first, min(first + block, n))
        said = estimator.estimate(truth.take(np.arange(n)[rows]).galaxies(estimator.bands, estimator.survey))
        known = np.isfinite(said.pdf[:, 0])
        here = metrics.scores(said.pdf[known], grid, truth.z[rows][known])
        for name, values in here._asdict().items():
            getattr(out, name)[rows][known] = values
        z_phot[rows], mag_ref[rows] = getattr(said, point), said.mag_ref
        width[rows] = 0.5 * (said.z_hi68.astype(np.float64) - said.z_lo68)
        flags[rows], band_mask[rows] = said.flags, said.band_mask
        stacked += said.pdf[known].sum(0, dtype=np.float64)
        with_pdf += int(known.sum())
        if progress:
            progress(rows.stop / n)
    n_z = training_n_z(bundle, grid)
    return Scored(
        z=truth.z,
        point=z_phot,
        scores=out,
        gate=None if n_z is None else _gate(n_z, grid, truth.z, np.isfinite(out.pit)),
        gate_point=float("nan") if n_z is None else float(np.interp(0.5, grids.cumulative(n_z[None], grid)[0], grid)),
        mag_ref=mag_ref,
        width=width,
        flags=flags,
        band_mask=band_mask,
        grid=grid,
        stacked=stacked / max(with_pdf, 1),
        n_z=n_z,
    )


def training_n_z(bundle: Bundle, grid: Float64) -> Float64 | None:
    """n(z) of the galaxies a model was trained on, float64[G]; none where the bundle does not hold them."""
    z = bundle.tensors.get("z")
    return None if z is None or not len(z) else metrics.trainz(z, grid)[0].astype(np.float64)


def _gate(n_z: Float64, grid: Float64, z: Float64, known: npt.NDArray[np.bool_]) -> metrics.Scores:
    """Scores of one PDF for all, on the rows that the model gave a PDF: the two are compared galaxy by galaxy."""
    out = metrics.Scores(*(np.full(len(z), np.nan) for _ in range(4)))
    distinct, which = np.unique(z[known], return_inverse=True)
    for first in range(0, len(distinct), BLOCK):
        part = distinct[first : first + BLOCK]
        here = metrics.scores(np.broadcast_to(n_z.astype(np.float32), (len(part), len(grid))), grid, part)
        if first == 0:
            whole = metrics.Scores(*(np.empty(len(distinct)) for _ in range(4)))
        for name, values in here._asdict().items():
            getattr(whole, name)[first : first + BLOCK] = values
    if len(distinct):
        for name, values in whole._asdict().items():
            getattr(out, name)[known] = values[which]
    return out


def evaluate(
    scored: Scored, bands: tuple[str, ...], seed: int = 1, with_bands: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """All figures, as JSON values.

    Parameters
    ----------
    scored
        What the model said of all galaxies.
    bands
        The model's.
    seed
        Of the bootstrap.
    with_bands
        Lines of the same galaxies as if only some bands had been observed, if there are such: they must beat the gate too.

    Returns
    -------
    dict
        ``overall`` (metrics, ``errors`` of them by bootstrap, ``trainz``); ``by_magnitude``, ``by_z_phot``, ``by_mask``,
        ``with_bands`` (lists of ``label``, ``low`` and ``high`` or ``bands``, metrics, ``trainz``); ``gate`` (``beaten``,
        ``sentence``, ``lost_at``); ``flags`` (rows by name).
    """
    overall = scored.figures()
    overall["errors"] = bootstrap(scored, seed)
    found = {
        "overall": overall,
        "by_magnitude": [{**line, **scored.figures(rows)} for line, rows in by_magnitude(scored)],
        "by_z_phot": [{**line, **scored.figures(rows)} for line, rows in by_z_phot(scored)],
        "by_mask": [{**line, **scored.figures(rows)} for line, rows in by_mask(scored, bands)],
        "with_bands": with_bands or [],
        "flags": {
            flag.name: count
            for flag in Flag
            if flag.name and (count := int((scored.flags & np.uint32(flag) != 0).sum()))
        },
    }
    found["gate"] = gate(scored, found)
    return found


def by_magnitude(scored: Scored, bins: int = 5) -> Iterator[tuple[dict[str, Any], npt.NDArray[np.int64]]]:
    """Lines of equal count in the reference magnitude, bright to faint, then those without one."""
    known = np.isfinite(scored.mag_ref)
    magnitude = scored.mag_ref[known]
    if len(magnitude) >= bins * FEWEST:
        edges = np.quantile(magnitude, np.linspace(0, 1, bins + 1))
        which = np.searchsorted(edges[1:-1], scored.mag_ref, side="right")
        for k in range(bins):
            low, high = float(edges[k]), float(edges[k + 1])
            rows = np.flatnonzero(known & (which == k))
            if len(rows):
                yield {"label": f"{low:.2f} to {high:.2f}", "low": low, "high": high}, rows
    without = np.flatnonzero(~known & np.isfinite(scored.scores.pit))
    if len(without) >= FEWEST:
        yield {"label": "no magnitude", "low": None, "high": None}, without


def by_z_phot(scored: Scored) -> Iterator[tuple[dict[str, Any], npt.NDArray[np.int64]]]:
    """Lines of one width in z_phot, a round number that makes some eight of them; the last is open."""
    known = np.isfinite(scored.point)
    if known.sum() < FEWEST:
        return
    top = float(np.quantile(scored.point[known], 0.99))
    width = min((0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0), key=lambda step: abs(top / step - 8))
    last = max(int(top / width) - 1, 0)
    which = np.where(known, np.minimum((np.where(known, scored.point, 0.0) / width).astype(np.int64), last), -1)
    for k in range(last + 1):
        rows = np.flatnonzero(which == k)
        if len(rows) >= FEWEST:
            low, high = k * width, (k + 1) * width if k < last else None
            label = f"{low:.2f} and up" if high is None else f"{low:.2f} to {high:.2f}"
            yield {"label": label, "low": low, "high": high}, rows


def by_mask(scored: Scored, bands: tuple[str, ...]) -> Iterator[tuple[dict[str, Any], npt.NDArray[np.int64]]]:
    """Lines by the bands that entered the estimate, the most frequent first; the rare ones together."""
    masks, counts = np.unique(scored.band_mask[np.isfinite(scored.point)], return_counts=True)
    often = [int(m) for m, n in sorted(zip(masks, counts, strict=True), key=lambda pair: -pair[1]) if n >= FEWEST]
    for mask in often[:MOST_MASKS]:
        name = "".join(band for b, band in enumerate(bands) if mask >> b & 1)
        yield {"label": name, "bands": name}, np.flatnonzero(scored.band_mask == mask)
    rest = np.flatnonzero(np.isfinite(scored.point) & ~np.isin(scored.band_mask, often[:MOST_MASKS]))
    if len(rest) >= FEWEST:
        yield {"label": "other bands", "bands": None}, rest


def bootstrap(scored: Scored, seed: int = 1) -> dict[str, float]:
    """Standard errors of the headline figures by resampling galaxies; empty where there are too few of them."""
    rows = np.flatnonzero(np.isfinite(scored.scores.pit) & np.isfinite(scored.point))
    if len(rows) < FEWEST:
        return {}
    rng = np.random.default_rng(seed)
    drawn = min(len(rows), MOST_RESAMPLED)
    samples: dict[str, list[float]] = {name: [] for name in HEADLINES}
    for _ in range(RESAMPLES):
        some = rng.choice(rows, drawn)
        found = _figures(scored.point[some], scored.z[some], _some(scored.scores, some))
        for name in HEADLINES:
            samples[name].append(found[name])
    return {name: float(np.std(values, ddof=1)) * (drawn / len(rows)) ** 0.5 for name, values in samples.items()}


def gate(scored: Scored, found: dict[str, Any]) -> dict[str, Any]:
    """Whether the model beats trainZ in CDE loss and CRPS by more than two standard errors, and a sentence that says so."""
    if scored.gate is None:
        return {
            "beaten": None,
            "sentence": "The bundle does not hold its training redshifts: there is no trainZ to compare it with.",
        }
    known = np.isfinite(scored.scores.pit)
    if known.sum() < FEWEST:
        return {
            "beaten": None,
            "sentence": f"{int(known.sum())} galaxies with a PDF are too few to compare the model with trainZ.",
        }
    lost = []
    for name, said in (("cde", "CDE loss"), ("crps", "CRPS")):
        gain = (getattr(scored.gate, name) - getattr(scored.scores, name))[known]
        if gain.mean() <= 2.0 * gain.std(ddof=1) / len(gain) ** 0.5:
            lost.append(f"{said} {found['overall'][name]:.4f}, trainZ {found['overall']['trainz'][name]:.4f}")
    if lost:
        text = (
            "This model does NOT beat trainZ, which gives every galaxy the n(z) of the training set: "
            + "; ".join(lost)
            + "."
        )
        return {"beaten": False, "sentence": text + " Do not use it on galaxies like these."}
    below = [
        f"{what} {line['label']}"
        for key, what in (
            ("by_magnitude", "magnitude"),
            ("by_z_phot", "z_phot"),
            ("by_mask", "bands"),
            ("with_bands", "with"),
        )
        for line in found[key]
        if any(line[score] >= line["trainz"][score] for score in ("cde", "crps") if score in line)
    ]
    text = "The model beats trainZ in CDE loss and CRPS"
    text += f" overall, but not at {', '.join(below)}." if below else " overall and on every line."
    return {"beaten": True, "lost_at": below, "sentence": text}


def remarks(scored: Scored, bundle: Bundle) -> list[str]:
    """What a person should know before believing the figures: sentences, often none."""
    said = []
    z_train = bundle.tensors.get("z")
    if z_train is not None and len(z_train):
        distinct = np.unique(z_train)
        share = float(np.isin(scored.z, distinct).mean())
        if len(distinct) > 0.9 * len(z_train) and share > REPEATED:
            said.append(
                f"{share:.0%} of these redshifts are, digit for digit, those of training galaxies: is this the table the model "
                "was trained on? Then the figures are too good."
            )
    missing = int((~np.isfinite(scored.point)).sum())
    if missing:
        said.append(f"{missing:,} of {len(scored.z):,} galaxies got no redshift: {_lacks(bundle)} could be used.")
    beyond = int((scored.z > scored.grid[-1]).sum())
    if beyond > BEYOND * len(scored.z):
        said.append(f"{beyond:,} galaxies lie beyond the model's redshift grid, which ends at {scored.grid[-1]:g}.")
    outside = float((scored.flags & np.uint32(Flag.FEATURE_RANGE | Flag.OUT_OF_DISTRIBUTION) != 0).mean())
    if outside > UNLIKE:
        said.append(f"{outside:.0%} of the galaxies are unlike the training set (FEATURE_RANGE, OUT_OF_DISTRIBUTION).")
    return said


def _lacks(bundle: Bundle) -> str:
    return "no stamp or no band" if bundle.card.get("kind") == "images" else "no band"


def _block(table: PhotometryTable) -> int:
    return BLOCK if table.stamps is None else BLOCK_WITH_STAMPS


def estimates(estimator: Estimator, truth: PhotometryTable) -> Estimates:
    """What a model says of all galaxies of a table."""
    block = _block(truth)
    starts = range(0, max(len(truth), 1), block)
    rows = (np.arange(first, min(first + block, len(truth))) for first in starts)
    parts = [estimator.estimate(truth.take(r).galaxies(estimator.bands, estimator.survey)) for r in rows]
    return Estimates(*map(np.concatenate, zip(*parts, strict=True)))


def card_metrics(said: Estimates, grid: Float64, z: Float64, z_train: Float64) -> dict[str, Any]:
    """What a model card says of galaxies that were held out.

    Returns
    -------
    dict
        `metrics.point_metrics` (of z_median) and `metrics.pdf_metrics` in one, ``quintiles`` (by magnitude), ``trainz``.
    """
    n_z = metrics.trainz(z_train, grid)
    everywhere = np.broadcast_to(n_z, (len(z), n_z.shape[1]))
    middle = float(np.interp(0.5, grids.cumulative(n_z.astype(np.float64), grid)[0], grid))
    return {
        **metrics.point_metrics(said.z_median, z),
        **metrics.pdf_metrics(said.pdf, grid, z),
        "quintiles": metrics.by_quintile(said.pdf, grid, z, said.mag_ref),
        "trainz": {
            **metrics.point_metrics(np.full(len(z), middle), z),
            **metrics.pdf_metrics(everywhere, grid, z),
        },
    }
