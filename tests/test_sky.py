"""The simulated sky: light is where it should be, photometry is that of the stamps, the same seed is the same sky."""

import numpy as np
import pytest

from models.sky import colours, curves, profiles, simulate
from models.sky.measure import measured
from models.sky.population import comoving_distance, distance_modulus
from models.sky.render import _draw, rendered
from models.sky.surveys import SURVEYS, SkySurvey, sky_survey
from schemas.errors import UserError

SDSS = sky_survey("sdss")


@pytest.fixture(scope="module")
def sky() -> simulate.Sky:
    return simulate.simulate(SDSS, 600, seed=3, threads=2)


def test_the_same_seed_is_the_same_sky_on_any_number_of_threads(sky: simulate.Sky) -> None:
    again = simulate.simulate(SDSS, 600, seed=3, threads=1)
    np.testing.assert_array_equal(again.stamps, sky.stamps)
    np.testing.assert_array_equal(again.measured.flux, sky.measured.flux)
    assert not np.array_equal(simulate.simulate(SDSS, 64, seed=4).stamps, sky.stamps[:64])


def test_a_longer_sky_begins_with_the_shorter_one(sky: simulate.Sky) -> None:
    short = simulate.simulate(SDSS, 256, seed=3)
    np.testing.assert_array_equal(short.stamps, sky.stamps[:256])


def test_what_comes_out_is_whole(sky: simulate.Sky) -> None:
    assert sky.stamps.shape == sky.variance.shape == (600, 5, 32, 32)
    assert sky.stamps.dtype == sky.variance.dtype == np.float32
    for array in (sky.stamps, sky.variance, *sky.measured, *sky.truth, sky.ebv):
        assert np.isfinite(array).all()
    assert (sky.variance > 0).all()
    assert (sky.measured.flux_err > 0).all()
    assert sky.truth.z.min() > 0
    assert sky.truth.z.max() < SDSS.z_max
    seen = 31.4 - 2.5 * np.log10(sky.truth.flux[:, 2]) + 2.285 * sky.truth.ebv
    assert seen.max() < SDSS.faintest
    assert seen.min() > SDSS.brightest


@pytest.mark.parametrize("name", sorted(SURVEYS))
def test_every_survey_can_be_simulated(name: str) -> None:
    survey: SkySurvey = sky_survey(name)
    few = simulate.simulate(survey, 8, seed=1)
    assert few.stamps.shape == (8, len(survey.bands.bands), survey.size, survey.size)
    assert len(survey.filters) == len(survey.fwhm) == len(survey.depth) == len(survey.sky) == len(survey.zero_point)


def test_the_physics_goes_the_right_way(sky: simulate.Sky) -> None:
    truth = sky.truth
    colour = -2.5 * np.log10(truth.flux[:, 1] / truth.flux[:, 2])
    near = truth.z < 0.2
    assert np.median(colour[near & (truth.t_type < -1)]) > np.median(colour[near & (truth.t_type > 4)]) + 0.2
    assert np.median(truth.bulge[truth.t_type < -3]) > 0.7 > 0.2 > np.median(truth.bulge[truth.t_type > 4])
    far = truth.z > np.median(truth.z)
    assert truth.log_mass[far].mean() > truth.log_mass[~far].mean()  # a flux limit
    assert (truth.bar_length[truth.t_type < -1] == 0).all()
    assert 0.1 < (truth.bar_length > 0).mean() < 0.6


def test_photometry_is_that_of_the_noisy_stamps(sky: simulate.Sky) -> None:
    """A stamp with its noise drawn again is measured anew: the scatter is what the errors say."""
    rng = np.random.default_rng(1)
    i = int(np.argsort(sky.measured.flux[:, 2])[300])
    clean = np.repeat(sky.stamps[i : i + 1], 200, 0)
    noisy = clean + np.sqrt(sky.variance[i]) * rng.standard_normal(clean.shape, np.float32)
    variance = np.repeat(sky.variance[i : i + 1], 200, 0)
    fwhm = np.tile(SDSS.fwhm, (200, 1))
    found = measured(noisy, variance, fwhm, simulate.sky_noise(SDSS), SDSS.pixel, SDSS.apertures)
    scatter = found.aperture.std(0) / found.aperture_err.mean(0)
    assert (scatter[:2] > 0.7).all()  # the third adds sky that hides nothing
    assert (scatter < 1.6).all()  # where the circle lies is measured too


def test_a_star_is_measured_whole() -> None:
    """A Gaussian of the seeing: its matched flux is its flux, its size nothing."""
    fwhm = np.tile(SDSS.fwhm, (1, 1))
    stamp = np.zeros((1, 5, 32, 32), np.float32)
    column = np.arange(32).astype(np.float32)
    for b, width in enumerate(SDSS.fwhm):
        v = (width / SDSS.pixel / 2.3548) ** 2
        _draw(stamp[0, b], column, 15.3, 16.1, v, 0.0, v, 1000.0)
    found = measured(stamp, np.ones_like(stamp), fwhm, simulate.sky_noise(SDSS), SDSS.pixel, SDSS.apertures)
    np.testing.assert_allclose(found.flux, 1000.0, rtol=0.06)  # it is taken to be a little wider than the seeing
    np.testing.assert_allclose(found.aperture[0, 2], 1000.0, rtol=0.01)
    assert found.size[0] < 0.3
    assert found.ellipticity[0] < 0.05


