"""Galaxies as ELAsTiCC-style packets: each is the host of a transient that is not there. For demonstrations and load tests.

The schema is a subset of ELAsTiCC's v0.9 under names of our own: whoever reads ELAsTiCC by field names reads these too.
"""

import math
from io import BytesIO
from typing import Any

import fastavro
import numpy as np

from schemas.bands import band_set
from schemas.batch import BandState, Galaxies
from schemas.magnitudes import magnitude_from_flux
from schemas.wire import confluent

MISSING = 999.0  # ELAsTiCC's magnitude of nothing
_BANDS = "ugrizY"
_HOSTS = ("hostgal", "hostgal2")


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


def encode_elasticc(galaxies: Galaxies, first: int = 0) -> list[bytes]:
    """One message a galaxy: Confluent header with the fingerprint id of ``AVRO_SCHEMA``, then Avro.

    Magnitudes are of the flux as it is; a band that is not measured, or whose flux is not positive, is 999, as there.

    Parameters
    ----------
    galaxies
        In Rubin's bands.
    first
        Number of the first alert.

    Raises
    ------
    ValueError
        Other bands.
    """
    if galaxies.bands != band_set("lsst").bands:
        raise ValueError(f"galaxies in the bands {' '.join(galaxies.bands)}: ELAsTiCC has ugrizy")
    schema = fastavro.parse_schema(AVRO_SCHEMA)
    header = confluent.header(confluent.fingerprint_id(AVRO_SCHEMA))
    measured = (galaxies.band_state == BandState.MEASURED) & (galaxies.flux > 0)
    magnitude, error = magnitude_from_flux(galaxies.flux.astype(np.float64), galaxies.flux_err.astype(np.float64))
    magnitude, error = np.where(measured, magnitude, MISSING), np.where(measured, error, MISSING)
    messages = []
    for i, name in enumerate(galaxies.object_id.to_pylist()):
        out = BytesIO()
        out.write(header)
        record = _alert(galaxies, i, first + i, _number(name, first + i), magnitude[i], error[i])
        fastavro.schemaless_writer(out, schema, record)
        messages.append(out.getvalue())
    return messages


def _number(name: str, otherwise: int) -> int:
    """An object's name where it is a number, as ELAsTiCC's all are."""
    return int(name) if name.isdecimal() and len(name) < 19 else otherwise


def _alert(
    galaxies: Galaxies, i: int, alert: int, number: int, magnitude: np.ndarray, error: np.ndarray
) -> dict[str, Any]:
    ra, dec, ebv = float(galaxies.ra[i]), float(galaxies.dec[i]), float(galaxies.ebv[i])
    source = {
        "diaSourceId": alert,
        "diaObjectId": number,
        "midPointTai": float(galaxies.mjd[i]),
        "filterName": "i",
        "ra": ra,
        "decl": dec,
        "psFlux": 0.0,
        "psFluxErr": 1.0,
        "snr": 0.0,
    }
    host: dict[str, Any] = {f"hostgal_mag_{band}": float(magnitude[b]) for b, band in enumerate(_BANDS)}
    host |= {f"hostgal_magerr_{band}": float(error[b]) for b, band in enumerate(_BANDS)}
    host |= {"hostgal_ra": ra, "hostgal_dec": dec, "hostgal_snsep": 0.0}
    second = {field["name"]: MISSING for field in _host_fields("hostgal2")}
    seen = {"diaObjectId": number, "ra": ra, "decl": dec, "mwebv": None if math.isnan(ebv) else ebv}
    return {
        "alertId": alert,
        "diaSource": source,
        "prvDiaSources": None,
        "diaObject": seen | host | second,
        "cutoutDifference": None,
        "cutoutTemplate": None,
    }
