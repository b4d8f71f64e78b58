"""How good image networks are: real quasars cross-validated, and a simulated sky against forests that know the same stamps.

On the sky every network is trained for the same time at most, and 60 epochs at most; forests grow as they do. Errors are of a
bootstrap over the galaxies that nobody was trained on, ratios of one over the same galaxies. The first of the sky's test galaxies
choose the weight of a blend and are not scored; of the quasars the other folds choose it.
"""

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import images_models as made
from benchmarks.images_data import quasars
from benchmarks.images_jobs import Found, Job, all_of
from benchmarks.report import Result
from models import grid as grids
from models import metrics
from schemas.batch import Float32, Float64, Int64

RESAMPLES = 1000
TESTED, CHOOSE = 10_000, 2_000  # galaxies of the sky that nobody is trained on; those of them that choose weights
SIZES = (1000, 5000, 10_000)
SEES = ("mixed", "image", "magnitudes", "pasquet")
SECONDS = {"cuda": 13.0, "cpu": 1800.0}  # of a network on the sky; of one core
SHARES = np.linspace(0, 1, 21)  # of a network beside a forest
SEVERAL = (2, 4)  # networks on the quasars


class Row(NamedTuple):
    """Scores of one model, galaxy by galaxy."""

    crps: Float64
    cde: Float64
    pit: Float64
    error: Float64  # (z_median - z) / (1 + z)

    def of(self, some: Int64) -> "Row":
        """Those of some galaxies."""
        return Row(*(column[some] for column in self))


def rows(pdf: Float32, grid: Float64, z: Float64) -> Row:
    """Scores of PDFs; rows without one count as the flat PDF."""
    whole = np.where(np.isfinite(pdf[:, :1]), pdf, np.float32(1.0 / (grid[-1] - grid[0]))).astype(np.float32)
    cde, crps, pit = metrics.pdf_scores(whole, grid, z)
    cdf = grids.cumulative(whole.astype(np.float64), grid)
    median = np.array([np.interp(0.5, row, grid) for row in cdf])
    return Row(crps, cde, pit, (median - z) / (1 + z))


def told(row: Row, against: Row | None = None) -> dict[str, Any]:
    """Statistics with bootstrap errors; ratios of CRPS against another model on the same galaxies."""
    rng = np.random.default_rng(0)
    n = len(row.crps)
    draws = rng.integers(0, n, (RESAMPLES, n), dtype=np.int32)

    def mad(errors: Float64) -> float:
        return float(metrics.MAD_TO_SIGMA * np.median(np.abs(errors - np.median(errors))))

    out: dict[str, Any] = {
        "n": n,
        "crps": [float(row.crps.mean()), float(row.crps[draws].mean(1).std())],
        "cde": [float(row.cde.mean()), float(row.cde[draws].mean(1).std())],
        "sigma_mad": [mad(row.error), float(np.std([mad(row.error[d]) for d in draws[:200]]))],
        "outliers_15": float((np.abs(row.error) > 0.15).mean()),
        "bias": float(np.median(row.error)),
        "mse": float((row.error**2).mean()),
        "pit_ks": metrics.ks_uniform(row.pit),
    }
    if against is not None:
        ratio = row.crps[draws].mean(1) / against.crps[draws].mean(1)
        out["ratio"] = [float(row.crps.mean() / against.crps.mean()), float(ratio.std())]
    return out


def share(network: Float32, forest: Float32, grid: Float64, z: Float64) -> float:
    """The network's share in the mean of both that has the least CRPS."""
    losses = [metrics.pdf_scores(mixed(network, forest, one), grid, z)[1].mean() for one in SHARES]
    return float(SHARES[np.argmin(losses)])


def mixed(network: Float32, forest: Float32, part: float) -> Float32:
    """The mean of both PDFs."""
    return (part * network + (1 - part) * forest).astype(np.float32)


