"""Galaxies as ELAsTiCC-style packets: each is the host of a transient that is not there. For demonstrations and load tests.

The schema is a subset of ELAsTiCC's v0.9 under names of our own: whoever reads ELAsTiCC by field names reads these too. Such
a packet says less than a native message: magnitudes instead of fluxes, no difference between a band that was not observed
and one in which nothing was seen, and numbers for names.

Between a few numbers of variable length all fields are fixed, and laid out by NumPy for all galaxies at once. The tests hold
this against an Avro library.
"""

import hashlib
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.avro.write import zigzag
from schemas.bands import band_set
from schemas.batch import BandState, Float32, Galaxies, UInt8
from schemas.hosts import MAGNITUDE_ERRORS
from schemas.magnitudes import magnitude_from_flux
from schemas.surveys.elasticc import PACKET

MISSING = 999.0  # ELAsTiCC's magnitude of nothing
_BANDS = "ugrizY"
_HOSTS = ("hostgal", "hostgal2")
_LARGEST = (1 << 63) - 1
_HASHED = 1 << 62


def _field(name: str, kind: Any, doc: str = "") -> dict[str, Any]:
    return {"name": name, "type": kind, "doc": doc} if doc else {"name": name, "type": kind}


def _host_fields(host: str) -> list[dict[str, Any]]:
    names = [f"{host}_{what}_{band}" for what in ("mag", "magerr") for band in _BANDS]
    names += [f"{host}_{what}" for what in ("ra", "dec", "snsep")]
    return [_field(name, ["null", "float"]) for name in names]


_SOURCE = {
    "type": "record",
    "name": "diaSource",
    "fields": [
        _field("diaSourceId", "long"),
        _field("diaObjectId", ["null", "long"]),
        _field("midPointTai", "double", "MJD, TAI"),
        _field("filterName", "string"),
        _field("ra", "double", "deg"),
        _field("decl", "double", "deg"),
        _field("psFlux", "float", "zero point 27.5"),
        _field("psFluxErr", "float"),
        _field("snr", "float"),
    ],
}
_OBJECT = {
    "type": "record",
    "name": "diaObject",
    "fields": [
        _field("diaObjectId", "long"),
        _field("ra", "double"),
        _field("decl", "double"),
        _field("mwebv", ["null", "float"], "Galactic E(B-V), mag"),
        *(field for host in _HOSTS for field in _host_fields(host)),
    ],
}
AVRO_SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "alert",
    "namespace": "slipher.elasticc",
    "doc": "ELAsTiCC v0.9 by field names, without what slipher does not need.",
    "fields": [
        _field("alertId", "long"),
        _field("diaSource", _SOURCE),
        _field("prvDiaSources", ["null", {"type": "array", "items": "diaSource"}]),
        _field("diaObject", ["null", _OBJECT]),
        _field("cutoutDifference", ["null", "bytes"]),
        _field("cutoutTemplate", ["null", "bytes"]),
    ],
}


class Magnitudes(NamedTuple):
    """Photometry of n galaxies as ELAsTiCC has it: AB magnitudes and their errors, float32[n, B], both 999 for nothing."""

    magnitude: Float32
    error: Float32

    @property
    def missing(self) -> npt.NDArray[np.bool_]:
        """Bands that are not there, bool[n, B]."""
        return self.magnitude == np.float32(MISSING)


