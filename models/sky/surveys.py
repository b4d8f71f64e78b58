"""What a simulated survey is: its pixels, its air, its depth, and the galaxies that it picks.

Rounded from what the surveys publish: LSST's seeing and sky (Rubin's SMTN-002) at the depth of a few years' coadds, SDSS imaging
(York et al. 2000; Gunn et al. 1998), Euclid's VIS and NISP mosaics (Euclid Collaboration 2022, A&A 662, A112).
"""

from typing import NamedTuple

from schemas.bands import BandSet, band_set

DUST_LAW = "SF11"  # of the Milky Way: A_band / E(B-V), `schemas.bands`


class SkySurvey(NamedTuple):
    """A survey as the simulator sees it. Sequences are in the order of its bands.

    Attributes
    ----------
    survey
        Name, of `schemas.bands`.
    filters
        Names of the throughputs in speclite.
    pixel
        Arcsec along a side.
    fwhm
        Median width of the point-spread function, arcsec.
    depth
        5 sigma for a point source, AB mag.
    sky
        Surface brightness of the sky, AB mag / arcsec^2: how much of the noise a bright galaxy adds.
    zero_point
        Scatter of the photometric calibration from field to field, mag; one error for stamps and catalogue.
    faintest, brightest
        Limits of the sample in the reference band, AB mag, of the whole galaxy behind the dust.
    z_max
        No galaxy is further out.
    apertures
        Radii of the aperture photometry, arcsec.
    size
        Pixels along a side of a stamp.
    """

    survey: str
    filters: tuple[str, ...]
    pixel: float
    fwhm: tuple[float, ...]
    depth: tuple[float, ...]
    sky: tuple[float, ...]
    zero_point: tuple[float, ...]
    faintest: float
    brightest: float
    z_max: float
    apertures: tuple[float, ...]
    size: int

    @property
    def bands(self) -> BandSet:
        """Names of the bands, and what dust does to them."""
        return band_set(self.survey)

    @property
    def reference(self) -> int:
        """Index of the reference band."""
        return self.bands.bands.index(self.bands.reference)


SURVEYS: dict[str, SkySurvey] = {
    entry.survey: entry
    for entry in (
        SkySurvey(
            "lsst",
            tuple(f"lsst2023-{band}" for band in "ugrizy"),
            pixel=0.2,
            fwhm=(0.92, 0.87, 0.83, 0.80, 0.78, 0.76),
            depth=(25.6, 26.8, 26.9, 26.4, 25.6, 24.8),
            sky=(22.96, 22.26, 21.20, 20.48, 19.60, 18.61),
            zero_point=(0.02, 0.01, 0.01, 0.01, 0.01, 0.015),
            faintest=23.5,
            brightest=18.0,
            z_max=1.6,
            apertures=(0.6, 1.2, 2.4),
            size=64,
        ),
        SkySurvey(
            "sdss",
            tuple(f"sdss2010-{band}" for band in "ugriz"),
            pixel=0.396,
            fwhm=(1.55, 1.45, 1.35, 1.25, 1.25),
            depth=(22.3, 23.1, 22.7, 22.2, 20.8),
            sky=(22.1, 21.8, 20.9, 20.2, 19.0),
            zero_point=(0.02, 0.01, 0.01, 0.01, 0.015),
            faintest=19.8,
            brightest=14.5,
            z_max=0.6,
            apertures=(1.0, 2.0, 4.0),
            size=32,
        ),
        SkySurvey(
            "euclid",
            ("Euclid-VIS", "Euclid-Y", "Euclid-J", "Euclid-H"),
            pixel=0.1,
            fwhm=(0.17, 0.48, 0.50, 0.55),
            depth=(26.2, 24.5, 24.5, 24.4),
            sky=(22.3, 22.1, 22.1, 22.2),
            zero_point=(0.01, 0.015, 0.015, 0.015),
            faintest=23.5,
            brightest=18.0,
            z_max=2.4,
            apertures=(0.3, 0.6, 1.2),
            size=64,
        ),
    )
}


def sky_survey(name: str) -> SkySurvey:
    """The survey `name`; ``KeyError`` names those there are."""
    if name not in SURVEYS:
        raise KeyError(f"no survey called {name!r} can be simulated: there are {', '.join(sorted(SURVEYS))}")
    return SURVEYS[name]
