"""How good the redshifts are: accuracy, calibration, missing bands, and galaxies unlike those of training.

DC2's training galaxies make every choice; its validation galaxies are only measured on. Where SLIPHER_TEST_DATA names a folder
with them, so are real galaxies of SDSS and DEEP2/3.
"""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import Result
from models import estimator, metrics, training
from models.bundle import Bundle
from models.forest import boxes
from models.learners import ForestSettings, course, grow_boxes
from models.photometry import MagnitudeSystem, softening
from models.sample import Sample
from schemas import dc2, photometry_table
from schemas.bands import BandSet, band_set
from schemas.batch import BandState
from schemas.photometry_table import PhotometryTable

LSST = band_set("lsst")
RESAMPLES = 300
MASKS = ("ugrizy", "grizy", "ugriz", "griz", "gri", "ri")
BOTH = ("forest", "forest+mlp")


def run(quick: bool) -> list[Result]:
    """All cases; `quick` leaves out the networks, the masks and the other surveys."""
    known, unseen = _dc2(dc2.training()), _dc2(dc2.validation())
    results: list[Result] = []
    chosen = {"forest": ForestSettings()}
    if not quick:
        chosen["forest, no noise"] = ForestSettings(augment="no")
        chosen["forest, all bands only"] = ForestSettings(masks=False)
        chosen["forest+mlp"] = ForestSettings(learner="forest+mlp")
    bundles = {name: _fit(known, LSST, settings) for name, settings in chosen.items()}
    for name, bundle in bundles.items():
        results += _quality(f"DC2 {name}", bundle, unseen)
    results += list(_strangers(known))
    if not quick:
        results += list(_any_mask(known, unseen, bundles))
        folder = os.environ.get("SLIPHER_TEST_DATA")
        if folder:
            results += list(_sdss(Path(folder)))
            results += list(_deep(Path(folder)))
    return results


def _dc2(path: Path) -> PhotometryTable:
    return photometry_table.read(path, LSST, want_redshift=True).with_redshift()


def _arrays(table: PhotometryTable) -> tuple[Any, ...]:
    return table.flux, table.flux_err, table.band_state, table.ebv, table.z


def _fit(table: PhotometryTable, bands: BandSet, settings: ForestSettings) -> Bundle:
    flux, flux_err, state, ebv, z = _arrays(table)
    return training.fit(flux, flux_err, state, ebv, z, bands, settings)


def _boot(values: np.ndarray, statistic: Any = np.mean) -> float:
    """Bootstrap error of a statistic."""
    rng = np.random.default_rng(0)
    n = len(values)
    return float(np.std([statistic(values[rng.integers(0, n, n)]) for _ in range(RESAMPLES)]))


def _result(case: str, value: float, error: float, unit: str, peers: dict[str, float] | None = None) -> Result:
    spread = error / abs(value) if value else None
    return Result(case, value, f"{unit} ± {error:.2g}", peers or {}, spread, higher_is_better=False)


def _sigma_iqr(errors: np.ndarray) -> float:
    low, high = np.percentile(errors, [25, 75])
    return float((high - low) / metrics.IQR_TO_SIGMA)


def _sigma_mad(errors: np.ndarray) -> float:
    return float(metrics.MAD_TO_SIGMA * np.median(np.abs(errors - np.median(errors))))


