"""The PDF column that we write by hand: four readers find in it what they find in pyarrow's; its parts against plain twins."""

import json
import tempfile
from itertools import pairwise
from pathlib import Path

import duckdb
import numpy as np
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, QueryBuilder
from deltalake.transaction import AddAction
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.pdf_column import pdf_column
from schemas.catalogue import ROWS
from streamer.sink.parquet import file as parquet
from streamer.sink.parquet import thrift
from streamer.sink.parquet import vectors as made
from streamer.sink.staging import parquet_options, stage, statistics
from tests.catalogue_builder import gaussians

SCHEMA = pa.schema([("id", pa.int64()), ("name", pa.string()), ROWS.field("pdf"), ("z", pa.float32())])

NUMBERS = st.integers(-(1 << 62), 1 << 62)
SCALARS = st.one_of(
    st.tuples(st.sampled_from([thrift.TRUE, thrift.FALSE]), st.none()),
    st.tuples(st.sampled_from([thrift.I16, thrift.I32, thrift.I64]), NUMBERS),
    st.tuples(st.just(thrift.BYTE), st.integers(0, 255)),
    st.tuples(st.just(thrift.DOUBLE), st.floats(allow_nan=False)),
    st.tuples(st.just(thrift.BINARY), st.binary(max_size=200)),
)
STRUCTS = st.recursive(
    st.dictionaries(st.integers(1, 300), SCALARS, max_size=5),
    lambda inner: st.dictionaries(
        st.integers(1, 300),
        SCALARS
        | st.tuples(st.just(thrift.STRUCT), inner)
        | st.tuples(st.just(thrift.LIST), st.tuples(st.just(thrift.STRUCT), st.lists(inner, max_size=20)))
        | st.tuples(st.just(thrift.LIST), st.tuples(st.just(thrift.I32), st.lists(NUMBERS, max_size=20))),
        max_size=4,
    ),
    max_leaves=20,
)


def table(rows: list[bool], length: int, chunks: list[int]) -> pa.Table:
    """A table of which row k has a PDF where `rows[k]`, in chunks that end at `chunks`, all slices of a larger one."""
    n = len(rows)
    pdf = np.random.default_rng(n * length).normal(size=(n, length)).astype(np.float32)
    pdf[~np.array(rows, bool), 0] = np.nan
    whole = pa.table(
        [
            pa.array(range(n), pa.int64()),
            pa.array([f"galaxy {k}" if k % 3 else None for k in range(n)]),
            pdf_column(pdf),
            pa.array(np.arange(n, dtype=np.float32)),
        ],
        schema=SCHEMA,
    )
    bounds = [0, *sorted(chunks), n]
    return pa.concat_tables([whole.slice(a, b - a) for a, b in pairwise(bounds)])


def by_hand(path: Path, rows: pa.Table, vector: str = "pdf") -> None:
    parquet.write(path, rows, parquet_options(rows.column_names, ["name"]), vector)


def is_by_hand(path: Path) -> bool:
    """Whether the PDFs of every row group are ours: those stand behind all that pyarrow wrote."""
    metadata = pq.read_metadata(path)
    at = [metadata.schema.column(k).path for k in range(metadata.num_columns)].index("pdf.list.element")
    offsets = [
        [metadata.row_group(g).column(k).data_page_offset for k in range(metadata.num_columns)]
        for g in range(metadata.num_row_groups)
    ]
    assert at < metadata.num_columns - 1  # else it stands last in a file of pyarrow's too
    return min(row.pop(at) for row in offsets) > max(max(row) for row in offsets)


def in_delta(folder: Path, path: Path, schema: pa.Schema) -> DeltaTable:
    """A Delta table of the one file `path`, which lies in `folder`."""
    found = DeltaTable.create(str(folder), schema)
    about = json.dumps({"numRecords": pq.read_metadata(path).num_rows})
    add = AddAction(path.name, path.stat().st_size, {}, 0, True, about)
    found.create_write_transaction([add], "append", found.schema())
    return DeltaTable(str(folder))


def readings(path: Path, folder: Path, schema: pa.Schema) -> dict[str, pa.Table]:
    """What four readers make of the file, in one shape."""
    delta = QueryBuilder().register("t", in_delta(folder, path, schema)).execute("select * from t order by id")
    with duckdb.connect() as engine:
        duck = engine.sql("select * from read_parquet(?) order by id", params=[str(path)]).to_arrow_table()
    found = {
        "pyarrow": pq.read_table(path),
        "polars": polars.read_parquet(path).to_arrow(),
        "duckdb": duck,
        "deltalake": pa.table(delta.read_all()),
    }
    return {who: each.cast(schema) for who, each in found.items()}


