"""Stamps in tables: whole or flagged, cut about the middle, and those of the galaxies that were taken."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from models.images import inputs
from models.table_checks import check_stamps
from schemas import photometry_table, stamp_columns, table_alerts, tables
from schemas.bands import band_set
from schemas.batch import Galaxies
from schemas.errors import UserError
from schemas.native_decoder import NativeDecoder
from schemas.writing import arrow_encode, avro_encode
from tests.made_galaxies import galaxies, messages

EUCLID = band_set("euclid")


def images(n: int, side: int = 6) -> np.ndarray:
    return np.random.default_rng(n).normal(0, 1, (n, 4, side, side)).astype(np.float32)


def table(n: int, **columns: object) -> pa.Table:
    """`n` galaxies in Euclid's bands with stamps of 4 x 6 x 6; `columns` in place of some."""
    g: Galaxies = galaxies(n, "euclid")
    found: dict[str, object] = {"object_id": g.object_id, "ra": g.ra, "dec": g.dec, "z": np.linspace(0.1, 0.9, n)}
    for b, band in enumerate(g.bands):
        found |= {f"flux_{band}": g.flux[:, b], f"flux_err_{band}": g.flux_err[:, b]}
    pixels = images(n)
    found |= {
        "stamp_height": np.full(n, 6, np.int32),
        "stamp_width": np.full(n, 6, np.int32),
        "stamp_scale": np.full(n, 0.1, np.float32),
        "stamp_pixels": stamp_columns.blobs(pixels),
        "stamp_variance": stamp_columns.blobs(pixels**2),
    }
    return pa.table({name: column for name, column in (found | columns).items() if column is not None})


@pytest.mark.parametrize("name", ["t.parquet", "t.arrow"])
def test_stamps_come_back_and_only_if_asked_for(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write = pq.write_table if path.suffix == ".parquet" else pa.feather.write_feather
    write(table(7), path)
    assert photometry_table.read(path, EUCLID).stamps is None
    found = photometry_table.read(path, EUCLID, stamps=True)
    assert found.stamps is not None
    np.testing.assert_array_equal(stamp_columns.planes(found.stamps, 4, 6).pixels, images(7))
    np.testing.assert_array_equal(stamp_columns.planes(found.stamps, 4, 6).variance, images(7) ** 2)
    for rows in ([2, 3, 4], [5, 0, 5], []):
        some = found.take(np.array(rows, int)).galaxies(EUCLID.bands, "euclid").stamps
        assert some is not None
        np.testing.assert_array_equal(stamp_columns.planes(some, 4, 6).pixels, images(7)[rows])
        np.testing.assert_allclose(some.scale, 0.1)
    assert not set(stamp_columns.NAMES) & set(tables.read(path, stamps=True))


@pytest.mark.parametrize("side", [4, 6, 9])
def test_arrays_are_cut_as_a_workers_stamps_are(side: int) -> None:
    stamps = tables.of(table(5)).stamps
    assert stamps is not None
    found = stamp_columns.planes(stamps, 4, side).pixels
    worker, good, _ = inputs.cut(
        stamps._replace(variance=pa.nulls(5, pa.large_binary())), 4, side, np.ones(4, np.float32)
    )
    np.testing.assert_array_equal(np.nan_to_num(found), worker)
    assert (good == 4 * min(side, 6) ** 2).all()
    assert np.isfinite(found).sum() == 5 * 4 * min(side, 6) ** 2


def test_what_is_no_stamp_of_the_bands_is_said() -> None:
    pixels = table(6)["stamp_pixels"].to_pylist()
    pixels[1], pixels[2], pixels[3] = None, pixels[2][:-4], b""
    height = pa.array([6, 6, 6, 6, 0, 6], pa.int32())
    given = tables.of(table(6, stamp_pixels=pa.array(pixels, pa.binary()), stamp_height=height)).stamps
    assert given is not None
    np.testing.assert_array_equal(stamp_columns.whole(given, 4), [True, False, False, False, False, True])
    assert not stamp_columns.whole(given, 5).any()
    found = stamp_columns.planes(given, 4, 6).pixels
    np.testing.assert_array_equal(np.isfinite(found).all((1, 2, 3)), [True, False, False, False, False, True])


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"stamp_pixels": pa.array(["x"] * 3)}, "column stamp_pixels is string: bytes"),
        ({"stamp_height": None}, "no stamp_height"),
        ({"stamp_width": pa.array([6.0] * 3)}, "column stamp_width is double"),
    ],
)
def test_columns_that_are_no_stamps_are_named(tmp_path: Path, columns: dict[str, object], says: str) -> None:
    pq.write_table(table(3, **columns), tmp_path / "bad.parquet")
    with pytest.raises(UserError, match=f"bad.parquet cannot be read as parquet: .*{says}"):
        photometry_table.read(tmp_path / "bad.parquet", EUCLID, stamps=True)
    assert len(photometry_table.read(tmp_path / "bad.parquet", EUCLID)) == 3  # who wants no stamps has no trouble
    with pytest.raises(UserError, match=f"The table: .*{says}"):
        tables.of(table(3, **columns))


def test_a_table_is_published_with_its_stamps_and_over_again() -> None:
    found = photometry_table.find(tables.of(table(5)), EUCLID, "t")
    encode = avro_encode("native", "euclid")
    payloads = list(table_alerts.messages(found, EUCLID, np.full(5, 61000.0), encode, times=3))
    read, refused = NativeDecoder("euclid").decode(messages(payloads))
    assert not len(refused.message)
    assert read.alert_id.to_pylist() == [str(k) for k in range(15)]
    assert read.object_id.to_pylist() == found.object_id * 3
    assert read.stamps is not None
    np.testing.assert_array_equal(stamp_columns.planes(read.stamps, 4, 6).pixels[10:], images(5))
    assert stamp_columns.rows_within(read.stamps, 5000) == 4
    assert stamp_columns.rows_within(read.stamps, 1) == 1


@pytest.mark.parametrize("rows", [1, 3])
def test_event_times_are_asked_by_the_message_that_a_galaxy_goes_into(rows: int) -> None:
    """Five galaxies, twice: messages of one each, or of three and two, and again of three and two."""
    found = photometry_table.find(tables.of(table(5)), EUCLID, "t")
    encode = avro_encode("native", "euclid") if rows == 1 else arrow_encode("euclid", rows)
    payloads = list(table_alerts.messages(found, EUCLID, lambda number: 61000.0 + number, encode, rows, times=2))
    read, _ = NativeDecoder("euclid").decode(messages(payloads))
    np.testing.assert_array_equal(read.mjd, 61000.0 + read.message)
    assert len(payloads) == (10 if rows == 1 else 4)
    assert len(read) == 10


def test_a_model_refuses_stamps_of_other_pixels() -> None:
    found = photometry_table.find(tables.of(table(5)), EUCLID, "t")
    check_stamps(found, {"stamps": {"scale": 0.1}}, "t")
    check_stamps(found, {}, "t")  # of a bundle that does not say
    with pytest.raises(UserError, match=r"pixels of its stamps are 0.1 arcsec, and the model was trained on 0.2"):
        check_stamps(found, {"stamps": {"scale": 0.2}}, "t")
    check_stamps(found, {"bands": list(EUCLID.bands)}, "t")
    with pytest.raises(UserError, match="t: no galaxy has a stamp of 5 planes, those of the model's bands"):
        check_stamps(found, {"bands": list("ugriz")}, "t")
    with pytest.raises(UserError, match="t has no stamps"):
        check_stamps(photometry_table.find(tables.of(table(5, stamp_pixels=None)), EUCLID, "t"), {}, "t")