def _quality(case: str, bundle: Bundle, table: PhotometryTable) -> list[Result]:
    model: Any = estimator.of(bundle)
    got = model.estimate_arrays(*_arrays(table)[:4])
    cde, crps, pit = metrics.pdf_scores(got.pdf, model.grid, table.z)
    gate = np.broadcast_to(metrics.trainz(bundle.tensors["z"], model.grid), got.pdf.shape)
    gate_cde, gate_crps, _ = metrics.pdf_scores(gate, model.grid, table.z)
    error = (got.z_median - table.z) / (1 + table.z)
    quintile = metrics.by_quintile(got.pdf, model.grid, table.z, got.mag_ref)
    cover = [row["coverage_95"] for row in quintile]
    far = np.abs(error) > 0.15
    noise = np.sqrt(0.95 * 0.05 / min(row["n"] for row in quintile))
    return [
        _result(f"{case}: CDE loss (trainZ {gate_cde.mean():.2f})", cde.mean(), _boot(cde), ""),
        _result(f"{case}: CRPS", crps.mean(), _boot(crps), "", {"trainZ": gate_crps.mean()}),
        _result(f"{case}: sigma IQR", _sigma_iqr(error), _boot(error, _sigma_iqr), ""),
        _result(f"{case}: sigma MAD", _sigma_mad(error), _boot(error, _sigma_mad), ""),
        _result(f"{case}: |e| > 0.15", far.mean(), _boot(far), ""),
        _result(f"{case}: PIT KS", metrics.ks_uniform(pit), _boot(pit, metrics.ks_uniform), ""),
        _result(
            f"{case}: PIT KS, worst magnitude quintile",
            max(row["pit_ks"] for row in quintile),
            0.0,
            "",
            {"uniform PITs": _chance([row["n"] for row in quintile])},
        ),
        _result(f"{case}: PIT outside [1e-4, .9999]", _outside(pit), _boot(pit, _outside), ""),
        _result(f"{case}: 95 % intervals hold, worst quintile below", min(cover), noise, ""),
        _result(f"{case}: 95 % intervals hold, worst quintile above", max(cover), noise, ""),
    ]


def _chance(numbers: list[int]) -> float:
    """The worst KS distance that perfect PIT values of so many galaxies show, in the median."""
    rng = np.random.default_rng(0)
    return float(np.median([max(metrics.ks_uniform(rng.random(n)) for n in numbers) for _ in range(RESAMPLES)]))


def _outside(pit: np.ndarray) -> float:
    """Part of PITs that lie outside their PDF for all purposes."""
    return float(((pit < metrics.PIT_EDGE) | (pit > 1 - metrics.PIT_EDGE)).mean())


def _only(table: PhotometryTable, bands: str) -> PhotometryTable:
    """The table with all other bands not observed."""
    state = table.band_state.copy()
    state[:, [b for b, name in enumerate(LSST.bands) if name not in bands]] = BandState.NOT_OBSERVED
    return replace(table, band_state=state)


def _crps(bundle: Bundle, table: PhotometryTable) -> np.ndarray:
    model: Any = estimator.of(bundle)
    got = model.estimate_arrays(*_arrays(table)[:4])
    some = np.isfinite(got.pdf[:, 0])
    return metrics.pdf_scores(got.pdf[some], model.grid, table.z[some])[1]


def _any_mask(known: PhotometryTable, unseen: PhotometryTable, bundles: dict[str, Bundle]) -> Iterator[Result]:
    """CRPS of one model that was taught to do without bands, beside forests trained for each mask alone."""
    for bands in MASKS:
        own = _fit(_only(known, bands), LSST, ForestSettings(masks=False))
        table = _only(unseen, bands)
        dedicated = _crps(own, table)
        for name in ("forest", "forest+mlp"):
            crps = _crps(bundles[name], table)
            same = len(crps) == len(dedicated)
            error = _boot(crps - dedicated) if same else _boot(crps)
            peers = {"forest for this mask": float(dedicated.mean())}
            yield _result(f"DC2 {bands}, one {name}: CRPS", float(crps.mean()), error, "paired", peers)


