"""A survey's alert packet as a table: which field of the wire is what of a galaxy. One `Packet` is one survey's file.

A packet is sent for something that changed in the sky, not for a galaxy. The galaxy is its *host*: the packet may carry
photometry of one or more candidates. What a survey does not send is absent: a transient's own flux is never taken for
its host's, a missing E(B-V) is not zero.
"""

import hashlib
import importlib
import json
import pkgutil
from typing import Any, Literal, NamedTuple


class Identifier(NamedTuple):
    """A field that holds a name: a string, or a number that is written out."""

    path: str
    kind: Literal["i8", "string"] = "i8"


class Host(NamedTuple):
    """One candidate for the host galaxy.

    Attributes
    ----------
    magnitude, magnitude_err
        Paths of the AB magnitudes and their errors, one a band in the order of the band set; "" = never sent.
    ra, dec
        Paths of its position, deg; "" = not sent: the row then stands where the transient does.
    separation
        Path of its distance from the transient, arcsec; "" = candidates are in the survey's own order of likelihood.
    star
        Path of the probability that it is a star, 0 to 1; "" = candidates are galaxies.
    """

    magnitude: tuple[str, ...]
    magnitude_err: tuple[str, ...]
    ra: str = ""
    dec: str = ""
    separation: str = ""
    star: str = ""


class NominalErrors(NamedTuple):
    """Errors of magnitudes that come without: sigma_m^2 = floor^2 + (1.0857 x 0.2 x 10^(0.4 (m - depth)))^2.

    ``depth`` is the magnitude of a 5 sigma detection in each band, ``floor`` the scatter of bright sources, mag. Rows made
    with them carry ``NOMINAL_ERRORS``.
    """

    floor: float
    depth: tuple[float, ...]


class Choice(NamedTuple):
    """Which candidate is the host.

    Attributes
    ----------
    radius
        Candidates farther from the transient than this are none, arcsec.
    star
        A candidate is a galaxy where its probability of being a star is below this.
    star_radius
        A star nearer than this is what changed: then there is no host, arcsec.
    """

    radius: float = float("inf")
    star: float = 0.5
    star_radius: float = 0.0


class Packet(NamedTuple):
    """The packets of one survey.

    Attributes
    ----------
    name
        As `slipher run --alerts` has it; also names the rule of the night (``schemas.night.ROLLOVERS``).
    version
        Part of the processing id: raise it whenever the same packet would give another row than before.
    survey
        Whose bands the host's magnitudes are in (``schemas.bands``).
    object_id
        The first that a packet has is the object's name.
    alert_id, ra, dec, time
        The alert's name; the transient's position, deg ICRS; the time of the exposure.
    epoch
        MJD at which `time` is 0: 0 for MJD, -2400000.5 for JD.
    hosts, choice
        The candidates, and which of them is the host.
    plausible
        Magnitudes outside are sentinels: the band was not observed.
    errors
        What stands for errors that are never sent.
    ebv
        Path of the Galactic E(B-V), mag; "" = not sent.
    fixed
        Path of a record that only a source fixed on the sky has: null = a moving object. "" = not sent.
    moving
        Path of the distance to a known solar-system object, arcsec, and below which the source is that object.
    cutouts
        Name and path of each image.
    """

    name: str
    version: str
    survey: str
    object_id: tuple[Identifier, ...]
    alert_id: Identifier
    ra: str
    dec: str
    time: str
    epoch: float = 0.0
    hosts: tuple[Host, ...] = ()
    choice: Choice = Choice()
    plausible: tuple[float, float] = (5.0, 35.0)
    errors: NominalErrors | None = None
    ebv: str = ""
    fixed: str = ""
    moving: tuple[str, float] | None = None
    cutouts: tuple[tuple[str, str], ...] = ()


def surveys() -> list[str]:
    """Names of the surveys whose packets are known: the files of ``schemas.surveys`` that hold a ``PACKET``."""
    import schemas.surveys

    names = sorted(module.name for module in pkgutil.iter_modules(schemas.surveys.__path__))
    return [name for name in names if hasattr(importlib.import_module(f"schemas.surveys.{name}"), "PACKET")]


def packet(name: str) -> Packet:
    """The packets of survey `name`, one of ``surveys()``."""
    found: Packet = importlib.import_module(f"schemas.surveys.{name}").PACKET
    return found


def fingerprint(packet: Packet) -> str:
    """Eight hex digits of all that `packet` says, for the processing id: an edited table is another processing."""
    return hashlib.sha256(json.dumps(_said(packet), sort_keys=True).encode()).hexdigest()[:8]


def _said(value: Any) -> Any:
    """A table as JSON, without what stands at its default: a field that is added later changes no other survey's print."""
    if hasattr(value, "_field_defaults"):
        defaults = value._field_defaults
        fields = value._asdict().items()
        return {key: _said(item) for key, item in fields if key not in defaults or item != defaults[key]}
    return [_said(item) for item in value] if isinstance(value, tuple) else value
