"""E(B-V) from a HEALPix map in a FITS file, as CMB missions and LAMBDA publish maps of dust.

Pixels are read where a galaxy is, out of the file: workers on one machine share the pages, and a map of 50 million pixels
costs none of them its memory. The value is that of the pixel a position falls into, without interpolation.
"""

import gzip
import hashlib
import zlib
from pathlib import Path
from typing import Any

import healpix
import numpy as np
import numpy.typing as npt

from schemas.batch import Float32, Float64, Int64
from schemas.errors import UserError

# To Galactic coordinates from ICRS: Hipparcos catalogue, ESA SP-1200 (1997), volume 1, eq. 1.5.11.
GALACTIC = np.array(
    [
        [-0.0548755604, -0.8734370902, -0.4838350155],
        [+0.4941094279, -0.4448296300, +0.7469822445],
        [-0.8676661490, -0.1980763734, +0.4559837762],
    ]
)
FRAMES = {  # COORDSYS in capitals: whether it is Galactic
    **dict.fromkeys(("G", "GAL", "GALACTIC"), True),
    **dict.fromkeys(("C", "Q", "CEL", "CELESTIAL", "EQ", "EQUATORIAL", "ICRS", "J2000"), False),
}
NAMES = (
    "EBV",
    "E(B-V)",
    "EBMV",
    "E_BV",
    "E_B_V",
    "REDDENING",
    "CSFD",
    "SFD",
    "TEMPERATURE",
)  # LAMBDA's SFD has the last
UNITS = ("mag", "mags", "magnitude", "magnitudes", "none", "unknown", "unitless", "dimensionless", "1", "")
MOST_EBV = 1e4  # mag; what is above is a sentinel

Pixels = npt.NDArray[np.floating]


