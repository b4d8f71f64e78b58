"""Photometric systems: their entries hang together, and dust means what it says."""

import numpy as np
import pytest

from models.photometry import MAX_BANDS
from schemas.bands import BAND_SETS, band_set, of_card

# Nominal effective wavelengths of filters that go by one name everywhere here, nm: for order only.
WAVELENGTH = {"u": 360, "g": 480, "r": 620, "vis": 720, "i": 755, "z": 870, "y": 980, "j": 1364, "h": 1768}


@pytest.mark.parametrize("survey", sorted(BAND_SETS))
def test_an_entry_is_whole(survey: str) -> None:
    entry = band_set(survey)
    assert entry.survey == survey
    assert entry.reference in entry.bands
    assert len(set(entry.bands)) == len(entry.bands) <= MAX_BANDS
    assert entry.bands == tuple(sorted(entry.bands, key=WAVELENGTH.__getitem__)), "blue to red"
    assert {"SF11", "none"} <= set(entry.dust)
    for law in entry.dust.values():
        assert len(law) == len(entry.bands)
    assert entry.law("none") == (0.0,) * len(entry.bands)
    assert (np.diff(entry.law("SF11")) < 0).all(), "dust dims blue light more"


def test_dust_of_the_same_filter_name_is_nearly_the_same() -> None:
    """The filters differ; a slip of the pen would not be as small."""
    for band, others in {"g": 0.04, "r": 0.06, "i": 0.07, "z": 0.09}.items():
        values = [e.law("SF11")[e.bands.index(band)] for e in BAND_SETS.values() if band in e.bands]
        assert np.ptp(values) <= 2 * others * np.mean(values)


# Fitzpatrick 1999, table 3: A(lambda) / E(B-V) for R_V = 3.1 at inverse wavelengths in 1/um.
INVERSE = (0.0, 0.377, 0.820, 1.667, 1.828, 2.141, 2.433, 3.704, 3.846)
CURVE = (0.0, 0.265, 0.829, 2.688, 3.055, 3.806, 4.315, 6.265, 6.591)


@pytest.mark.parametrize(
    ("survey", "band", "nm", "share"),
    [
        *(("lsst", band, nm, 0.02) for band, nm in zip("grizy", (479, 621, 755, 867, 974), strict=True)),
        # wide bands: the source's own colour moves the middle
        *(("euclid", band, nm, 0.05) for band, nm in (("vis", 715), ("y", 1080), ("j", 1364), ("h", 1768))),
    ],
)
def test_dust_is_the_curve_it_is_named_after(survey: str, band: str, nm: float, share: float) -> None:
    """Fitzpatrick's curve at the middle of the band, 0.78 * 1.32 at 1 um (Schlafly & Finkbeiner 2011)."""
    from scipy.interpolate import CubicSpline

    curve = CubicSpline(INVERSE, CURVE)
    want = 0.78 * 1.32 * curve(1000 / nm) / curve(1.0)
    entry = band_set(survey)
    assert entry.law("SF11")[entry.bands.index(band)] == pytest.approx(float(want), rel=share)


def test_names_nobody_has_are_refused() -> None:
    with pytest.raises(KeyError, match=r"no survey is called 'hst'.*euclid, euclid_des, lsst"):
        band_set("hst")
    with pytest.raises(KeyError, match="euclid has no dust law 'CCM': SF11, none"):
        band_set("euclid").law("CCM")


def test_a_card_describes_its_own_bands() -> None:
    card = {"survey": "new", "bands": ["a", "b"], "reference": "b", "dust_law": "mine", "dust": [2.0, 1.0]}
    entry = of_card(card)
    assert entry.bands == ("a", "b")
    assert entry.law("mine") == (2.0, 1.0)
