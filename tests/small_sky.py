"""A small sky without data: galaxies whose colours follow their redshift, and a forest trained on them."""

import numpy as np
import pyarrow as pa

from schemas.bands import band_set
from schemas.batch import BandState, Float64, Galaxies


def sky(n: int, seed: int = 1, survey: str = "lsst", mjd: float = 61_000.0) -> tuple[Galaxies, Float64]:
    """(galaxies, redshifts): magnitudes are smooth in z with scatter, one band in 20 is not observed, one a non-detection."""
    rng = np.random.default_rng(seed)
    bands = band_set(survey).bands
    z = rng.uniform(0.05, 1.95, n)
    level = 20 + 2 * z + rng.normal(0, 0.4, n)
    slope = np.linspace(1.5, 0.0, len(bands))[None, :] * np.sin(1.6 * z)[:, None]
    magnitude = level[:, None] + slope + rng.normal(0, 0.03, (n, len(bands)))
    flux = 10 ** (-0.4 * (magnitude - 31.4))
    err = np.hypot(0.03 * flux, 8.0)
    flux += err * rng.standard_normal(flux.shape)
    state = np.full(flux.shape, BandState.MEASURED, np.uint8)
    dice = rng.uniform(size=flux.shape)
    state[dice < 0.05] = BandState.NOT_OBSERVED
    state[dice > 0.95] = BandState.NON_DETECTED
    flux[state != BandState.MEASURED] = np.nan
    made = Galaxies(
        bands=bands,
        survey=pa.array([survey] * n),
        object_id=pa.array([f"object-{seed}-{k:06d}" for k in range(n)]),
        alert_id=pa.array([f"alert-{k}" for k in range(n)]),
        ra=rng.uniform(40, 50, n),
        dec=rng.uniform(-40, -30, n),
        mjd=np.full(n, mjd),
        flux=flux.astype(np.float32),
        flux_err=err.astype(np.float32),
        band_state=state,
        ebv=rng.exponential(0.03, n).astype(np.float32),
        message=np.arange(n, dtype=np.int64),
        row=np.zeros(n, np.int32),
    )
    return made, z
