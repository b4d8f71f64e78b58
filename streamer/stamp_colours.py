"""A stamp in colour: three of its bands as red, green and blue, by the arcsinh stretch of Lupton et al. 2004 (PASP 116, 133).

Its stretch keeps colours: however bright a pixel, its hue is that of the light. Blue galaxies look blue, red ones red.
"""

from typing import NamedTuple

import numpy as np

from schemas.batch import Float32, UInt8
from schemas.errors import UserError
from streamer.stamps import Stamp

FAMILIAR = ("i", "r", "g")  # as SDSS and Rubin show the sky
WEIGHTS = (0.75, 1.0, 1.5)  # of red, green, blue: galaxies emit more towards the red in nJy
STRETCH = 8.0  # in units of the noise of the three bands' mean: linear below
SOFTENING = 9.0  # Lupton's Q: how far the stretch reaches up
BLACK = -0.5  # in the same units: what is below is black
MASKED = np.array([60, 60, 66], np.uint8)


class Colours(NamedTuple):
    """A picture, and which bands are its red, green and blue."""

    rgb: UInt8  # [height, width, 3], rows as the stamp's
    bands: tuple[str, str, str]

    @property
    def told(self) -> str:
        """The bands, for people."""
        return self.bands[0] if len(set(self.bands)) == 1 else " ".join(self.bands)


def coloured(stamp: Stamp) -> Colours:
    """The stamp in colour; grey where fewer than two bands have pixels.

    Raises
    ------
    UserError
        astropy is not installed, or no pixel has a value.
    """
    seen = [
        b
        for b in range(len(stamp.bands))
        if np.isfinite(stamp.planes[b]).any() and np.nanmax(np.abs(stamp.planes[b])) > 0
    ]
    if not seen:
        raise UserError(f"No pixel of the stamp in {stamp.where} has a value.")
    try:
        from astropy.visualization import make_lupton_rgb
    except ImportError:
        raise UserError("Stamps in colour need astropy: pip install 'slipher[fits]'.") from None
    which = channels([stamp.bands[b] for b in seen])
    planes = [_sky_off(stamp.planes[seen[k]]) for k in which]
    masked = ~np.isfinite(planes).all(axis=0)
    red, green, blue = (
        np.nan_to_num(plane) * (weight if len(set(which)) > 1 else 1.0)
        for plane, weight in zip(planes, WEIGHTS, strict=True)
    )
    noise = _noise((red + green + blue) / 3)
    rgb: UInt8 = make_lupton_rgb(red, green, blue, minimum=BLACK * noise, stretch=STRETCH * noise, Q=SOFTENING)
    rgb[masked] = MASKED
    named = tuple(stamp.bands[seen[k]] for k in which)
    return Colours(rgb, (named[0], named[1], named[2]))


def channels(bands: list[str]) -> tuple[int, int, int]:
    """Which bands, blue to red, are red, green and blue: i, r, g where they are there, else the ends and one between."""
    if all(band in bands for band in FAMILIAR):
        red, green, blue = (bands.index(band) for band in FAMILIAR)
        return red, green, blue
    last = len(bands) - 1
    return last, (last + 1) // 2, 0


def _border(plane: Float32) -> Float32:
    """Pixels of the outermost tenth on each side, which are sky as a rule."""
    wide = max(1, min(plane.shape) // 10)
    inner = np.ones(plane.shape, bool)
    inner[wide:-wide, wide:-wide] = False
    values = plane[inner & np.isfinite(plane)]
    return values if len(values) else plane[np.isfinite(plane)]


def _sky_off(plane: Float32) -> Float32:
    return plane - np.float32(np.median(_border(plane)))


def _noise(plane: Float32) -> float:
    border = _border(plane)
    return float(1.4826 * np.median(np.abs(border - np.median(border)))) or float(np.ptp(plane)) / 100 or 1.0
