"""Alert packets become host galaxies, or rows that say why not: against the naive twin, on packets made here and on real ones."""

import io
import json
import math
import os
import random
import re
import struct
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.avro_fuzz import mutated
from schemas import packets
from schemas.avro import SchemaError, parse
from schemas.batch import Float32, Float64, Reason
from schemas.flags import Flag
from schemas.hosts import hosts
from schemas.magnitudes import flux_from_magnitude
from schemas.packet_decoder import PacketDecoder, wants
from schemas.packets import packet
from schemas.surveys import elasticc, lsst, ztf
from schemas.wire.confluent import KnownSchemas
from tests import packet_twin as twin
from tests.made_packets import (
    ZTF,
    Known,
    assert_row,
    blank,
    container,
    elasticc_alert,
    elasticc_schema,
    framed,
    messages,
    neighbour,
    rubin_schema,
    ztf_alert,
)

DATA = Path(os.environ.get("SLIPHER_TEST_DATA", "/nowhere")) / "alerts"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="SLIPHER_TEST_DATA names no folder with alerts")
RUBIN = [(7, 0), (7, 1), (7, 2), (7, 3), (7, 4), (8, 0), (9, 0), (10, 0), (11, 0), (11, 1)]
GRIZ = (20.5, 19.5, 19.0, 18.7)
OTHER = (21.5, 20.5, 20.0, 19.7)
NO_HOST = Flag.NO_HOST_PHOTOMETRY


# -- which source is the host ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("candidate", "flags", "magnitudes"),
    [
        ({}, NO_HOST, None),
        (neighbour(1, GRIZ, 0.1, 2.0), Flag.NOMINAL_ERRORS, GRIZ),
        (neighbour(1, GRIZ, 0.99, 0.4), Flag.STAR_LIKE | NO_HOST, None),  # a variable star
        (neighbour(1, GRIZ, 0.99, 0.4) | neighbour(2, OTHER, 0.1, 3.0), Flag.STAR_LIKE | NO_HOST, None),
        (neighbour(1, GRIZ, 0.99, 4.0), NO_HOST, None),  # a star that happens to be near
        (neighbour(1, GRIZ, 0.99, 4.0) | neighbour(2, OTHER, 0.1, 8.0), Flag.NOMINAL_ERRORS, OTHER),
        (
            neighbour(1, GRIZ, 0.1, 2.0) | neighbour(2, OTHER, 0.2, 8.0),
            Flag.NOMINAL_ERRORS | Flag.HOST_AMBIGUOUS,
            GRIZ,
        ),
        (
            neighbour(1, OTHER, 0.1, 8.0) | neighbour(3, GRIZ, 0.2, 2.0),  # in no order
            Flag.NOMINAL_ERRORS | Flag.HOST_AMBIGUOUS,
            GRIZ,
        ),
        (neighbour(1, GRIZ, 0.1, 10.5), NO_HOST, None),  # too far
        (neighbour(1, GRIZ, 0.5, 2.0), NO_HOST, None),  # half a star is one
        (neighbour(1, GRIZ, -999.0, 2.0), NO_HOST, None),  # nobody knows what it is
        (neighbour(1, GRIZ, 0.1, -999.0), NO_HOST, None),  # nor where
        (neighbour(1, (-999.0,) * 4, 0.1, 2.0), NO_HOST, None),
        (neighbour(1, (20.5, -999.0, 19.0, -999.0), 0.1, 2.0), Flag.NOMINAL_ERRORS, (20.5, None, 19.0, None)),
        (neighbour(1, (20.5, 99.0, 0.0, 19.0), 0.1, 2.0), Flag.NOMINAL_ERRORS, (20.5, None, None, 19.0)),
        (neighbour(1, GRIZ, 0.1, 2.0) | {"ssdistnr": 1.0}, Flag.SOLAR_SYSTEM | NO_HOST, None),
        (neighbour(1, GRIZ, 0.99, 0.4) | {"ssdistnr": 1.0}, Flag.SOLAR_SYSTEM | NO_HOST, None),
        (neighbour(1, GRIZ, 0.1, 2.0) | {"ssdistnr": 25.0}, Flag.NOMINAL_ERRORS, GRIZ),
        (neighbour(1, GRIZ, 0.1, 2.0) | {"ssdistnr": None, "sgmag2": None}, Flag.NOMINAL_ERRORS, GRIZ),
    ],
)
def test_the_host_of_a_ztf_alert(
    candidate: dict[str, Any], flags: Flag, magnitudes: tuple[float | None, ...] | None
) -> None:
    alert = ztf_alert(3, **candidate)
    galaxies, refusals = PacketDecoder(ztf.PACKET).decode(messages([container(ZTF, [alert])]))
    assert not refusals.text
    assert galaxies.flags is not None
    assert Flag(int(galaxies.flags[0])) == flags
    expected = [math.nan if m is None else m for m in (*(magnitudes or (None,) * 4), None)]
    flux, _ = flux_from_magnitude(np.array(expected), np.ones(5))
    np.testing.assert_allclose(galaxies.flux[0], flux, rtol=1e-5)
    assert_row(galaxies, 0, twin.row(ztf.PACKET, alert))
    assert galaxies.survey.to_pylist() == ["ps1"]
    assert galaxies.bands == ("g", "r", "i", "z", "y")


