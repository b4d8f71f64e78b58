"""Photometric systems as data: a survey's bands, and what dust does to them. A new survey is a new entry here."""

from typing import Any, NamedTuple


class BandSet(NamedTuple):
    """The bands of a survey.

    Attributes
    ----------
    survey
        Name, as it stands in messages, bundles and the table.
    bands
        Names, blue to red.
    reference
        The band whose magnitude is the reference (Rubin: i, SDSS: r, Euclid: VIS).
    dust
        A_band / E(B-V), mag per mag, by name of the law.
    """

    survey: str
    bands: tuple[str, ...]
    reference: str
    dust: dict[str, tuple[float, ...]]

    def law(self, name: str) -> tuple[float, ...]:
        """A_band / E(B-V) of the law `name`; ``KeyError`` names those there are."""
        if name not in self.dust:
            raise KeyError(f"survey {self.survey} has no dust law {name!r}: {', '.join(sorted(self.dust))}")
        return self.dust[name]


# "SF11": Schlafly & Finkbeiner 2011, ApJ 737, 103, table 6, R_V = 3.1. They have no Euclid. Its coefficients are made their way:
# the curve of Fitzpatrick 1999 (PASP 111, 63), A(1 um) = 0.78 * 1.32 E(B-V), a source of 7000 K behind E(B-V) = 0.1, and the
# responses of VIS and NISP that speclite 1.0 carries. LSST, SDSS, DES and PS1 come out within 2 % that way.
BAND_SETS: dict[str, BandSet] = {
    entry.survey: entry
    for entry in (
        BandSet(
            "lsst",
            ("u", "g", "r", "i", "z", "y"),
            "i",
            {"SF11": (4.145, 3.237, 2.273, 1.684, 1.323, 1.088), "none": (0.0,) * 6},
        ),
        BandSet(
            "sdss", ("u", "g", "r", "i", "z"), "r", {"SF11": (4.239, 3.303, 2.285, 1.698, 1.263), "none": (0.0,) * 5}
        ),
        BandSet(
            "des", ("g", "r", "i", "z", "y"), "i", {"SF11": (3.237, 2.176, 1.595, 1.217, 1.058), "none": (0.0,) * 5}
        ),
        BandSet(
            "ps1", ("g", "r", "i", "z", "y"), "i", {"SF11": (3.172, 2.271, 1.682, 1.322, 1.087), "none": (0.0,) * 5}
        ),
        BandSet("euclid", ("vis", "y", "j", "h"), "vis", {"SF11": (1.870, 0.922, 0.631, 0.422), "none": (0.0,) * 4}),
        BandSet(  # with the ground's griz of DES, whose coefficients these are
            "euclid_des",
            ("g", "r", "vis", "i", "z", "y", "j", "h"),
            "vis",
            {"SF11": (3.237, 2.176, 1.870, 1.595, 1.217, 0.922, 0.631, 0.422), "none": (0.0,) * 8},
        ),
    )
}


def band_set(survey: str) -> BandSet:
    """The band set of `survey`; ``KeyError`` names those there are."""
    if survey not in BAND_SETS:
        raise KeyError(f"no survey is called {survey!r}: there are {', '.join(sorted(BAND_SETS))}")
    return BAND_SETS[survey]


def of_card(card: dict[str, Any]) -> BandSet:
    """The band set that a model card describes: its own bands, whatever this version of slipher knows of the survey."""
    dust = {card["dust_law"]: tuple(card["dust"])}
    return BandSet(card["survey"], tuple(card["bands"]), card["reference"], dust)
