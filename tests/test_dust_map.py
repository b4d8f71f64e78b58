"""E(B-V) from HEALPix maps, made here in every shape that such files have, against astropy's own coordinates."""

import itertools
import shutil
from pathlib import Path
from typing import Any

import healpix
import numpy as np
import pytest

from schemas.dust_map import DustMap, galactic
from schemas.errors import UserError

NSIDE = 8
PIXELS = 12 * NSIDE * NSIDE
RNG = np.random.default_rng(1)
RA, DEC = RNG.uniform(0, 360, 500), np.degrees(np.arcsin(RNG.uniform(-1, 1, 500)))
WHOLE = np.linspace(0.01, 3.0, PIXELS).astype(np.float32)  # every pixel has its own


def write(path: Path, columns: dict[str, Any], **header: Any) -> Path:
    """A map file; `columns` are arrays, [pixels] or [rows, pixels in a row]."""
    from astropy.io import fits

    made = []
    for name, values in columns.items():
        letter = {"f4": "E", "f8": "D", "i4": "J", "i8": "K"}[values.dtype.str[1:]]
        width = values.shape[1] if values.ndim == 2 else ""
        made.append(fits.Column(name, f"{width}{letter}", array=values))
    table = fits.BinTableHDU.from_columns(made)
    standard = {"PIXTYPE": "HEALPIX", "NSIDE": NSIDE, "ORDERING": "RING", "COORDSYS": "G"}
    for key, value in (standard | header).items():
        if value is not None:
            table.header[key] = value
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path, overwrite=True)
    return path


def twin(ra: np.ndarray, dec: np.ndarray, nested: bool, is_galactic: bool) -> np.ndarray:
    """The pixel of each position, by astropy's coordinates."""
    from astropy.coordinates import SkyCoord

    lon, lat = ra, dec
    if is_galactic:
        there = SkyCoord(ra, dec, unit="deg", frame="icrs").galactic
        lon, lat = there.l.deg, there.b.deg
    return np.asarray(healpix.ang2pix(NSIDE, lon, lat, lonlat=True, nest=nested))


@pytest.mark.parametrize(
    ("nested", "is_galactic", "width", "number"), [*itertools.product((0, 1), (0, 1), (0, 64), ("f4", "f8"))]
)
def test_whole_maps(tmp_path: Path, nested: int, is_galactic: int, width: int, number: str) -> None:
    values = WHOLE.astype(number)
    path = write(
        tmp_path / "map.fits",
        {"EBV": values.reshape(-1, width) if width else values},
        ORDERING="NESTED" if nested else "RING",
        COORDSYS="GALACTIC" if is_galactic else "C",
    )
    found = DustMap(path).ebv(RA, DEC)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, WHOLE[twin(RA, DEC, bool(nested), bool(is_galactic))])


def test_galactic_coordinates_are_astropys() -> None:
    from astropy.coordinates import SkyCoord

    ra, dec = np.append(RA, [0, 360, 12, 12, 266.405, 192.859]), np.append(DEC, [0, 0, 90, -90, -28.936, 27.128])
    lon, lat = galactic(ra, dec)
    there = SkyCoord(ra, dec, unit="deg", frame="icrs").galactic
    apart = SkyCoord(lon, lat, unit="deg").separation(SkyCoord(there.l.deg, there.b.deg, unit="deg"))
    assert apart.arcsec.max() < 0.05  # astropy goes by way of FK5, which is 0.02 arcsec off
    assert ((lon >= 0) & (lon < 360)).all()


def test_what_the_map_does_not_know_is_unknown_and_never_nothing(tmp_path: Path) -> None:
    values = WHOLE.copy()
    for k, strange in enumerate((np.nan, -1.6375e30, -1.0, np.inf, 1e30)):
        values[k::7] = strange
    dust = DustMap(write(tmp_path / "map.fits", {"EBV": values}))
    pixel = twin(RA, DEC, False, True)
    strange = (pixel % 7) < 5
    found = dust.ebv(RA, DEC)
    assert np.isnan(found[strange]).all()
    assert strange.any()
    np.testing.assert_array_equal(found[~strange], WHOLE[pixel[~strange]])
    assert dust.ebv(RA[:0], DEC[:0]).shape == (0,)