SENTINELS = [None, math.nan, -999.0, -9.0, 999.0, 99.0, 0.0]
magnitude = st.one_of(st.sampled_from(SENTINELS), st.floats(4, 36, width=32))
score = st.one_of(st.sampled_from([None, -999.0, 0.0, 0.5, 1.0]), st.floats(0, 1, width=32))
arcsec = st.one_of(st.sampled_from([None, -999.0, 0.0, 1.5, 5.0, 10.0]), st.floats(0, 30, width=32))
values = st.fixed_dictionaries(
    {
        name: magnitude if "mag" in name else score if "score" in name else arcsec
        for name in (*neighbour(1, GRIZ, 0, 0), *neighbour(2, GRIZ, 0, 0), *neighbour(3, GRIZ, 0, 0), "ssdistnr")
    }
)


@settings(max_examples=150, deadline=None)
@given(st.lists(values, min_size=1, max_size=4))
def test_any_ztf_alert_is_what_the_twin_says(some: list[dict[str, float | None]]) -> None:
    alerts = [ztf_alert(k, **candidate) for k, candidate in enumerate(some)]
    galaxies, refusals = PacketDecoder(ztf.PACKET).decode(messages([container(ZTF, [a]) for a in alerts]))
    assert not refusals.text
    assert len(galaxies) == len(alerts)
    for i, alert in enumerate(alerts):
        assert_row(galaxies, i, twin.row(ztf.PACKET, alert))


host_values = st.fixed_dictionaries(
    {
        **{f"{host}_mag_{band}": magnitude for host in ("hostgal", "hostgal2") for band in "ugrizY"},
        **{
            f"{host}_magerr_{band}": st.one_of(st.sampled_from(SENTINELS), st.floats(0.0625, 1, width=32))
            for host in ("hostgal", "hostgal2")
            for band in "uY"
        },
        "hostgal_ra": st.sampled_from([None, -999.0, 120.125]),
        "hostgal_dec": st.sampled_from([None, -999.0, -30.125]),
        "mwebv": st.sampled_from([None, -9.0, -999.0, 0.0, 0.02, 1.5, math.nan]),
    }
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.none(), host_values), min_size=1, max_size=4))
def test_any_elasticc_alert_is_what_the_twin_says(some: list[dict[str, float | None] | None]) -> None:
    alerts = [elasticc_alert(k, **(seen or {})) for k, seen in enumerate(some)]
    alerts = [a | {"diaObject": None} if seen is None else a for a, seen in zip(alerts, some, strict=True)]
    schema = fastavro.parse_schema(elasticc_schema())
    source = Known(lambda number: elasticc_schema() if number == 7 else None)
    galaxies, refusals = PacketDecoder(elasticc.PACKET, source).decode(
        messages([framed(schema, alert, 7) for alert in alerts])
    )
    assert not refusals.text
    for i, alert in enumerate(alerts):
        assert_row(galaxies, i, twin.row(elasticc.PACKET, alert))
        if alert["diaObject"] is None:
            assert galaxies.flags is not None
            assert Flag(int(galaxies.flags[i])) == Flag.SOLAR_SYSTEM | NO_HOST


