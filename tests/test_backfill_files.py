"""Files at rest, kind by kind: what is in them as messages, what cannot be read, and the same from any position on."""

import gzip
import io
import json
import os
import re
import tarfile
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from schemas.bands import band_set
from schemas.batch import Galaxies, Messages, Refusals
from schemas.native_decoder import NativeDecoder
from schemas.packet_decoder import PacketDecoder
from schemas.packets import packet
from schemas.wire import arrow_ipc, confluent
from streamer.backfill import packets, tables, tarballs
from streamer.backfill.at_rest import Changed, FileAtRest, look
from streamer.backfill.kinds import Manner
from tests.archives import GALAXY, candids, faults, messages, singles, tarball, ztf
from tests.made_packets import ZTF, container, elasticc_alert, elasticc_schema, framed, ztf_alert
from tests.made_packets import messages as batch
from tests.small_sky import sky

DATA = Path(os.environ.get("SLIPHER_TEST_DATA", "/nowhere")) / "alerts"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="SLIPHER_TEST_DATA names no folder with alerts")
LSST = Manner(band_set("lsst"))


def decode(found: list[Any], survey: str = "ztf", schemas: Any = None) -> tuple[Galaxies, Refusals]:
    given: Messages = batch([item.payload for item in found])
    return PacketDecoder(packet(survey), schemas).decode(given)


def alert_ids(found: list[Any]) -> list[str]:
    names: list[str] = decode([item for item in found if item.fault is None])[0].alert_id.to_pylist()
    return names


def test_a_container_of_many_and_one_of_one(tmp_path: Path) -> None:
    (tmp_path / "many.avro").write_bytes(ztf(0, 40, "deflate", block=900))
    found = messages(tmp_path / "many.avro")
    assert set(alert_ids(found)) == candids(0, 40)
    one = singles(7, 8).popitem()[1]
    (tmp_path / "one.avro").write_bytes(one)
    assert [item.payload for item in messages(tmp_path / "one.avro")] == [one]  # is a message as it stands


def test_a_large_file_is_several_stretches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "many.avro"
    path.write_bytes(ztf(0, 60, block=900))
    whole = messages(path)
    monkeypatch.setattr(packets, "STRETCH_BYTES", 5_000)
    with FileAtRest(path, look(path)) as file:
        stretches = packets.cut(file)
    assert len(stretches) > 3
    assert sum(stretch.messages for stretch in stretches) == 60
    assert messages(path) == whole


@pytest.mark.parametrize(
    ("payload", "id"),
    [
        (framed(ZTF, ztf_alert(3, **GALAXY), 77), "3000000000003"),
        (json.dumps(ztf_alert(3, **GALAXY) | {"cutoutScience": None}).encode(), "3000000000003"),
    ],
    ids=["confluent", "json"],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_a_single_packet_gzipped_or_not(tmp_path: Path, payload: bytes, id: str, zipped: bool) -> None:
    """Rubin's archive holds each alert gzipped, with Confluent's header."""
    path = tmp_path / "alert.avro.gz"
    path.write_bytes(gzip.compress(payload) if zipped else payload)
    galaxies, refusals = decode(messages(path), schemas=confluent.KnownSchemas([], {77: ZTF}))
    assert not refusals.text
    assert galaxies.alert_id.to_pylist() == [id]


def test_packets_without_a_header_bring_the_schema_that_is_given(tmp_path: Path) -> None:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, ZTF, ztf_alert(3, **GALAXY))
    (tmp_path / "bare").write_bytes(out.getvalue())
    (tmp_path / "container").write_bytes(ztf(4, 6))
    found = [item for name in ("bare", "container") for item in messages(tmp_path / name, Manner(None, ZTF))]
    assert set(alert_ids(found)) == candids(3, 6)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tarball_of_single_alerts(tmp_path: Path, mode: str) -> None:
    path = tarball(tmp_path / "night", {**singles(0, 12), "x" * 150 + "/many.avro": ztf(12, 20)}, mode)
    found = messages(path)
    assert alert_ids(found) == sorted(candids(0, 20))
    assert found[3].name == "3000000000003.avro"
    assert found[15].name.endswith("/many.avro")


