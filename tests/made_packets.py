"""Packets made here, with schemas of our own under the field names of the surveys: no file of a survey is needed."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import fastavro
import numpy as np

from schemas.batch import Galaxies, Messages
from schemas.wire import confluent
from tests.packet_twin import Row

_FLOAT = ["null", "float"]
_CUTOUT = {
    "type": "record",
    "name": "cutout",
    "fields": [{"name": "fileName", "type": "string"}, {"name": "stampData", "type": "bytes"}],
}
_NEIGHBOURS = [f"{name}{k}" for k in (1, 2, 3) for name in ("sgmag", "srmag", "simag", "szmag", "sgscore", "distpsnr")]
ZTF: dict[str, Any] = {
    "type": "record",
    "name": "alert",
    "namespace": "made.ztf",
    "fields": [
        {"name": "schemavsn", "type": "string"},
        {"name": "objectId", "type": "string"},
        {"name": "candid", "type": "long"},
        {
            "name": "candidate",
            "type": {
                "type": "record",
                "name": "candidate",
                "fields": [
                    {"name": "jd", "type": "double"},
                    {"name": "fid", "type": "int"},
                    {"name": "ra", "type": "double"},
                    {"name": "dec", "type": "double"},
                    {"name": "magpsf", "type": "float"},
                    {"name": "ssdistnr", "type": _FLOAT, "default": None},
                    *({"name": name, "type": _FLOAT, "default": None} for name in _NEIGHBOURS),
                ],
            },
        },
        {"name": "cutoutScience", "type": ["null", _CUTOUT], "default": None},
    ],
}


def neighbour(k: int, magnitudes: Sequence[float], score: float, distance: float) -> dict[str, float]:
    """The k-th nearest Pan-STARRS1 source of an alert: griz, star/galaxy score, arcsec."""
    names = [f"{name}{k}" for name in ("sgmag", "srmag", "simag", "szmag", "sgscore", "distpsnr")]
    return dict(zip(names, (*magnitudes, score, distance), strict=True))


def ztf_alert(number: int, **candidate: float | None) -> dict[str, Any]:
    """A ZTF alert; what is not given of the candidate is -999, as there."""
    given = dict.fromkeys((*_NEIGHBOURS, "ssdistnr"), -999.0)
    place = {"jd": 2_461_000.5 + number, "fid": 1, "ra": 10.0 + number % 300, "dec": -20.0, "magpsf": 19.0}
    return {
        "schemavsn": "4.02",
        "objectId": f"ZTF26made{number:04d}",
        "candid": 3_000_000_000_000 + number,
        "candidate": {**place, **given, **candidate},
        "cutoutScience": {"fileName": "x.fits.gz", "stampData": b"\x1f\x8b" * 100},
    }


def elasticc_schema() -> dict[str, Any]:
    """ELAsTiCC's field names: a source, and an object that may be null, with two hosts."""
    hosts = [
        {"name": f"{host}_{what}", "type": _FLOAT, "default": None}
        for host in ("hostgal", "hostgal2")
        for what in (
            *(f"mag_{band}" for band in "ugrizY"),
            *(f"magerr_{band}" for band in "ugrizY"),
            *("ra", "dec", "snsep", "zphot_mean"),
        )
    ]
    source = [("diaSourceId", "long"), ("diaObjectId", ["null", "long"]), ("midPointTai", "double")]
    source += [("ra", "double"), ("decl", "double"), ("psFlux", "float")]
    seen = [{"name": "diaObjectId", "type": "long"}, {"name": "mwebv", "type": _FLOAT, "default": None}, *hosts]
    return {
        "type": "record",
        "name": "alert",
        "namespace": "made.elasticc",
        "fields": [
            {"name": "alertId", "type": "long"},
            {
                "name": "diaSource",
                "type": {
                    "type": "record",
                    "name": "diaSource",
                    "fields": [{"name": name, "type": kind} for name, kind in source],
                },
            },
            {"name": "prvDiaSources", "type": ["null", {"type": "array", "items": "diaSource"}], "default": None},
            {
                "name": "diaObject",
                "type": ["null", {"type": "record", "name": "diaObject", "fields": seen}],
                "default": None,
            },
        ],
    }