def test_no_candidates_at_all() -> None:
    empty = hosts(lsst.PACKET, {"diaObject": np.ones(2)}, 6, np.zeros(2), np.zeros(2))
    assert empty.flags.tolist() == [NO_HOST] * 2
    assert np.isnan(empty.flux).all()


# -- Rubin -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("major", "minor"), RUBIN)
def test_rubin_packets_of_every_version(major: int, minor: int) -> None:
    schema = rubin_schema(major, minor)
    place = {"diaSource.ra": 53.1, "diaSource.dec": -27.8, "diaSource.midpointMjdTai": 61_234.5}
    place |= {"diaSource.diaSourceId": 987_654_321_012_345_678, "diaSource.psfFlux": 1e4}
    seen = place | {"diaObject.diaObjectId": 123_456_789_012_345_678}
    unseen = place | {"diaObject": None}
    moving = unseen | {"diaSource.ssObjectId": 42} if "ssObjectId" in json.dumps(schema) else unseen
    records = [blank(schema, given) for given in (seen, unseen, moving)]
    known = Known(lambda number: schema if number == 100 * major + minor else None)
    decoder = PacketDecoder(lsst.PACKET, known)
    framed_ones = [framed(schema, record, 100 * major + minor) for record in records]
    galaxies, refusals = decoder.decode(messages([framed_ones[0], framed_ones[0][:-9], *framed_ones[1:]]))
    assert refusals.reason.tolist() == [Reason.CORRUPT]
    assert refusals.message.tolist() == [1]
    assert galaxies.message.tolist() == [0, 2, 3]
    for i, record in enumerate(records):
        assert_row(galaxies, i, twin.row(lsst.PACKET, record))
    assert galaxies.object_id[0].as_py() == "123456789012345678"
    assert galaxies.alert_id.to_pylist() == ["987654321012345678"] * 3
    assert galaxies.flags is not None
    assert [Flag(int(f)) for f in galaxies.flags] == [NO_HOST, NO_HOST | Flag.SOLAR_SYSTEM, NO_HOST | Flag.SOLAR_SYSTEM]
    assert not np.isfinite(galaxies.flux).any()  # the transient's own flux is not its host's
    assert np.isnan(galaxies.ebv).all()