def test_a_plain_tarball_is_several_stretches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tarball(
        tmp_path / "night.tar", singles(0, 30) | {f"{'y' * 120}{k}": ztf(30 + k, 31 + k) for k in range(9)}, "w"
    )
    whole = messages(path)
    monkeypatch.setattr(tarballs, "STRETCH_BYTES", 30_000)
    with FileAtRest(path, look(path)) as file:
        assert len(tarballs.cut(file)) > 3
    assert messages(path) == whole
    assert set(alert_ids(whole)) == candids(0, 39)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_torn_tarball(tmp_path: Path, mode: str) -> None:
    path = tarball(
        tmp_path / "night.tar", {name: os.urandom(900) + data for name, data in singles(0, 30).items()}, mode
    )
    data = path.read_bytes()
    for cut in (200, len(data) // 3, len(data) * 2 // 3):
        path.write_bytes(data[:cut])
        found = messages(path)
        assert all(item.payload is not None for item in found[:-1])
        assert "cannot be read on after" in faults(found)[-1]
    assert 15 < len(found) < 25


def test_a_tarball_that_ends_between_two_members(tmp_path: Path) -> None:
    path = tarball(tmp_path / "night.tar", singles(0, 10), "w")
    with tarfile.open(path) as tar:
        third = tar.getmembers()[3].offset
    path.write_bytes(path.read_bytes()[:third])
    found = messages(path)
    assert set(alert_ids(found)) == candids(0, 3)
    assert faults(found) == ["the tarball ends without its end mark, after 3000000000002.avro"]


def test_a_header_that_is_none_costs_its_member_alone(tmp_path: Path) -> None:
    path = tarball(tmp_path / "night.tar", singles(0, 10), "w")
    with tarfile.open(path) as tar:
        third = tar.getmembers()[3].offset
    data = bytearray(path.read_bytes())
    data[third : third + 300] = b"\xff" * 300
    path.write_bytes(data)
    found = messages(path)
    assert set(alert_ids(found)) == candids(0, 3) | candids(4, 10)
    assert faults(found) == ["what follows 3000000000002.avro in the tarball is no header of a member"]


def test_two_tarballs_one_after_the_other(tmp_path: Path) -> None:
    first, second = (tarball(tmp_path / str(k), singles(5 * k, 5 * k + 5)).read_bytes() for k in (0, 1))
    (tmp_path / "both.tar.gz").write_bytes(first + second)
    assert set(alert_ids(messages(tmp_path / "both.tar.gz"))) == candids(0, 10)


def test_files_of_another_kind_are_refused_by_the_decoder(tmp_path: Path) -> None:
    (tmp_path / "README.txt").write_text("these are alerts")
    (tmp_path / "nothing").write_bytes(b"")
    found = messages(tmp_path / "README.txt") + messages(tmp_path / "nothing")
    galaxies, refusals = decode(found)
    assert not len(galaxies)
    assert [re.sub(r"[:,].*", "", text) for text in refusals.text] == [
        "starts with bytes 74 68 65 73",
        "a message of no bytes",
    ]
    (tmp_path / "torn.gz").write_bytes(gzip.compress(b"x" * 1000)[:-12])
    assert faults(messages(tmp_path / "torn.gz")) == ["it cannot be gunzipped: it is truncated"]
    (tmp_path / "torn.avro").write_bytes(ztf(0, 3)[:100])
    assert "in the container's header" in faults(messages(tmp_path / "torn.avro"))[0]


# -- tables ------------------------------------------------------------------------------------------------------------


def table(n: int, **more: object) -> pa.Table:
    """A photometry table of the small sky."""
    galaxies, _ = sky(n)
    columns: dict[str, object] = {"object_id": galaxies.object_id, "ra": galaxies.ra, "dec": galaxies.dec}
    for b, band in enumerate("ugrizy"):
        columns |= {f"flux_{band}": galaxies.flux[:, b], f"flux_err_{band}": galaxies.flux_err[:, b]}
    return pa.table(columns | {"mjd": 61_000.0 + np.arange(n)} | more)


def write(path: Path, what: pa.Table) -> Path:
    """`what` in the format of the suffix."""
    if path.suffix == ".parquet":
        pq.write_table(what, path, row_group_size=70)
    elif path.suffix == ".csv":
        pyarrow.csv.write_csv(what, path)
    elif path.suffix == ".arrow":
        pyarrow.feather.write_feather(what, path)
    elif path.suffix == ".fits":
        from astropy.table import Table

        Table(
            {name: what[name].to_numpy().astype("U" if name == "object_id" else "f8") for name in what.column_names}
        ).write(path)
    else:
        import h5py

        with h5py.File(path, "w") as root:
            for name in what.column_names:
                root[name] = what[name].to_pylist() if name == "object_id" else what[name].to_numpy()
    return path


def galaxies_of(found: list[Any]) -> tuple[Galaxies, Refusals]:
    return NativeDecoder("lsst").decode(batch([item.payload for item in found]))


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".arrow", ".fits", ".h5"])
def test_every_table_gives_the_same_galaxies(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "CHUNK_ROWS", 30)
    monkeypatch.setattr(tables, "STRETCH_ROWS", 100)
    expected, _ = sky(250)
    found = messages(write(tmp_path / f"table{suffix}", table(250)), LSST)
    galaxies, refusals = galaxies_of(found)
    assert not refusals.text
    assert galaxies.object_id.to_pylist() == expected.object_id.to_pylist()
    np.testing.assert_allclose(galaxies.ra, expected.ra)
    np.testing.assert_allclose(galaxies.mjd, 61_000.0 + np.arange(250))
    measured = expected.band_state == 1
    np.testing.assert_allclose(galaxies.flux[measured], expected.flux[measured], rtol=1e-6)
    assert set(galaxies.alert_id.to_pylist()) == {""}


