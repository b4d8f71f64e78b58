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
        The band whose magnitude is the reference (Rubin: i, SDSS: r).
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


# Schlafly & Finkbeiner 2011, ApJ 737, 103, table 6, R_V = 3.1 ("SF11").
BAND_SETS: dict[str, BandSet] = {
    "lsst": BandSet(
        "lsst",
        ("u", "g", "r", "i", "z", "y"),
        "i",
        {"SF11": (4.145, 3.237, 2.273, 1.684, 1.323, 1.088), "none": (0.0,) * 6},
    ),
    "sdss": BandSet(
        "sdss", ("u", "g", "r", "i", "z"), "r", {"SF11": (4.239, 3.303, 2.285, 1.698, 1.263), "none": (0.0,) * 5}
    ),
    "des": BandSet(
        "des", ("g", "r", "i", "z", "y"), "i", {"SF11": (3.237, 2.176, 1.595, 1.217, 1.058), "none": (0.0,) * 5}
    ),
    "ps1": BandSet(
        "ps1", ("g", "r", "i", "z", "y"), "i", {"SF11": (3.172, 2.271, 1.682, 1.322, 1.087), "none": (0.0,) * 5}
    ),
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
