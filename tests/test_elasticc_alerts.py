"""ELAsTiCC-style packets: an Avro library reads them, and the decoder of ELAsTiCC gives the galaxies back."""

import json
import math
from io import BytesIO
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fastavro import parse_schema, schemaless_reader, schemaless_writer
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.batch import BandState, Galaxies
from schemas.elasticc_alerts import AVRO_SCHEMA, MISSING, elasticc_bodies, magnitudes, number
from schemas.flags import Flag
from schemas.magnitudes import magnitude_from_flux
from schemas.packet_decoder import PacketDecoder
from schemas.surveys.elasticc import PACKET
from schemas.wire import confluent
from tests.made_galaxies import changed, drawn_galaxies, galaxies, messages, with_value

SCHEMA = parse_schema(AVRO_SCHEMA)
DECODER = PacketDecoder(PACKET, confluent.KnownSchemas([AVRO_SCHEMA]))
ULP = 2.0**-19  # of a float32 magnitude between 16 and 32; half of it is the rounding
LARGE = 2**63 - 1


def decoded(given_galaxies: Galaxies, first: int = 0) -> Galaxies:
    payloads = confluent.framed(elasticc_bodies(given_galaxies, first), confluent.fingerprint_id(AVRO_SCHEMA))
    found, refusals = DECODER.decode(messages(payloads))
    assert not refusals.text
    return found


def assert_hosts(found: Galaxies, given_galaxies: Galaxies) -> None:
    """What magnitudes can say is there, to the rounding of a float32 magnitude; all else is not observed."""
    assert found.object_id.to_pylist() == [str(number(name)) for name in given_galaxies.object_id.to_pylist()]
    np.testing.assert_array_equal(found.mjd, given_galaxies.mjd)
    np.testing.assert_array_equal(found.ebv, np.where(given_galaxies.ebv >= 0, given_galaxies.ebv, np.nan))
    flux, error = given_galaxies.flux.astype(np.float64), given_galaxies.flux_err.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        magnitude, magnitude_err = magnitude_from_flux(flux, error)
        there = (given_galaxies.band_state == BandState.MEASURED) & (flux > 0)
        there &= (magnitude > 5.0001) & (magnitude < 34.9999)
        there &= (magnitude_err > 1e-30) & (magnitude_err < 89.99)
        edge = (np.abs(magnitude - 20) > 14.9999) | (magnitude_err > 89.99) | (magnitude_err < 1e-30)
    seen = found.band_state == BandState.MEASURED
    assert (seen | ~there).all()
    assert (there | edge | ~seen).all()
    assert set(np.unique(found.band_state)) <= {BandState.MEASURED, BandState.NOT_OBSERVED}
    half = 0.4 * math.log(10) * ULP / 2 * 2  # magnitudes from 32 to 35 have twice the spacing
    np.testing.assert_allclose(found.flux[there], flux[there], rtol=half + 2**-23)
    np.testing.assert_allclose(found.flux_err[there], error[there], rtol=half + 2**-22)
    assert np.isnan(found.flux[~seen]).all()
    hosted = seen.any(axis=1)
    for name in ("ra", "dec"):  # of a host they are floats there
        position = getattr(given_galaxies, name)
        position = np.where(hosted, position.astype(np.float32), position)
        np.testing.assert_array_equal(getattr(found, name), np.where(position == 360, 0, position), name)
    assert found.flags is not None
    np.testing.assert_array_equal(found.flags == Flag.NO_HOST_PHOTOMETRY, ~hosted)
    assert not (found.flags & ~np.uint32(Flag.NO_HOST_PHOTOMETRY)).any()


@settings(max_examples=60, deadline=None)
@given(drawn_galaxies(), st.integers(0, 1 << 40))
def test_the_decoder_gives_the_galaxies_back(given_galaxies: Galaxies, first: int) -> None:
    found = decoded(given_galaxies, first)
    assert_hosts(found, given_galaxies)
    assert found.alert_id.to_pylist() == [str(first + 1 + k) for k in range(len(given_galaxies))]


def test_ordinary_galaxies_keep_their_photometry() -> None:
    given_galaxies = galaxies(3000)
    found = decoded(given_galaxies)
    assert_hosts(found, given_galaxies)
    measured = (given_galaxies.band_state == BandState.MEASURED) & (given_galaxies.flux > 0)
    assert (found.band_state == BandState.MEASURED).sum() == measured.sum() > 5000


@settings(max_examples=40, deadline=None)
@given(drawn_galaxies(max_size=3), st.integers(0, 1 << 60))
def test_packets_are_what_an_avro_library_writes(given_galaxies: Galaxies, first: int) -> None:
    """The naive twin: one dictionary a galaxy, through fastavro."""
    for i, body in enumerate(elasticc_bodies(given_galaxies, first)):
        stream = BytesIO()
        schemaless_writer(stream, SCHEMA, record(given_galaxies, i, first + i + 1))
        assert body == stream.getvalue()