def test_rows_without_names_are_called_by_their_number(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", table(200, alert_id=pa.array(np.arange(200))).drop_columns(["object_id"]))
    galaxies, _ = galaxies_of(messages(path, LSST))
    assert galaxies.object_id.to_pylist() == [str(k) for k in range(200)] == galaxies.alert_id.to_pylist()


def test_tables_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and then nothing PAR1")
    assert "cannot be read as parquet" in faults(messages(tmp_path / "t.parquet", LSST))[0]
    (tmp_path / "t.csv").write_text("a,b\n1,2\n3,4,5\n")
    assert "cannot be read as csv" in faults(messages(tmp_path / "t.csv", LSST))[0]
    lacks = faults(messages(write(tmp_path / "u.parquet", table(5).drop_columns(["flux_r"])), LSST))
    assert len(lacks) == 5
    assert "no photometry in band r" in lacks[0]
    assert faults(messages(write(tmp_path / "v.csv", table(5).drop_columns(["flux_r"])), LSST)) == [
        text.replace("u.parquet", "v.csv") for text in lacks
    ]
    packets_wanted = faults(messages(write(tmp_path / "w.csv", table(5)), Manner(None, None, "ztf")))
    assert packets_wanted == ["a table of galaxies, where packets of ztf are read"] * 5


def test_a_damaged_row_group_costs_its_rows_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", table(210))
    where = pq.ParquetFile(path).metadata.row_group(1).column(3)
    data = bytearray(path.read_bytes())
    begin = where.dictionary_page_offset or where.data_page_offset
    data[begin : begin + 40] = b"\xff" * 40
    path.write_bytes(data)
    found = messages(path, LSST)
    assert [item.fault is None for item in found] == [True] * 70 + [False] * 70 + [True] * 70
    assert "row group 1 cannot be read" in faults(found)[0]


def test_from_any_position_on_the_rest_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "CHUNK_ROWS", 7)
    torn = tarball(tmp_path / "torn.tar.gz", {name: os.urandom(900) + data for name, data in singles(0, 9).items()})
    torn.write_bytes(torn.read_bytes()[:-4000])
    (tmp_path / "torn.avro").write_bytes(ztf(0, 25, block=900)[:-300])
    (tmp_path / "one").write_bytes(singles(3, 4).popitem()[1])
    mixed = {"a.avro": ztf(0, 7, "snappy", 900), **singles(7, 12), "README": b"hello"}
    for path in (
        tarball(tmp_path / "night.tar.gz", mixed),
        torn,
        tmp_path / "torn.avro",
        tmp_path / "one",
        write(tmp_path / "t.parquet", table(80)),
        write(tmp_path / "t.csv", table(20)),
        write(tmp_path / "bad.csv", table(5).drop_columns(["flux_r"])),
    ):
        every = messages(path, LSST)
        for skip in range(len(every) + 1):
            assert messages(path, LSST, skip) == every[skip:], (path, skip)