def elasticc_alert(number: int, **seen: float | None) -> dict[str, Any]:
    """An ELAsTiCC alert; what is not given of its object is missing as there: 999, -9."""
    missing = {f"{host}_mag_{band}": 999.0 for host in ("hostgal", "hostgal2") for band in "ugrizY"}
    missing |= {f"{host}_magerr_{band}": 999.0 for host in ("hostgal", "hostgal2") for band in "ugrizY"}
    missing |= {f"{host}_{what}": -999.0 for host in ("hostgal", "hostgal2") for what in ("ra", "dec")}
    source = {"diaSourceId": 900 + number, "diaObjectId": 7_000 + number, "midPointTai": 61_000.25 + number}
    return {
        "alertId": 500_000 + number,
        "diaSource": source | {"ra": 120.0, "decl": -30.0, "psFlux": 1e4},
        "prvDiaSources": None,
        "diaObject": {"diaObjectId": 7_000 + number, **missing, "mwebv": 0.05, **seen},
    }


def rubin_schema(major: int, minor: int) -> dict[str, Any]:
    """A version of Rubin's schema, from the package `lsst-alert-packet`."""
    folder = rubin_schemas() / str(major) / str(minor)
    schema: dict[str, Any] = fastavro.schema.load_schema(str(folder / f"lsst.v{major}_{minor}.alert.avsc"))
    return schema


def rubin_schemas() -> Path:
    """The folder of Rubin's schemas; found without importing the package, which wants much that we do not."""
    import importlib.util

    spec = importlib.util.find_spec("lsst.alert.packet")
    assert spec is not None, "lsst-alert-packet is not installed: `make .venv/.dev` does that"
    assert spec.origin is not None
    return Path(spec.origin).parent / "schema"


def blank(schema: Any, given: dict[str, Any], named: dict[str, Any] | None = None, path: str = "") -> Any:
    """The emptiest record of a parsed `schema`: null where it may be, else 0 and ""; `given` has values by path."""
    named = {} if named is None else named
    if path in given:
        return given[path]
    below = any(name.startswith(f"{path}.") for name in given) or not path
    if isinstance(schema, list):
        branch = next((b for b in schema if b != "null"), "null") if below or "null" not in schema else "null"
        return blank(branch, given, named, path)
    if isinstance(schema, str):
        zero = {"null": None, "boolean": False, "string": "", "bytes": b"", "float": 0.0, "double": 0.0}
        return blank(named[schema], given, named, path) if schema in named else zero.get(schema, 0)
    if schema["type"] == "record":
        named[schema["name"]] = schema
        lead = f"{path}." if path else ""
        return {
            field["name"]: blank(field["type"], given, named, f"{lead}{field['name']}") for field in schema["fields"]
        }
    return [] if schema["type"] == "array" else blank(schema["type"], given, named, path)


def container(schema: Any, records: Sequence[Any], codec: str = "null") -> bytes:
    """An Avro object container file."""
    out = io.BytesIO()
    fastavro.writer(out, schema, records, codec=codec, sync_marker=b"0123456789abcdef")
    return out.getvalue()


def framed(schema: Any, record: Any, schema_id: int) -> bytes:
    """Confluent's wire format."""
    out = io.BytesIO()
    out.write(confluent.header(schema_id))
    fastavro.schemaless_writer(out, schema, record)
    return out.getvalue()


def messages(payloads: Sequence[bytes | None]) -> Messages:
    """`payloads` as a source would give them."""
    n = len(payloads)
    return Messages(list(payloads), np.zeros(n, np.int32), np.arange(n), np.full(n, -1), {0: n}, (), {0: 0})


class Known:
    """A ``SchemaSource`` of a function."""

    def __init__(self, get: Callable[[int], Any]) -> None:
        self.get = get


def assert_row(galaxies: Galaxies, i: int, expected: Row) -> None:
    """Row `i` is what the twin says."""
    assert galaxies.flags is not None
    assert galaxies.object_id[i].as_py() == expected.object_id
    assert galaxies.alert_id[i].as_py() == expected.alert_id
    assert int(galaxies.flags[i]) == expected.flags
    np.testing.assert_allclose(galaxies.ra[i], expected.ra, rtol=1e-12)
    np.testing.assert_allclose(galaxies.dec[i], expected.dec, rtol=1e-12)
    np.testing.assert_allclose(galaxies.mjd[i], expected.mjd, rtol=0, atol=1e-8)
    np.testing.assert_allclose(galaxies.ebv[i], np.float32(expected.ebv))
    np.testing.assert_allclose(galaxies.flux[i], expected.flux, rtol=1e-5)
    np.testing.assert_allclose(galaxies.flux_err[i], expected.flux_err, rtol=1e-5)
    np.testing.assert_array_equal(galaxies.band_state[i] == 1, np.isfinite(expected.flux))