def run(quick: bool, keep: str | None = None) -> list[Result]:
    """Quasars where they are at hand, and the sky: on a GPU if torch sees one, else on all cores (two take 90 minutes)."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    where = torch.cuda.get_device_name() if device == "cuda" else "one thread a network"
    seconds = SECONDS[device] / (20 if quick else 1)
    sizes, tested = (SIZES[:1], 3000) if quick else (SIZES, TESTED)
    largest = sizes[-1]
    print(f"networks on {where}, {seconds:.0f} s each at most on the sky")
    jobs = []
    if quasars() is not None and not quick:
        jobs += [Job("quasars, forest", made.quasar_forest, ())]
        jobs += [Job(f"quasars, fold {k}", made.quasar_networks, (k, SEVERAL, device)) for k in range(made.FOLDS)]
    for size in reversed(sizes):
        for sees in SEES if size == largest else SEES[:1]:
            jobs.append(Job(f"sky, {size}, {sees}", made.sky_network, (sees, size, largest, tested, seconds, device)))
        for sees in ("apertures", "magnitudes"):
            jobs.append(Job(f"sky, {size}, forest of {sees}", made.sky_forest, (sees, size, largest, tested)))
    with tempfile.TemporaryDirectory() as passing:
        found = all_of(jobs, Path(keep or passing), device)
    results = _quasars(found) if "quasars, forest" in found else []
    z = made.skies(largest, tested)[1].gallery.z
    for size in sizes:
        results += _sky(found, size, z, CHOOSE * tested // TESTED)
    return results


def _quasars(found: dict[str, Found]) -> list[Result]:
    grid, z = grids.linear(*made.QUASAR_GRID), made.known_quasars().z
    forest = found["quasars, forest"].arrays["pdf"]
    base = rows(forest, grid, z)
    results = [_result("quasars, forest", base, None)]
    folds = [found[f"quasars, fold {k}"] for k in range(made.FOLDS)]
    for nets in SEVERAL:
        pdf, raw, both, shares = np.empty_like(forest), np.empty_like(forest), np.empty_like(forest), []
        for fold in folds:
            part = fold.arrays["part"]
            pdf[part], raw[part] = fold.arrays[f"pdf_{nets}"], fold.arrays[f"raw_{nets}"]
        for others, part in made.quasar_parts(len(z)):
            shares.append(share(pdf[others], forest[others], grid, z[others]))
            both[part] = mixed(pdf[part], forest[part], shares[-1])
        epochs = [epochs for fold in folds for epochs in fold.about[str(nets)]["epochs"]]
        how = f"epochs {min(epochs):.0f} to {max(epochs):.0f}"
        results.append(_result(f"quasars, {nets} networks", rows(pdf, grid, z), base, rows(raw, grid, z), how))
        how = f"shares {min(shares):.2f} to {max(shares):.2f}"
        results.append(_result(f"quasars, forest and {nets} networks", rows(both, grid, z), base, None, how))
    return results


def _sky(found: dict[str, Found], size: int, z: Float64, choose: int) -> list[Result]:
    grid, scored = grids.linear(*made.SKY_GRID), np.arange(choose, len(z))
    pdfs = {name.split(", ")[2]: one for name, one in found.items() if name.startswith(f"sky, {size}, ")}
    apertures = pdfs["forest of apertures"].arrays["pdf"]
    base = rows(apertures, grid, z).of(scored)
    results, nets = [], {}
    for name, one in pdfs.items():
        row = rows(one.arrays["pdf"], grid, z).of(scored)
        raw, how = None, ""
        if "raw" in one.arrays:
            raw, nets[name] = rows(one.arrays["raw"], grid, z).of(scored), row
            about = one.about
            how = f"{about['epochs'][0]:.0f} epochs, {about['seconds'][0]:.0f} s, {about['parameters']:,} weights"
        results.append(_result(f"sky, {size:,}, {name}", row, base, raw, how))
    pdf = pdfs["mixed"].arrays["pdf"]
    part = share(pdf[:choose], apertures[:choose], grid, z[:choose])
    both = rows(mixed(pdf, apertures, part), grid, z).of(scored)
    results.append(_result(f"sky, {size:,}, mixed and forest of apertures", both, base, None, f"share {part:.2f}"))
    for name, row in nets.items():
        if name != "mixed":
            ratio, margin = told(nets["mixed"], row)["ratio"]
            results.append(Result(f"sky, {size:,}, mixed over {name}", ratio, "of its CRPS", {}, margin / ratio))
    return results


def _result(case: str, row: Row, against: Row | None, raw: Row | None = None, how: str = "") -> Result:
    found = told(row, against)
    value, error = found["crps"]
    ratio, margin = found.get("ratio", (1.0, 0.0))
    before = f"{metrics.ks_uniform(raw.pit):.3f}, " if raw is not None else ""
    text = (
        f"CRPS ± {error:.2g}; {ratio:.3f} ± {margin:.3f} of the forest that knows most\n"
        f"CDE {found['cde'][0]:.3f}, MAD {found['sigma_mad'][0]:.4f} ± {found['sigma_mad'][1]:.4f}, "
        f"|e| > .15 {found['outliers_15']:.2%}, PIT KS {before}{found['pit_ks']:.3f}{', ' if how else ''}{how}"
    )
    return Result(case, value, text, spread=error / value, higher_is_better=False)