def test_an_arrow_stream_is_a_message(tmp_path: Path) -> None:
    (tmp_path / "s.arrow").write_bytes(arrow_ipc.write(table(3).to_batches()[0], None))
    assert len(messages(tmp_path / "s.arrow", LSST)) == 1


def test_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "many.avro"
    path.write_bytes(ztf(0, 20))
    with FileAtRest(path, look(path)) as file:
        path.write_bytes(ztf(0, 10))
        with pytest.raises(Changed, match="ends at byte"):
            file[0 : len(file)]
        with pytest.raises(Changed, match="changed after"):
            file.check()
    path.unlink()
    with pytest.raises(Changed, match="No such file"):
        look(path)


# -- real ones ---------------------------------------------------------------------------------------------------------


@needs_data
def test_real_alerts_of_ztf_as_a_night(tmp_path: Path) -> None:
    """Its twin on made alerts: test_a_tarball_of_single_alerts."""
    some = sorted((DATA / "ztf_real").glob("*.avro"))[:40]
    path = tarball(tmp_path / "ztf_public.tar.gz", {file.name: file.read_bytes() for file in some})
    galaxies, refusals = decode(messages(path))
    records = [record for file in some for record in fastavro.reader(io.BytesIO(file.read_bytes()))]  # type: ignore[arg-type]
    assert not refusals.text
    assert galaxies.alert_id.to_pylist() == [str(record["candid"]) for record in records]  # type: ignore[index,call-overload]


@needs_data
def test_real_files_of_many_records() -> None:
    """Its twin on made alerts: test_a_container_of_many_and_one_of_one."""
    path = DATA / "elasticc_sim" / "Ampel-LSST__11290844.avro"
    galaxies, refusals = decode(messages(path), "elasticc")
    records = list(fastavro.reader(io.BytesIO(path.read_bytes())))  # type: ignore[arg-type]
    assert len(records) == 3
    assert not refusals.text
    assert galaxies.alert_id.to_pylist() == [str(record["alertId"]) for record in records]  # type: ignore[index,call-overload]


@needs_data
def test_a_real_alert_of_rubin_with_the_header_of_kafka() -> None:
    """Its twin on made alerts: test_a_single_packet_gzipped_or_not."""
    from tests.made_packets import rubin_schema

    found = messages(next((DATA / "lsst_real").glob("boom__*.avro")))
    galaxies, refusals = decode(found, "lsst", confluent.KnownSchemas([], {900: rubin_schema(9, 0)}))
    assert not refusals.text
    assert len(galaxies) == 1


def test_elasticc_packets_too(tmp_path: Path) -> None:
    (tmp_path / "e.avro").write_bytes(container(elasticc_schema(), [elasticc_alert(k) for k in range(5)], "deflate"))
    galaxies, _ = decode(messages(tmp_path / "e.avro"), "elasticc")
    assert galaxies.alert_id.to_pylist() == [str(500_000 + k) for k in range(5)]