@given(
    rows=st.lists(st.booleans(), min_size=1, max_size=60).filter(any),
    length=st.integers(1, 40),
    chunks=st.lists(st.integers(0, 60), max_size=3),
    group=st.sampled_from([1, 7, 16, 1000]),
    page=st.sampled_from([1, 64, 300, 1 << 20]),
)
@settings(max_examples=30, deadline=None)
def test_four_readers_find_every_list_and_null(
    rows: list[bool], length: int, chunks: list[int], group: int, page: int
) -> None:
    given = table(rows, length, [c for c in chunks if c <= len(rows)])
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "ROW_GROUP", group)
        patch.setattr(made, "PAGE_BYTES", page)
        path = Path(name, "rows.parquet")
        by_hand(path, given)
        assert is_by_hand(path)
        for who, found in readings(path, Path(name), SCHEMA).items():
            assert found.equals(given.combine_chunks()), who


def test_a_file_by_hand_is_that_of_pyarrow(tmp_path: Path) -> None:
    """Rows of a catalogue, 301 points: the same schema, statistics and size, and pages of the size that readers expect."""
    rng = np.random.default_rng(1)
    pdf = gaussians(rng.uniform(0.1, 2, 3000), rng.uniform(0.02, 0.2, 3000)).astype(np.float32)
    pdf[[0, 5, 6, 2999], 0] = np.nan
    column = pdf_column(pdf)
    rows = pa.table({"id": pa.array(range(3000)), "name": ["a"] * 3000, "pdf": column, "z": pdf[:, 3]}, SCHEMA)
    by_hand(tmp_path / "hand.parquet", rows)
    by_hand(tmp_path / "pyarrow.parquet", rows, vector="")
    assert is_by_hand(tmp_path / "hand.parquet")
    assert not is_by_hand(tmp_path / "pyarrow.parquet")
    ours, theirs = (pq.ParquetFile(tmp_path / f"{who}.parquet") for who in ("hand", "pyarrow"))
    assert ours.read().equals(theirs.read())
    assert ours.schema.equals(theirs.schema)
    assert ours.schema_arrow.equals(theirs.schema_arrow)
    for k in (0, 1, 3):
        assert ours.metadata.row_group(0).column(k).statistics == theirs.metadata.row_group(0).column(k).statistics
    assert ours.metadata.row_group(0).column(2).num_values == theirs.metadata.row_group(0).column(2).num_values
    assert (tmp_path / "hand.parquet").stat().st_size < 1.02 * (tmp_path / "pyarrow.parquet").stat().st_size


@pytest.mark.parametrize(
    "lists",
    [
        [[1.0, 2.0], [3.0]],  # of several lengths
        [[], []],
        [[1.0], []],
        [None, None],
    ],
)
def test_what_is_not_of_one_length_is_left_to_pyarrow(tmp_path: Path, lists: list[list[float] | None]) -> None:
    given = pa.table({"id": [0, 1], "name": ["a", "b"], "pdf": lists, "z": [0.0, 1.0]}, SCHEMA)
    assert made.vectors(given["pdf"]) is None
    by_hand(tmp_path / "rows.parquet", given)
    assert pq.read_table(tmp_path / "rows.parquet").cast(SCHEMA).equals(given)


def test_other_columns_and_tables_without_rows_are_left_to_pyarrow(tmp_path: Path) -> None:
    assert made.vectors(pa.chunked_array([pa.array([[1, 2]], pa.list_(pa.int32()))])) is None
    assert made.vectors(pa.chunked_array([pa.array([[None, 2.0]], pa.list_(pa.float32()))])) is None
    assert made.vectors(pa.chunked_array([pa.array([1.0])])) is None
    by_hand(tmp_path / "empty.parquet", SCHEMA.empty_table())
    assert pq.read_table(tmp_path / "empty.parquet").num_rows == 0
    by_hand(tmp_path / "other.parquet", pa.table({"id": [1]}))
    assert pq.read_table(tmp_path / "other.parquet").to_pylist() == [{"id": 1}]


def test_a_null_list_that_hides_values_is_left_to_pyarrow() -> None:
    hidden = pa.ListArray.from_arrays(pa.array([0, 2, 4], pa.int32()), pa.array([1, 2, 3, 4], pa.float32()))
    masked = pa.ListArray.from_buffers(
        hidden.type, 2, [pa.py_buffer(b"\x01"), hidden.buffers()[1]], 1, 0, [hidden.values]
    )
    assert masked.to_pylist() == [[1, 2], None]
    assert made.vectors(pa.chunked_array([masked])) is None


def test_a_list_of_lists_that_may_hold_nulls_has_their_level(tmp_path: Path) -> None:
    """Tables of others name the elements nullable: the level of a value is one higher."""
    pdf = pa.array([[1.0, 2.0], None, [3.0, 4.0]], pa.list_(pa.float32()))
    given = pa.table({"id": [0, 1, 2], "pdf": pdf, "z": [0.5, 1.0, 1.5]})
    by_hand(tmp_path / "rows.parquet", given)
    assert is_by_hand(tmp_path / "rows.parquet")
    for who, found in readings(tmp_path / "rows.parquet", tmp_path, given.schema).items():
        assert found.equals(given), who