def record(g: Galaxies, i: int, alert: int) -> dict[str, Any]:
    name, ra, dec, ebv = number(g.object_id[i].as_py()), float(g.ra[i]), float(g.dec[i]), float(g.ebv[i])
    magnitude, error = magnitudes(g.flux, g.flux_err, g.band_state)
    host = {f"hostgal_mag_{band}": float(magnitude[i, b]) for b, band in enumerate("ugrizY")}
    host |= {f"hostgal_magerr_{band}": float(error[i, b]) for b, band in enumerate("ugrizY")}
    host |= {"hostgal_ra": ra, "hostgal_dec": dec, "hostgal_snsep": 0.0}
    return {
        "alertId": alert,
        "diaSource": {
            "diaSourceId": alert,
            "diaObjectId": name,
            "midPointTai": float(g.mjd[i]),
            "filterName": "i",
            "ra": ra,
            "decl": dec,
            "psFlux": 0.0,
            "psFluxErr": 1.0,
            "snr": 0.0,
        },
        "prvDiaSources": None,
        "diaObject": {
            "diaObjectId": name,
            "ra": ra,
            "decl": dec,
            "mwebv": None if math.isnan(ebv) else ebv,
            **host,
            **{key.replace("hostgal", "hostgal2"): MISSING for key in host},
        },
        "cutoutDifference": None,
        "cutoutTemplate": None,
    }


def test_what_magnitudes_cannot_say_is_999() -> None:
    given_galaxies = changed(galaxies(1), band_state=np.array([[1, 1, 1, 1, 0, 2]], np.uint8))
    flux = np.array([[100, -3, 1e-9, 100, 100, 100]], np.float32)  # good, negative, beyond 35 mag, error too large
    error = np.array([[10, 10, 1e-9, 1e5, 10, 10]], np.float32)
    [body] = elasticc_bodies(changed(given_galaxies, flux=flux, flux_err=error))
    host: Any = schemaless_reader(BytesIO(body), SCHEMA, None)["diaObject"]  # type: ignore[index, call-overload]
    assert host["hostgal_mag_u"] == pytest.approx(31.4 - 5, abs=1e-6)
    assert host["hostgal_magerr_u"] == pytest.approx(0.1085736, rel=1e-6)
    for band in "grizY":
        assert (host[f"hostgal_mag_{band}"], host[f"hostgal_magerr_{band}"]) == (MISSING, MISSING), band
    assert magnitudes(flux, error, given_galaxies.band_state).missing.tolist() == [[False, *[True] * 5]]


@given(st.integers(1, LARGE))
def test_a_number_stays_what_it_is(name: int) -> None:
    assert number(str(name)) == name


@given(st.text())
def test_a_name_becomes_a_number(name: str) -> None:
    assert 0 < number(name) <= LARGE
    assert number(name) == number(name)


def test_names_that_look_like_numbers() -> None:
    names = ["0", "007", "-3", "²", "٣", str(LARGE + 1), "1e5", ""]
    assert all(number(name) >= 1 << 62 for name in names)
    assert len({number(name) for name in names}) == len(names)


def test_an_unknown_reddening_is_null() -> None:
    given_galaxies = with_value(galaxies(2), 0, ebv=np.nan)
    found = decoded(given_galaxies)
    assert np.isnan(found.ebv[0])
    assert found.ebv[1] == given_galaxies.ebv[1]


def test_other_bands_are_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="ELAsTiCC has ugrizy"):
        elasticc_bodies(galaxies(1, "sdss"))
    assert elasticc_bodies(changed(galaxies(1), object_id=pa.array(["12"])))


@pytest.mark.parametrize(
    ("host", "expected"), [((0.0, 0.0), (150.0, 2.0)), ((150.01, 2.0), (150.01, 2.0)), ((150.3, 2.0), (150.0, 2.0))]
)
def test_a_host_stands_near_its_source(host: tuple[float, float], expected: tuple[float, float]) -> None:
    """Most of ELAsTiCC's hosts say 0, 0: then the row stands where the transient does."""
    row = {
        "alertId": 7,
        "diaSource": {"ra": 150.0, "decl": 2.0, "midPointTai": 61000.0, "diaObjectId": 5},
        "diaObject": {"hostgal_mag_i": 22.5, "hostgal_magerr_i": 0.1, "hostgal_ra": host[0], "hostgal_dec": host[1]},
    }
    found, refusals = PacketDecoder(PACKET).decode(messages([json.dumps(row).encode()]))
    assert refusals.text == []
    assert (found.ra[0], found.dec[0]) == expected
    assert found.band_state[0].tolist() == [0, 0, 0, 1, 0, 0]