def magnitudes(flux: Float32, flux_err: Float32, band_state: UInt8) -> Magnitudes:
    """Fluxes, nJy, as magnitudes.

    A band is missing where it is not measured, and where magnitudes cannot say it: its flux is not positive, or magnitude or
    error would be what ELAsTiCC's readers take for a sentinel.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows, or is no number, is missing
        exact = magnitude_from_flux(flux.astype(np.float64), flux_err.astype(np.float64))
        magnitude, error = (each.astype(np.float32) for each in exact)
    (bright, faint), (low, high) = PACKET.plausible, MAGNITUDE_ERRORS
    good = (band_state == BandState.MEASURED) & (magnitude > bright) & (magnitude < faint)  # false for NaN
    good &= (error > low) & (error < high)
    missing = np.float32(MISSING)
    return Magnitudes(np.where(good, magnitude, missing), np.where(good, error, missing))


def number(name: str) -> int:
    """An object's name as a number, as ELAsTiCC's all are: itself where it is one, else a hash of it above 2^62."""
    if name.isascii() and name.isdecimal() and len(name) < 20 and 0 < int(name) <= _LARGEST and str(int(name)) == name:
        return int(name)
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return _HASHED | int.from_bytes(digest, "big") & (_HASHED - 1)


def elasticc_bodies(galaxies: Galaxies, first: int = 0) -> list[bytes]:
    """The Avro of each galaxy, without any framing, written with ``AVRO_SCHEMA``.

    Parameters
    ----------
    galaxies
        In Rubin's bands. Their alert ids are not used: ELAsTiCC numbers its alerts.
    first
        How many galaxies came before: their alerts are numbered from 1.

    Raises
    ------
    ValueError
        Other bands.
    """
    if galaxies.bands != band_set("lsst").bands:
        raise ValueError(f"galaxies in the bands {' '.join(galaxies.bands)}: ELAsTiCC has ugrizy")
    alerts = (zigzag(k) for k in range(first + 1, first + 1 + len(galaxies)))
    objects = (zigzag(number(name)) for name in galaxies.object_id.to_pylist())
    parts = zip(
        alerts,
        objects,
        _sources(galaxies),
        _positions(galaxies),
        _reddenings(galaxies),
        _photometry(galaxies),
        strict=True,
    )
    return [
        b"".join((alert, alert, b"\x02", name, source, name, position, ebv, hosts))
        for alert, name, source, position, ebv, hosts in parts
    ]


def _sources(galaxies: Galaxies) -> list[bytes]:
    """From the time of the source to the branch that says that there is an object: a flux of 0 +- 1 in i."""
    layout = [("midPointTai", "<f8"), ("filterName", "S2"), ("ra", "<f8"), ("decl", "<f8"), ("psFlux", "<f4")]
    layout += [("psFluxErr", "<f4"), ("snr", "<f4"), ("prvDiaSources", "u1"), ("diaObject", "u1")]
    fixed = np.zeros(len(galaxies), np.dtype(layout))
    fixed["midPointTai"], fixed["ra"], fixed["decl"] = galaxies.mjd, galaxies.ra, galaxies.dec
    fixed["filterName"] = b"\x02i"  # one letter
    fixed["psFluxErr"] = 1.0
    fixed["diaObject"] = 2
    return _each(fixed)


def _positions(galaxies: Galaxies) -> list[bytes]:
    fixed = np.empty(len(galaxies), np.dtype([("ra", "<f8"), ("decl", "<f8")]))
    fixed["ra"], fixed["decl"] = galaxies.ra, galaxies.dec
    return _each(fixed)


def _reddenings(galaxies: Galaxies) -> list[bytes]:
    fixed = np.empty(len(galaxies), np.dtype([("branch", "u1"), ("mwebv", "<f4")]))
    fixed["branch"], fixed["mwebv"] = 2, galaxies.ebv
    unknown = np.isnan(galaxies.ebv).tolist()
    return [b"\x00" if null else ebv for ebv, null in zip(_each(fixed), unknown, strict=True)]


def _photometry(galaxies: Galaxies) -> list[bytes]:
    """From the first magnitude of the first host to the end: there is one host, and no cutout."""
    names = [field["name"] for host in _HOSTS for field in _host_fields(host)]
    layout: list[Any] = [part for name in names for part in ((f"{name} branch", "u1"), (name, "<f4"))]
    fixed = np.zeros(len(galaxies), np.dtype([*layout, ("cutoutDifference", "u1"), ("cutoutTemplate", "u1")]))
    for name in names:
        fixed[f"{name} branch"], fixed[name] = 2, MISSING
    magnitude, error = magnitudes(galaxies.flux, galaxies.flux_err, galaxies.band_state)
    for b, band in enumerate(_BANDS):
        fixed[f"hostgal_mag_{band}"], fixed[f"hostgal_magerr_{band}"] = magnitude[:, b], error[:, b]
    fixed["hostgal_ra"], fixed["hostgal_dec"], fixed["hostgal_snsep"] = galaxies.ra, galaxies.dec, 0.0
    return _each(fixed)


def _each(fixed: npt.NDArray[Any]) -> list[bytes]:
    blob, size = fixed.tobytes(), fixed.dtype.itemsize
    return [blob[i : i + size] for i in range(0, len(blob), size)]