class DustMap:
    """A map of Galactic reddening.

    Parameters
    ----------
    path
        FITS file with a HEALPix table: the whole sky (implicit) or a part of it (explicit, a column PIXEL), RING or NESTED,
        Galactic or equatorial.
    column
        Which column is E(B-V), mag; by default the one that is called so, or the only one.

    Attributes
    ----------
    sha256
        Of the file and the column's name: part of the processing id.

    Raises
    ------
    UserError
        astropy is not installed, or the file is no such map; the sentence says what is wrong.
    """

    def __init__(self, path: Path, column: str = "") -> None:
        self.path = path
        header, table = _table(path)
        names = [str(name) for name in table.dtype.names or ()]
        self._values, self.column = _values(path, header, table, names, column)
        self._nside = _nside(path, header)
        self._nested = _ordering(path, header)
        self._galactic = _frame(path, header)
        self._pixels, self._order = _explicit(header, table, names)
        whole = 12 * self._nside * self._nside
        if self._pixels is None and self._values.size != whole:
            raise UserError(f"The dust map {path} has {self._values.size:,} pixels, its NSIDE says {whole:,}.")
        self.sha256 = _digest(path, self.column)

    def ebv(self, ra: Float64, dec: Float64) -> Float32:
        """E(B-V), mag, float32[n], at `ra`, `dec`, deg ICRS; NaN where the map has no value, or a negative one."""
        lon, lat = galactic(ra, dec) if self._galactic else (ra, dec)
        pixel = np.asarray(healpix.ang2pix(self._nside, lon, lat, lonlat=True, nest=self._nested), np.int64)
        inside = np.ones(len(pixel), bool)
        if self._pixels is not None:
            at = np.minimum(np.searchsorted(self._pixels, pixel), len(self._pixels) - 1)
            inside = self._pixels[at] == pixel
            pixel = self._order[at]
        value = np.asarray(self._at(pixel), np.float32)
        good = inside & (value >= 0) & (value < MOST_EBV)  # false for NaN, and for UNSEEN, which is -1.6e30
        return np.where(good, value, np.float32(np.nan))

    def _at(self, pixel: Int64) -> Pixels:
        """The values of some pixels. A table may have many in each row; flattening it would copy the map."""
        if self._values.ndim == 1:
            return self._values[pixel]
        width = self._values.shape[1]
        return np.asarray(self._values[pixel // width, pixel % width])


def galactic(ra: Float64, dec: Float64) -> tuple[Float64, Float64]:
    """Galactic longitude and latitude, deg, of `ra`, `dec`, deg ICRS."""
    alpha, delta = np.radians(ra), np.radians(dec)
    equatorial = np.stack([np.cos(delta) * np.cos(alpha), np.cos(delta) * np.sin(alpha), np.sin(delta)])
    x, y, z = GALACTIC @ equatorial
    return np.degrees(np.arctan2(y, x)) % 360.0, np.degrees(np.arctan2(z, np.hypot(x, y)))


def _table(path: Path) -> tuple[Any, Any]:
    """Header and rows of the first HEALPix table of `path`; the rows stay in the file where it is not compressed."""
    try:
        from astropy.io import fits
    except ImportError:
        raise UserError(
            "A dust map is a FITS file: `pip install 'slipher[fits]'` brings astropy, which reads it."
        ) from None
    try:
        found = fits.open(path, memmap=True)
        for hdu in found:
            if isinstance(hdu, fits.BinTableHDU) and ("NSIDE" in hdu.header or hdu.header.get("PIXTYPE") == "HEALPIX"):
                return hdu.header, hdu.data
    except (OSError, ValueError, TypeError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"The dust map {path} cannot be read: {str(error) or type(error).__name__}.") from None
    raise UserError(
        f"The dust map {path} has no HEALPix table. Maps in another projection, such as SFD's own pair of polar images, have "
        f"to be made one first."
    )


def _values(path: Path, header: Any, table: Any, names: list[str], column: str) -> tuple[Pixels, str]:
    if column:
        chosen = [name for name in names if name.upper() == column.upper()]
    else:
        wanted = [name for name in names if name.upper() != "PIXEL"]
        rank = {name: NAMES.index(name.upper()) for name in wanted if name.upper() in NAMES}
        chosen = [min(rank, key=lambda name: rank[name])] if rank else wanted if len(wanted) == 1 else []
    if not chosen:
        raise UserError(
            f"The dust map {path} has the columns {', '.join(names)}: say which is E(B-V) in mag, --dust-column NAME."
        )
    unit = str(header.get(f"TUNIT{names.index(chosen[0]) + 1}", "")).strip()
    if unit.lower() not in UNITS and not column:
        raise UserError(
            f"The column {chosen[0]} of the dust map {path} is in {unit}: if it is E(B-V) in mag for all that, say "
            f"--dust-column {chosen[0]}."
        )
    values = np.asarray(table[chosen[0]])
    if values.dtype.kind not in "fiu" or not values.size:
        raise UserError(f"The column {chosen[0]} of the dust map {path} holds no numbers.")
    return values if values.ndim < 3 else values.reshape(len(values), -1), chosen[0]


def _nside(path: Path, header: Any) -> int:
    nside = header.get("NSIDE", 0)
    if not isinstance(nside, int) or not 0 < nside <= 1 << 15:
        raise UserError(f"The dust map {path} has NSIDE = {nside!r}, which is no size of a HEALPix map.")
    return nside


def _ordering(path: Path, header: Any) -> bool:
    ordering = str(header.get("ORDERING", "")).strip().upper()
    if ordering not in ("RING", "NESTED", "NEST"):
        raise UserError(f"The dust map {path} has ORDERING = {ordering!r}: it must say RING or NESTED.")
    if ordering != "RING" and header["NSIDE"] & (header["NSIDE"] - 1):
        raise UserError(f"The dust map {path} is NESTED with NSIDE = {header['NSIDE']}, which is no power of 2.")
    return ordering != "RING"


def _frame(path: Path, header: Any) -> bool:
    frame = str(header.get("COORDSYS", "")).strip().upper()
    if frame not in FRAMES:
        raise UserError(
            f"The dust map {path} has COORDSYS = {frame!r}: it must say GALACTIC or ICRS (or G, C), for a guess would be "
            f"another place on the sky."
        )
    return FRAMES[frame]


def _explicit(header: Any, table: Any, names: list[str]) -> tuple[Int64 | None, Int64]:
    """Sorted numbers of the pixels of a map of a part of the sky, and in which row each is; None of a whole one."""
    none = np.empty(0, np.int64)
    pixel = next((name for name in names if name.upper() == "PIXEL"), None)
    if pixel is None or str(header.get("INDXSCHM", "EXPLICIT")).strip().upper() == "IMPLICIT":
        return None, none
    numbers = np.asarray(table[pixel], np.int64).reshape(-1)
    order = np.argsort(numbers, kind="stable")
    return numbers[order], order


def _digest(path: Path, column: str) -> str:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update(column.upper().encode())
    return digest.hexdigest()
