"""Alert packets as surveys send them, every field of them, against an Avro library; and made-up ones of the same schemas."""

import io
import os
import random
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import fastavro
import pytest

from benchmarks.avro_fuzz import at, random_value, same, value_at
from schemas import avro
from schemas.avro import Containers, Status, Want
from schemas.batch import Reason
from tests import avro_twin as twin
from tests.avro_container import block, header
from tests.made_packets import rubin_schemas

DATA = Path(os.environ.get("SLIPHER_TEST_DATA", "/nowhere")) / "alerts"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="SLIPHER_TEST_DATA names no folder with alerts")
FOLDERS = ["elasticc_sim", "lsst_real", "lsst_synthetic", "other_surveys", "ztf_real"]
VERSIONS = [(3, 0), (4, 0), (5, 0), (6, 0), (7, 0), (7, 1), (7, 4), (8, 0), (9, 0), (10, 0), (11, 0), (11, 1)]


@pytest.fixture(autouse=True)
def _plain_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library makes dates of timestamps, and minds those that its language has no date for: it shall not."""
    for name in list(fastavro.read.LOGICAL_READERS):
        monkeypatch.delitem(fastavro.read.LOGICAL_READERS, name)


def leaves(schema: Any) -> list[Want]:
    """Every leaf of `schema`, but of fields that have one name in one record: the library gives the last, we the first."""
    wants = twin.wants(schema, {**twin.named(schema), **_full_names(schema)})
    count = Counter(want.path for want in wants)
    return [want for want in wants if count[want.path] == 1]


def _full_names(schema: Any) -> dict[str, Any]:
    space = schema.get("namespace", "")
    return {f"{space}.{name}": kind for name, kind in twin.named(schema).items()}


def check(
    program: avro.Program, memory: avro.Buffers, start: Any, exact: Any, payloads: list[bytes], records: Any
) -> int:
    """Every value of `records`, which the library read from `payloads`, is what the program reads; how many those are."""
    decoded = program.run(memory, start, exact)
    assert decoded.status.tolist() == [Status.GOOD] * len(records)
    for want in program.wants:
        column = decoded.columns[want.path]
        for i, (payload, record) in enumerate(zip(payloads, records, strict=True)):
            found, expected = value_at(column, want, i, payload), _plain(at(record, want.path.split(".")), want)
            assert same(found, expected), f"{want.path}: {found!r}, not {expected!r}"
    return len(program.wants) * len(records)


def _plain(expected: Any, want: Want) -> Any:
    return None if want.kind == "enum" and expected not in want.symbols else expected


def check_container(payload: bytes) -> int:
    reader = fastavro.reader(io.BytesIO(payload))
    records = list(reader)
    found, refused = Containers(leaves(reader.writer_schema), 1 << 28, 10_000).read([payload])
    assert not refused, refused[0][1].text
    [some] = found
    assert some.row.tolist() == list(range(len(records)))
    memory = {avro.buffers([owner]).address[0]: owner for owner in some.buffers.owner}
    payloads = [memory[address] for address in some.buffers.address]
    return check(some.program, some.buffers, some.start, some.exact, payloads, records)


@needs_data
@pytest.mark.parametrize("folder", FOLDERS)
def test_every_value_of_every_real_packet(folder: str) -> None:
    files = sorted(file for file in (DATA / folder).glob("*.avro") if "rapid" not in file.name)  # whose schema we lack
    assert files
    values = 0
    for file in files:
        payload = file.read_bytes()
        if payload.startswith(b"Obj\x01"):
            values += check_container(payload)
        else:
            schema_id = struct.unpack(">bI", payload[:5])[1]
            schema = lsst_schema(DATA / "schemas" / "lsst", schema_id // 100, schema_id % 100)
            records = [fastavro.schemaless_reader(io.BytesIO(payload[5:]), schema, None)]
            program = avro.compile_schema(schema, leaves(schema))
            values += check(program, avro.buffers([payload]), 5, None, [payload], records)
    assert values > 20 * len(files)


# Three files were cut on their way into a repository; five have a schema with a default that is not of its field's type,
# which the library minds and which nobody needs to read the data.
CUT = {
    "Ampel-ZTF__121540793515135010.avro": 14440,
    "Ampel-ZTF__516434762915010006.avro": 18549,
    "Ampel-ZTF__516476004815015005.avro": 18549,
}
BAD_DEFAULT = {f"kowalski__{k}.avro" for k in (1, 2, 6, 8, 11)}


@needs_data
def test_every_corrupt_packet_is_refused_or_read_for_a_reason() -> None:
    good = sorted((DATA / "ztf_real").glob("*.avro"))[0].read_bytes()
    wants = [Want("objectId", "string", default=None), Want("candid", "i8", default=None)]
    files = {file.name: file.read_bytes() for file in (DATA / "corrupt_or_nonstandard").glob("*.avro")}
    assert files.keys() == CUT.keys() | BAD_DEFAULT
    for name, payload in files.items():
        with pytest.raises((IndexError, ValueError, fastavro.schema.SchemaParseException)):
            list(fastavro.reader(io.BytesIO(payload)))
        found, refused = Containers(wants, 1 << 28, 10_000).read([good, payload, good])
        assert {0, 2} <= {m for some in found for m in some.message.tolist()}  # it costs nobody else a row
        if name in CUT:
            [(message, why)] = refused
            assert (message, why.reason, why.byte) == (1, Reason.CORRUPT, CUT[name])
            assert "more than the container has" in why.text
        else:
            assert not refused
            [some] = [some for some in found if 1 in some.message]
            decoded = some.program.run(some.buffers, some.start, some.exact)
            assert decoded.status.tolist() == [Status.GOOD]
            name_found, _ = avro.strings(decoded.columns["objectId"], some.buffers, decoded.status == 0)  # type: ignore[arg-type]
            assert name_found.to_pylist()[0]


def lsst_schema(root: Path, major: int, minor: int) -> Any:
    """A version of Rubin's schema, as the library parses it."""
    path = root / str(major) / str(minor) / f"lsst.v{major}_{minor}.alert.avsc"
    return fastavro.schema.load_schema(str(path))