def _strangers(known: PhotometryTable) -> Iterator[Result]:
    """AUC of the distance outside the boxes for galaxies of a removed region against held-out ones of the rest."""
    system = MagnitudeSystem(
        softening(known.flux, known.flux_err, known.band_state), np.array(LSST.law("SF11")), LSST.bands.index("i")
    )
    flux, flux_err, state, ebv, z = _arrays(known)
    sample = Sample(flux, flux_err, state, ebv, z, np.ones(len(known)))
    work = course(sample, system, np.linspace(0, 3, 301), ForestSettings())
    removed = {
        "i >= 24": work.seen.mag_ref >= 24,
        "z >= 1": sample.z >= 1,
        "0.6 <= z <= 0.9": (sample.z >= 0.6) & (sample.z <= 0.9),
    }
    for name, away in removed.items():
        rng = np.random.default_rng(0)
        kept = rng.permutation(np.flatnonzero(~away & (work.seen.band_mask != 0)))
        n_train = int(0.75 * len(kept))
        distance = boxes.Distance(grow_boxes(work, np.sort(kept[:n_train]), rng))
        own = distance.score(work.seen.of(kept[n_train:]).features)
        far = distance.score(work.seen.of(np.flatnonzero(away)).features)
        yield Result(f"DC2 out of distribution, {name} removed: AUC", _auc(own, far), "")
        limit = np.quantile(own, 1 - boxes.FALSE_ALARMS)
        yield Result(f"DC2 out of distribution, {name} removed: flagged at 1 % false", (far > limit).mean(), "")


def _auc(low: np.ndarray, high: np.ndarray) -> float:
    """Probability that one of `high` exceeds one of `low`, ties counted half."""
    ordered = np.sort(low)
    below, at_most = np.searchsorted(ordered, high, "left"), np.searchsorted(ordered, high, "right")
    return float((below + at_most).mean() / 2 / len(low))


def _sdss(folder: Path) -> Iterator[Result]:
    """SDSS main galaxy sample: 5,000 to train on, 5,000 to measure, five seeds."""
    bands = band_set("sdss")
    path = folder / "sdss_mgs_10k.parquet"
    table = photometry_table.read(path, bands, want_redshift=True).with_redshift()
    known, unseen = table.take(np.arange(5000)), table.take(np.arange(5000, 10000))
    for learner in BOTH:
        errors, scores = [], []
        for seed in range(1, 6):
            bundle = _fit(known, bands, ForestSettings(learner=learner, masks=False, seed=seed))
            model: Any = estimator.of(bundle)
            got = model.estimate_arrays(*_arrays(unseen)[:4])
            errors.append((got.z_median - unseen.z) / (1 + unseen.z))
            scores.append(metrics.pdf_scores(got.pdf, model.grid, unseen.z))
        every = np.array(errors).T  # bootstrap galaxies, the five seeds together
        mean = np.mean([_sigma_mad(error) for error in errors])
        error = _boot(every, lambda rows: np.mean([_sigma_mad(column) for column in rows.T]))
        yield _result(f"SDSS MGS {learner}: sigma MAD, mean of 5 seeds", float(mean), error, "")
        cde = np.mean([s[0] for s in scores], axis=0)
        yield _result(f"SDSS MGS {learner}: CDE loss, mean of 5 seeds", cde.mean(), _boot(cde), "")
        worst = max(metrics.ks_uniform(s[2]) for s in scores)
        yield _result(f"SDSS MGS {learner}: PIT KS, worst of 5 seeds", worst, 0.0, "")


def _deep(folder: Path) -> Iterator[Result]:
    """DEEP2/3 with CFHTLS ugrizy; its two i filters count as one. 6,500 galaxies to train on, the others to measure."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(folder / "deep23_ugrizy_part60.parquet")
    for one, other in (("mag_i", "mag_i2"), ("err_i", "err_i2")):
        both = [pc.if_else(pc.is_nan(table[name]), None, table[name]) for name in (one, other)]
        table = table.set_column(table.column_names.index(one), one, pc.coalesce(*both))
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "deep.parquet"
        pq.write_table(table.filter(pc.is_valid(table["mag_i"])), path)
        galaxies = photometry_table.read(path, LSST, want_redshift=True, missing=BandState.NOT_OBSERVED)
    galaxies = galaxies.with_redshift()
    order = np.random.default_rng(0).permutation(len(galaxies))
    known, unseen = galaxies.take(np.sort(order[:6500])), galaxies.take(np.sort(order[6500:]))
    for learner in BOTH:
        bundle = _fit(known, LSST, ForestSettings(learner=learner, masks=False))
        yield from _quality(f"DEEP2/3 {learner}", bundle, unseen)
