"""Generated galaxies for the forest benchmark: five magnitudes, four colours, a size, and a redshift."""

import numpy as np

from schemas.batch import Float32, Float64

WAVELENGTH = np.array([3550.0, 4770.0, 6230.0, 7620.0, 9130.0])  # Angstrom: u, g, r, i, z
LIMIT = np.array([25.0, 26.3, 26.2, 25.6, 24.8])  # magnitudes at which the sky takes over
FEATURES = 10


def galaxies(n: int, seed: int) -> tuple[Float32, Float64]:
    """Features, float32[n, 10], and redshifts, float64[n], of n galaxies brighter than i = 24.5."""
    rng = np.random.default_rng(seed)
    features, redshifts, found = [], [], 0
    while found < n:
        x, z = _drawn(200_000, rng)
        features.append(x)
        redshifts.append(z)
        found += len(z)
    return np.concatenate(features)[:n].copy(), np.concatenate(redshifts)[:n].copy()


def _spectrum(wavelength: Float64, red: Float64, age: Float64) -> Float64:
    """Log flux at rest-frame `wavelength` of galaxies that are blue (0) to red (1): slope, breaks, three emission lines."""
    x = np.log10(wavelength / 4000.0)
    slope = (0.6 + 2.2 * red) * x
    four_thousand = (0.12 + 0.55 * red + 0.05 * age) / (1 + np.exp(-(wavelength - 4000.0) / 120.0))
    lyman = 1.2 / (1 + np.exp(-(wavelength - 1100.0) / 40.0))
    ultraviolet = 0.25 * (1 - red) / (1 + np.exp(-(wavelength - 2600) / 180.0))
    lines = sum(
        a * np.exp(-0.5 * ((wavelength - at) / 90) ** 2) for a, at in ((0.12, 3727), (0.15, 5007), (0.16, 6563))
    )
    return slope + four_thousand + lyman + ultraviolet + (1 - red) * lines


def _drawn(n: int, rng: np.random.Generator) -> tuple[Float32, Float64]:
    z = np.clip(rng.gamma(2.6, 0.30, n), 0.005, 2.99)
    red = np.clip(rng.beta(1.2, 1.5, n) - 0.15 * (z - 0.6), 0, 1)
    age, bright = rng.normal(0, 1, n), rng.normal(0, 0.8, n)
    dust = rng.exponential(0.08, n) * (1 - red)
    modulus = 5 * np.log10(z * 3000 * (1 + 0.25 * z) * 0.98 + 1) + 25
    absolute = -20.6 + 1.2 * bright - 0.5 * red
    visual = _spectrum(np.full(n, 5500.0), red, age)
    true = np.empty((n, 5))
    for band, wavelength in enumerate(WAVELENGTH):
        rest = wavelength / (1 + z)
        colour = _spectrum(rest, red, age) - visual
        true[:, band] = (
            absolute + modulus - 2.5 * colour + 4.05 * dust * (rest / 5500.0) ** -1.1 - 2.5 * np.log10(1 + z)
        )
    depth = 10 ** (0.4 * (true - LIMIT))
    error = np.clip(np.sqrt(0.039 * depth + 0.04 * depth**2 + 0.008**2) * 0.543, 0.005, 0.8)
    seen = np.minimum(true + rng.normal(size=(n, 5)) * error, LIMIT + 2.5)
    kpc = 5.5 * 10 ** (0.1 * (-absolute - 20.5) + 0.1 * rng.normal(size=n)) * (1 + z) ** -0.9
    size = np.log10(np.clip(kpc / (0.35 + z * 3000 / (1 + z) * 9.7e-6), 0.02, 50)) + 0.03 * rng.normal(size=n)
    features = np.concatenate([seen, seen[:, :4] - seen[:, 1:], size[:, None]], 1).astype(np.float32)
    kept = (seen[:, 3] < 24.5) & (seen[:, 3] > 16)
    return features[kept], z[kept]