def test_a_staged_table_has_its_pdfs_by_hand(tmp_path: Path) -> None:
    """So that a change of the rows' schema does not turn the fast way off unseen."""
    pdf = pdf_column(np.full((4, 301), 0.5, np.float32))
    (tmp_path / "_delta_log").mkdir()  # of a table, as far as a writer of files looks
    stage(tmp_path, "x", pa.table({"id": [1, 2, 3, 4], "pdf": pdf, "z": [0.5] * 4}), {}, [])
    assert is_by_hand(tmp_path / "x.parquet")


def test_measured_numbers_are_split_into_byte_streams_too(tmp_path: Path) -> None:
    """float64 and float32, with nulls, as four readers find them."""
    rng = np.random.default_rng(3)
    numbers = {name: rng.normal(size=50) for name in ("ra", "z_mode")}
    given = pa.table(
        {
            "id": range(50),
            "pdf": pdf_column(rng.uniform(1, 2, (50, 7)).astype(np.float32)),
            "ra": numbers["ra"],
            "z_mode": pa.array(numbers["z_mode"].astype(np.float32), mask=np.arange(50) % 3 == 0),
        }
    )
    by_hand(tmp_path / "rows.parquet", given)
    group = pq.read_metadata(tmp_path / "rows.parquet").row_group(0)
    for k in (2, 3):
        assert "BYTE_STREAM_SPLIT" in group.column(k).encodings
        assert group.column(k).statistics.has_min_max
    for who, found in readings(tmp_path / "rows.parquet", tmp_path, given.schema).items():
        assert found.equals(given), who


@pytest.mark.parametrize(
    "values",
    [[1.0, np.nan, None, 2.0], [np.inf, 1.0, -3.0, -np.inf], [np.nan, None], [-np.inf, np.nan], [None, 1.5]],
)
def test_statistics_are_of_the_finite_numbers(values: list[float | None]) -> None:
    about = statistics(pa.table({"z_mode": pa.array(values, pa.float32())}))
    finite = [v for v in values if v is not None and np.isfinite(v)]
    assert about["minValues"] == ({"z_mode": min(finite)} if finite else {})
    assert about["maxValues"] == ({"z_mode": max(finite)} if finite else {})
    assert about["nullCount"] == {"z_mode": values.count(None)}


@given(values=st.lists(st.integers(0, (1 << 32) - 1), max_size=70))
@settings(max_examples=100, deadline=None)
def test_byte_streams_are_their_naive_twin(values: list[int]) -> None:
    words = np.array(values, "<u4")
    out = np.empty(4 * len(words), np.uint8)
    made.split(words, out)
    assert out.tobytes() == words.view(np.uint8).reshape(-1, 4).T.tobytes()


@given(fields=STRUCTS)
@settings(max_examples=100, deadline=None)
def test_thrift_there_and_back(fields: thrift.Struct) -> None:
    assert thrift.read(thrift.write(fields)) == fields


def test_a_footer_of_pyarrow_is_written_as_it_was_read(tmp_path: Path) -> None:
    given = table([True, False] * 40, 3, [])
    pq.write_table(given, tmp_path / "rows.parquet", row_group_size=3, write_page_index=True)
    whole = (tmp_path / "rows.parquet").read_bytes()
    size = int.from_bytes(whole[-8:-4], "little")
    assert thrift.write(thrift.read(whole[-8 - size : -8])) == whole[-8 - size : -8]


def test_thrift_refuses_what_parquet_does_not_have() -> None:
    with pytest.raises(ValueError, match="type 11"):
        thrift.read(bytes([1 << 4 | thrift.MAP, 0, 0]))
    with pytest.raises(ValueError, match="type 11"):
        thrift.write({1: (thrift.MAP, None)})


def test_a_damaged_page_is_found_by_its_checksum(tmp_path: Path) -> None:
    rows = table([True] * 40, 301, [])
    by_hand(tmp_path / "whole.parquet", rows)
    whole = bytearray((tmp_path / "whole.parquet").read_bytes())
    column = pq.read_metadata(tmp_path / "whole.parquet").row_group(0).column(2)
    whole[column.data_page_offset + column.total_compressed_size - 3] ^= 1
    (tmp_path / "damaged.parquet").write_bytes(whole)
    assert pq.read_table(tmp_path / "whole.parquet", page_checksum_verification=True).num_rows == 40
    with pytest.raises(OSError, match=r"(?i)crc|checksum"):
        pq.read_table(tmp_path / "damaged.parquet", page_checksum_verification=True)