def test_a_map_of_a_part_of_the_sky(tmp_path: Path) -> None:
    some = RNG.permutation(PIXELS)[: PIXELS // 2]
    path = write(tmp_path / "map.fits", {"PIXEL": some.astype(np.int64), "EBV": WHOLE[some]}, INDXSCHM="EXPLICIT")
    pixel = twin(RA, DEC, False, True)
    expected = np.where(np.isin(pixel, some), WHOLE[pixel], np.nan)
    np.testing.assert_array_equal(DustMap(path).ebv(RA, DEC), expected.astype(np.float32))


def test_which_column(tmp_path: Path) -> None:
    several = {"TAU353": WHOLE, "ERR_EBV": WHOLE, "EBV": 2 * WHOLE}
    path = write(tmp_path / "map.fits", several)
    assert DustMap(path).column == "EBV"
    assert DustMap(path, "tau353").column == "TAU353"
    assert DustMap(path).sha256 != DustMap(path, "tau353").sha256
    assert DustMap(write(tmp_path / "b.fits", {"N_OBS": WHOLE, "TEMPERATURE": WHOLE})).column == "TEMPERATURE"
    assert DustMap(write(tmp_path / "c.fits", {"whatever": WHOLE})).column == "whatever"
    assert DustMap(write(tmp_path / "d.fits", {"whatever": WHOLE}, TUNIT1="uK_CMB"), "whatever").column == "whatever"


def test_the_hash_is_of_the_pixels(tmp_path: Path) -> None:
    first = DustMap(write(tmp_path / "a.fits", {"EBV": WHOLE}))
    shutil.copy(tmp_path / "a.fits", tmp_path / "b.fits")
    assert DustMap(tmp_path / "b.fits").sha256 == first.sha256
    assert DustMap(write(tmp_path / "c.fits", {"EBV": WHOLE * 1.001})).sha256 != first.sha256


def test_a_compressed_file(tmp_path: Path) -> None:
    path = write(tmp_path / "map.fits.gz", {"EBV": WHOLE})
    np.testing.assert_array_equal(DustMap(path).ebv(RA, DEC), WHOLE[twin(RA, DEC, False, True)])


@pytest.mark.parametrize(
    ("columns", "header", "words"),
    [
        ({"EBV": WHOLE}, {"COORDSYS": None}, "COORDSYS = ''"),
        ({"EBV": WHOLE}, {"COORDSYS": "E"}, "COORDSYS = 'E'"),
        ({"EBV": WHOLE}, {"ORDERING": "PEANO"}, "ORDERING = 'PEANO'"),
        ({"EBV": WHOLE}, {"NSIDE": 0}, "NSIDE = 0"),
        ({"EBV": WHOLE[:-1]}, {}, "767 pixels, its NSIDE says 768"),
        ({"EBV": WHOLE}, {"NSIDE": 9}, "768 pixels, its NSIDE says 972"),
        ({"EBV": np.zeros(12 * 9 * 9)}, {"NSIDE": 9, "ORDERING": "NESTED"}, "no power of 2"),
        ({"TAU353": WHOLE, "BETA": WHOLE}, {}, "the columns TAU353, BETA: say which"),
        ({"I_STOKES": WHOLE}, {"TUNIT1": "K_CMB"}, "is in K_CMB"),
        ({"EBV": WHOLE}, {"NSIDE": None, "PIXTYPE": None}, "no HEALPix table"),
    ],
)
def test_files_that_are_no_map(tmp_path: Path, columns: dict[str, Any], header: dict[str, Any], words: str) -> None:
    path = write(tmp_path / "map.fits", columns, **header)
    with pytest.raises(UserError, match=r"The (dust map|column)") as error:
        DustMap(path)
    assert words in str(error.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no FITS file")
    for path in (tmp_path / "missing.fits", tmp_path / "text", tmp_path):
        with pytest.raises(UserError, match="cannot be read"):
            DustMap(path)
    with pytest.raises(UserError, match="say which"):
        DustMap(write(tmp_path / "map.fits", {"EBV": WHOLE}), "SFD")