@pytest.mark.parametrize(("major", "minor"), VERSIONS)
def test_made_up_packets_of_every_rubin_schema(major: int, minor: int) -> None:
    schema = lsst_schema(rubin_schemas(), major, minor)
    made_up(schema, random.Random(major), 6)


def made_up(schema: Any, rng: random.Random, n: int) -> None:
    """Random records, bare behind five bytes and in containers, are read as the library reads them."""
    names = {**twin.named(schema), **_full_names(schema)}
    bodies = [twin.encode(schema, random_value(schema, names, rng), names) for _ in range(n)]
    records = [fastavro.schemaless_reader(io.BytesIO(body), schema, None) for body in bodies]
    payloads = [b"\x00\x00\x00\x00\x07" + body for body in bodies]
    program = avro.compile_schema(schema, leaves(schema))
    assert check(program, avro.buffers(payloads), 5, None, payloads, records) > 50
    for cut in range(1, n):  # and one that is cut costs nobody else a row
        broken = [payload[: -7 * cut] if i == cut else payload for i, payload in enumerate(payloads)]
        status = program.run(avro.buffers(broken), 5).status
        assert (status != Status.GOOD).nonzero()[0].tolist() == [cut]
    for codec in ("null", "deflate"):
        start = header(_written(schema), codec)
        assert check_container(start + block(bodies[:2], codec) + block(bodies[2:], codec)) > 50


def _written(schema: Any) -> Any:
    """A parsed schema as it would stand in a file."""
    return {key: value for key, value in schema.items() if not key.startswith("__")}


NUMBER = ["float", "null"]
CANDIDATE = {
    "type": "record",
    "name": "candidate",
    "fields": [
        {"name": "jd", "type": "double"},
        {"name": "fid", "type": "int"},
        {"name": "pid", "type": "long"},
        {"name": "diffmaglim", "type": NUMBER, "default": None},
        {"name": "pdiffimfilename", "type": ["string", "null"], "default": None},
        {"name": "candid", "type": ["long", "null"]},
        {"name": "isdiffpos", "type": "string"},
        {"name": "ra", "type": "double"},
        {"name": "dec", "type": "double"},
        *(
            {"name": f"{name}{k}", "type": ["null", "float"]}
            for k in (1, 2, 3)
            for name in ("sgmag", "srmag", "distpsnr")
        ),
    ],
}
CUTOUT = {
    "type": "record",
    "name": "cutout",
    "fields": [{"name": "fileName", "type": "string"}, {"name": "stampData", "type": "bytes"}],
}
ZTF: dict[str, Any] = {
    "type": "record",
    "name": "alert",
    "namespace": "ztf",
    "fields": [
        {"name": "schemavsn", "type": "string"},
        {"name": "objectId", "type": "string"},
        {"name": "candid", "type": "long"},
        {"name": "candidate", "type": CANDIDATE},
        {
            "name": "prv_candidates",
            "type": [{"type": "array", "items": {**CANDIDATE, "name": "prv_candidate"}}, "null"],
        },
        {"name": "cutoutScience", "type": [CUTOUT, "null"], "default": None},
        {"name": "cutoutTemplate", "type": ["ztf.cutout", "null"], "default": None},
    ],
}


@pytest.mark.parametrize("seed", range(5))
def test_made_up_packets_like_those_of_ztf(seed: int) -> None:
    made_up(fastavro.parse_schema(ZTF), random.Random(seed), 10)