def test_a_drawn_gaussian_is_the_naive_one() -> None:
    image = np.zeros((40, 40), np.float32)
    _draw(image, np.arange(40).astype(np.float32), 18.3, 21.7, 9.0, 3.0, 14.0, 50.0)
    inverse = np.linalg.inv([[9.0, 3.0], [3.0, 14.0]])
    y, x = np.indices((40, 40))
    d = np.stack([x - 18.3, y - 21.7])
    twin = (
        50.0 * np.exp(-0.5 * np.einsum("iab,ij,jab->ab", d, inverse, d)) * np.sqrt(np.linalg.det(inverse)) / (2 * np.pi)
    )
    np.testing.assert_allclose(image, twin, atol=3e-4 * twin.max())
    assert image.sum() == pytest.approx(50.0, rel=2e-3)


def test_galaxies_keep_their_light() -> None:
    survey = SDSS
    few = simulate.drawn(40, survey, colours.tables(survey), np.random.default_rng(5))
    fwhm, centre = np.tile(survey.fwhm, (40, 1)), np.full((40, 2), 63.5)
    stamps = rendered(few, few.flux, fwhm, centre, survey.pixel, 128)
    inside = stamps.sum((2, 3)) / few.flux.sum(1)
    assert np.median(inside) == pytest.approx(1.0, abs=0.005)
    assert inside.max() < 1.001
    y, x = np.indices((128, 128)) - 63.5
    round_about = (stamps[:, 2] * x).sum((1, 2)) / stamps[:, 2].sum((1, 2)), (stamps[:, 2] * y).sum((1, 2))
    assert np.abs(round_about[0]).max() < 1.0  # bars and arms are two-sided


@pytest.mark.parametrize("index", [1.0, 4.0])
def test_profiles_hold_half_their_light_within_their_radius(index: float) -> None:
    of = profiles.sersic(index)
    assert of.share.sum() == pytest.approx(1.0)
    assert (of.share * (1 - np.exp(-0.5 / of.variance))).sum() == pytest.approx(0.5, abs=0.002)
    r = np.linspace(0.3, 3, 50)
    b = 2 * index - 1 / 3 + 0.009876 / index
    drawn = (of.share * np.exp(-0.5 * r[:, None] ** 2 / of.variance) / of.variance).sum(1)
    truth = np.exp(-b * (r ** (1 / index) - 1))
    np.testing.assert_allclose(drawn / drawn[12], truth / truth[12], rtol=0.2)


def test_fluxes_are_those_of_the_plain_integral() -> None:
    of = colours.tables(SDSS)
    star, band, red = curves.spectra()[13], curves.filter_curve("sdss2010-i"), curves.filter_curve("sdss2010-r")

    def mean(wavelength: np.ndarray, value: np.ndarray, curve: curves.Curve) -> float:
        fine = np.linspace(curve.wavelength[0], curve.wavelength[-1], 6000)
        through = np.interp(fine, curve.wavelength, curve.value) * np.interp(fine, wavelength, value) * fine
        norm = np.interp(fine, curve.wavelength, curve.value) / fine
        return float(np.trapezoid(through, fine) / np.trapezoid(norm, fine))

    z = 0.25
    want = mean(star.wavelength * (1 + z), star.value / (1 + z), band) / mean(star.wavelength, star.value, red)
    one = np.ones(1)
    got = colours.fluxes(of, 13 * one, 0 * one, z * one, 0 * one, 0 * one)[0, 3]
    assert got == pytest.approx(want, rel=0.005)
    dusty = colours.fluxes(of, 13 * one, 1.0 * one, z * one, 0 * one, 0 * one)[0]
    clean = colours.fluxes(of, 13 * one, 0 * one, z * one, 0 * one, 0 * one)[0]
    dimming = -2.5 * np.log10(dusty / clean)
    assert (np.diff(dimming) < 0).all()  # blue more than red
    assert dimming[1] > 1.0 > dimming[4]


def test_lines_are_in_the_band_that_they_are_redshifted_into() -> None:
    of = colours.tables(SDSS)
    one = np.ones(1)

    def gain(z: float) -> np.ndarray:
        parts = [colours.fluxes(of, 27 * one, 0 * one, z * one, gas * one, one)[0] for gas in (1.0, 0.0)]
        return parts[0] / parts[1] - 1

    assert gain(0.02)[2] > 0.1  # H alpha in r
    assert gain(0.17)[3] > 0.1  # in i
    assert gain(0.17)[2] < gain(0.02)[2]
    assert gain(0.45)[4] > 0.05  # in z


def test_hydrogen_between_the_galaxies_takes_the_ultraviolet() -> None:
    seen = np.array([3000.0, 4000.0, 5500.0, 7000.0])
    through = colours._transmission(seen, 4.0)
    assert through[0] < 0.1
    assert through[2] == pytest.approx(np.exp(-0.0036 * (5500 / 1215.67) ** 3.46), rel=0.01)  # Lyman alpha alone
    assert through[3] == 1.0
    assert (colours._transmission(seen, 0.5) == 1.0).all()


def test_distances_are_those_of_the_textbook() -> None:
    z = np.array([0.1, 1.0])
    np.testing.assert_allclose(comoving_distance(z), [418.5, 3303.8], rtol=2e-3)
    np.testing.assert_allclose(distance_modulus(z), [38.31, 44.10], atol=0.01)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv(curves.FOLDER, str(tmp_path))
    with pytest.raises(UserError, match="pip install --no-deps speclite"):
        curves.filter_curve("sdss2010-g")


def test_a_survey_nobody_knows_is_named() -> None:
    with pytest.raises(KeyError, match="euclid, lsst, sdss"):
        sky_survey("dss")