def test_versions_mixed_in_one_batch_and_one_that_lacks_a_field() -> None:
    """A broker moves from one schema to the next without a stop, and a writer of something else costs nobody a row."""
    place = {"diaSource.ra": 53.1, "diaSource.dec": -27.8, "diaSource.midpointMjdTai": 61_234.5}
    payloads = []
    for number in (900, 1101, 1000, 900, 1100):
        schema = rubin_schema(number // 100, number % 100)
        record = blank(schema, place | {"diaObject.diaObjectId": number})
        payloads.append(framed(schema, record, number))
    payloads.insert(2, framed(fastavro.parse_schema(ZTF), ztf_alert(1), 5))
    payloads.insert(4, b"\x00\x00\x00\x10\x00" + payloads[0][5:])
    known = Known(
        lambda number: ZTF if number == 5 else rubin_schema(number // 100, number % 100) if number < 2000 else None
    )
    galaxies, refusals = PacketDecoder(lsst.PACKET, known).decode(messages(payloads))
    assert galaxies.object_id.to_pylist() == ["900", "1101", "1000", "900", "1100"]
    assert refusals.message.tolist() == [2, 4]
    assert refusals.reason.tolist() == [Reason.LACKS_FIELD, Reason.UNKNOWN_SCHEMA]
    assert refusals.text[0] == "the writer's schema lacks the field diaSource.ra"


# -- what a packet lacks -----------------------------------------------------------------------------------------------


class Halves:
    """A map that knows the sky north of the equator."""

    def ebv(self, ra: Float64, dec: Float64) -> Float32:
        return np.where(dec >= 0, 0.01 + ra / 1000, np.nan).astype(np.float32)


def test_dust_comes_from_the_map_and_is_never_nothing() -> None:
    alerts = [ztf_alert(k, dec=dec, **neighbour(1, GRIZ, 0.1, 2.0)) for k, dec in enumerate((20.0, -20.0))]
    batch = messages([container(ZTF, [alert]) for alert in alerts])
    without, _ = PacketDecoder(ztf.PACKET).decode(batch)
    assert np.isnan(without.ebv).all()
    galaxies, _ = PacketDecoder(ztf.PACKET, dust=Halves()).decode(batch)
    np.testing.assert_allclose(galaxies.ebv, np.float32([0.02, np.nan]))


def test_the_map_says_only_what_the_packet_does_not() -> None:
    schema = fastavro.parse_schema(elasticc_schema())
    north = {"hostgal_ra": 120.0, "hostgal_dec": 30.0, "hostgal_mag_i": 21.0, "hostgal_magerr_i": 0.1}
    alerts = [elasticc_alert(k, **north, mwebv=value) for k, value in enumerate((0.05, None, -9.0, 0.0))]
    for alert in alerts:
        alert["diaSource"]["decl"] = 30.0
    source = Known(lambda number: elasticc_schema())
    batch = messages([framed(schema, alert, 7) for alert in alerts])
    galaxies, _ = PacketDecoder(elasticc.PACKET, source, dust=Halves()).decode(batch)
    np.testing.assert_allclose(galaxies.ebv, np.float32([0.05, 0.13, 0.13, 0.0]))  # a nothing that was sent is one


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_rows_are_refused_alone() -> None:
    good, nowhere, nameless = ztf_alert(0), ztf_alert(1, ra=math.nan), ztf_alert(2) | {"objectId": ""}
    several = container(ZTF, [good, nowhere, nameless, good], "deflate")
    galaxies, refusals = PacketDecoder(ztf.PACKET).decode(
        messages([several, container(ZTF, [nowhere]), None, b"\x01x"])
    )
    assert list(zip(galaxies.message.tolist(), galaxies.row.tolist(), strict=True)) == [(0, 0), (0, 3)]
    found = zip(refusals.message.tolist(), refusals.row.tolist(), refusals.reason.tolist(), strict=True)
    assert list(found) == [
        (0, 1, Reason.BAD_POSITION),
        (0, 2, Reason.BAD_OBJECT_ID),
        (1, -1, Reason.BAD_POSITION),
        (2, -1, Reason.EMPTY),
        (3, -1, Reason.BAD_FRAMING),
    ]


@pytest.mark.parametrize("path", ["objectId", "candidate.ra", "candidate.dec", "candidate.jd"])
def test_a_schema_without_a_needed_field_is_refused_with_its_name(path: str) -> None:
    text = json.dumps(ZTF).replace(f'"name": "{path.split(".")[-1]}"', '"name": "else"')
    alert = ztf_alert(0)
    owner = alert["candidate"] if "." in path else alert
    owner["else"] = owner.pop(path.split(".")[-1])
    good = container(ZTF, [ztf_alert(1)])
    galaxies, refusals = PacketDecoder(ztf.PACKET).decode(messages([good, container(json.loads(text), [alert]), good]))
    assert galaxies.message.tolist() == [0, 2]
    assert refusals.reason.tolist() == [Reason.LACKS_FIELD]
    assert refusals.text == [f"the writer's schema lacks the field {path}"]


@pytest.mark.parametrize("path", ["candid", "candidate.ssdistnr", "candidate.sgmag1", "candidate.sgscore1"])
def test_a_schema_without_any_other_field_is_read(path: str) -> None:
    text = json.dumps(ZTF).replace(f'"name": "{path.split(".")[-1]}"', '"name": "else"')
    alert = ztf_alert(0, **neighbour(1, GRIZ, 0.1, 2.0))
    owner = alert["candidate"] if "." in path else alert
    owner["else"] = owner.pop(path.split(".")[-1])
    galaxies, _ = PacketDecoder(ztf.PACKET).decode(messages([container(json.loads(text), [alert])]))
    assert_row(galaxies, 0, twin.row(ztf.PACKET, alert))


@pytest.mark.parametrize("name", ["ztf", "lsst", "elasticc"])
def test_mutated_packets_cost_nobody_a_row(name: str) -> None:
    """Flipped, cut, spliced, stretched: it is rows or is refused with a sentence, and its neighbours are what they were."""
    host = {f"hostgal_mag_{band}": 20.0 for band in "ugrizY"} | {f"hostgal_magerr_{band}": 0.1 for band in "ugrizY"}
    place = {"diaSource.ra": 53.1, "diaSource.dec": -27.8, "diaObject.diaObjectId": 7}
    rubin, desc = rubin_schema(11, 0), fastavro.parse_schema(elasticc_schema())
    galaxy = [ztf_alert(k, **neighbour(1, GRIZ, 0.1, 2.0)) for k in range(2)]
    good = {
        "ztf": [container(ZTF, galaxy[:1]), container(ZTF, galaxy[1:], "deflate")],
        "lsst": [framed(rubin, blank(rubin, given), 7) for given in (place, place | {"diaObject": None})],
        "elasticc": [framed(desc, elasticc_alert(k, **host), 7) for k in range(2)],
    }[name]
    schema = rubin if name == "lsst" else desc
    rng = random.Random(4)
    payloads = [payload for _ in range(1500) for payload in (mutated(good, rng), good[0])]
    decoder = PacketDecoder(packet(name), Known(lambda number: schema if number == 7 else None))
    galaxies, refusals = decoder.decode(messages(payloads))
    assert set(galaxies.message.tolist()) | set(refusals.message.tolist()) == set(range(len(payloads)))
    assert all(refusals.text)
    neighbours = np.flatnonzero(galaxies.message % 2)
    assert len(neighbours) == 1500
    alone, _ = decoder.decode(messages(good[:1]))
    assert np.array_equal(galaxies.flux[neighbours], np.repeat(alone.flux, 1500, axis=0), equal_nan=True)
    assert set(galaxies.object_id.take(neighbours).to_pylist()) == set(alone.object_id.to_pylist())
    assert 100 < len(refusals.text) < 1500


# -- the tables --------------------------------------------------------------------------------------------------------


def test_every_survey_is_found_by_its_file() -> None:
    assert packets.surveys() == ["elasticc", "lsst", "ztf"]
    for name in packets.surveys():
        found = packet(name)
        assert found.name == name
        assert len({want.path for want in wants(found)}) == len(wants(found))
        bands = len(PacketDecoder(found).bands)
        assert all(len(host.magnitude) == len(host.magnitude_err) == bands for host in found.hosts)


def test_an_edited_table_is_another_processing() -> None:
    prints = {packets.fingerprint(packet(name)) for name in packets.surveys()}
    assert len(prints) == 3
    edited = ztf.PACKET._replace(choice=ztf.PACKET.choice._replace(radius=9.0))
    assert packets.fingerprint(edited) != packets.fingerprint(ztf.PACKET)
    assert PacketDecoder(edited).version != PacketDecoder(ztf.PACKET).version
    assert PacketDecoder(ztf.PACKET).version.startswith("ztf-1+")
    same = ztf.PACKET._replace(ebv="")  # what stands at its default
    assert packets.fingerprint(same) == packets.fingerprint(ztf.PACKET)


# -- real packets ------------------------------------------------------------------------------------------------------


def rubin_file_schema(number: int) -> Any:
    path = DATA / "schemas" / "lsst" / str(number // 100) / str(number % 100)
    path /= f"lsst.v{number // 100}_{number % 100}.alert.avsc"
    return fastavro.schema.load_schema(str(path)) if path.exists() else None


def library_records(payload: bytes) -> list[dict[str, Any]]:
    """The records of a payload as an Avro library reads them."""
    if payload.startswith(b"Obj\x01"):
        return list(fastavro.reader(io.BytesIO(payload)))  # type: ignore[arg-type]
    schema = rubin_file_schema(struct.unpack(">bI", payload[:5])[1])
    return [fastavro.schemaless_reader(io.BytesIO(payload[5:]), schema, None)]  # type: ignore[list-item]


@needs_data
@pytest.mark.parametrize(
    ("folder", "name", "fewest", "refused"),
    [
        ("ztf_real", "ztf", 160, 0),
        ("lsst_real", "lsst", 1, 0),
        ("lsst_synthetic", "lsst", 24, 3),
        ("elasticc_sim", "elasticc", 44, 0),
    ],
)
def test_real_packets(folder: str, name: str, fewest: int, refused: int) -> None:
    """Every row is what the twin makes of the library's record; what gives none says what its schema lacks."""
    files = sorted(file for file in (DATA / folder).glob("*.avro"))
    payloads = [file.read_bytes() for file in files]
    found = packet(name)
    galaxies, refusals = PacketDecoder(found, Known(rubin_file_schema)).decode(messages(payloads))
    assert len(set(galaxies.message.tolist())) >= fewest
    assert len(refusals.text) == refused
    assert {Reason(r) for r in refusals.reason.tolist()} <= {Reason.LACKS_FIELD, Reason.UNKNOWN_SCHEMA}
    whole = set(range(len(files))) - set(refusals.message.tolist())
    records = [(m, row, record) for m in sorted(whole) for row, record in enumerate(library_records(payloads[m]))]
    assert [(m, row) for m, row, _ in records] == list(
        zip(galaxies.message.tolist(), galaxies.row.tolist(), strict=True)
    )
    for i, (m, _, record) in enumerate(records):
        try:
            assert_row(galaxies, i, twin.row(found, record))
        except AssertionError as error:
            raise AssertionError(f"{files[m].name}: {error}") from error


@needs_data
@pytest.mark.parametrize("name", ["ztf", "lsst", "elasticc"])
@pytest.mark.parametrize(
    "folder", ["corrupt_or_nonstandard", "other_surveys", "ztf_real", "elasticc_sim", "lsst_synthetic"]
)
def test_no_file_costs_another_its_row(folder: str, name: str) -> None:
    """Whatever lies between good packets, broken or another survey's: it is rows or is refused with a sentence."""
    found = packet(name)
    good = {
        "ztf": container(ZTF, [ztf_alert(0)]),
        "lsst": framed(rubin_schema(10, 0), blank(rubin_schema(10, 0), {"diaObject.diaObjectId": 7}), 77),
        "elasticc": container(elasticc_schema(), [elasticc_alert(0)]),
    }[name]
    known = Known(lambda number: rubin_schema(10, 0) if number == 77 else rubin_file_schema(number))
    files = [file for file in sorted((DATA / folder).rglob("*")) if file.is_file()]
    payloads = [payload for file in files for payload in (file.read_bytes(), good)]
    galaxies, refusals = PacketDecoder(found, known).decode(messages(payloads))
    assert set(range(1, len(payloads), 2)) <= set(galaxies.message.tolist())
    assert not set(refusals.message.tolist()) & set(range(1, len(payloads), 2))
    assert set(galaxies.message.tolist()) | set(refusals.message.tolist()) == set(range(len(payloads)))
    assert all(refusals.text)
    if folder == "corrupt_or_nonstandard":
        cut = [m for m in range(0, len(payloads), 2) if "121540793515135010" in files[m // 2].name]
        assert set(cut) <= set(refusals.message.tolist())


def test_known_schemas_may_be_given_ids() -> None:
    schema = elasticc_schema()
    parse(schema)
    known = KnownSchemas([], {12: schema})
    assert known.get(12) is schema
    assert known.get(13) is None
    with pytest.raises(SchemaError):
        parse({"type": "record", "name": "R", "fields": [{"name": "x", "type": "nobody"}]})


# -- the worked example of the docs ------------------------------------------------------------------------------------


def test_the_survey_that_the_docs_add() -> None:
    text = (Path(__file__).parent.parent / "docs" / "surveys.md").read_text()
    table, test = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    world: dict[str, Any] = {"json": json, "messages": messages, "pytest": pytest, "PacketDecoder": PacketDecoder}
    exec(table, world)
    exec(test, world)
    world["test_a_lantern_alert"]()
    far = {"alertId": 8, "source": {"name": "L2", "ra": 1.0, "dec": 2.0, "mjd": 61_000.0}, "host": {"separation": 6.0}}
    galaxies, _ = PacketDecoder(world["PACKET"]).decode(messages([json.dumps(far).encode()]))
    assert galaxies.flags is not None
    assert Flag(int(galaxies.flags[0])) == NO_HOST
