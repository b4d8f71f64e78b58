"""The decoder: every message gives galaxies or refusals, never an exception, and no message costs another a row."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.batch import BandState, Galaxies, Reason, Refusals
from schemas.encoder import encode_arrow, encode_avro
from schemas.errors import TroubleError, UserError
from schemas.native_decoder import NativeDecoder
from schemas.surveys import native
from schemas.wire import arrow_ipc, confluent
from tests.made_galaxies import assert_same, galaxies, messages, with_value

COMPRESSIONS: list[arrow_ipc.Compression | None] = [None, "lz4", "zstd"]
GOOD = galaxies(7)
AVRO = encode_avro(GOOD, "lsst")
[ARROW] = encode_arrow(GOOD, "lsst")


def decode(payloads: Sequence[bytes | None], **options: Any) -> tuple[Galaxies, Refusals]:
    return NativeDecoder("lsst", **options).decode(messages(payloads))


def reasons(refusals: Refusals) -> list[tuple[int, int, Reason]]:
    return [
        (m, row, Reason(reason))
        for m, row, reason in zip(
            refusals.message.tolist(), refusals.row.tolist(), refusals.reason.tolist(), strict=True
        )
    ]


def refused(payload: bytes | None, **options: Any) -> tuple[Reason, str]:
    """The one refusal of a message that gives no galaxy."""
    found, refusals = decode([payload], **options)
    assert len(found) == 0
    [(message, row, reason)] = reasons(refusals)
    assert (message, row) == (0, -1)
    return reason, refusals.text[0]


def arrow_message(change: Callable[[pa.Table], pa.Table], survey: str = "lsst") -> bytes:
    [payload] = encode_arrow(GOOD, survey)
    table = change(pa.ipc.open_stream(payload).read_all())
    return arrow_ipc.write(table.combine_chunks().to_batches()[0], None)


def column(name: str, values: pa.Array) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.set_column(table.schema.get_field_index(name), name, values)


def test_nothing_gives_nothing() -> None:
    found, refusals = decode([])
    assert len(found) == 0
    assert found.flux.shape == (0, 6)
    assert refusals.text == []


def test_forms_mixed_in_one_batch_come_out_in_message_order() -> None:
    found, refusals = decode([*AVRO[:2], ARROW, *AVRO[2:]])
    assert refusals.text == []
    assert found.message.tolist() == [0, 1] + [2] * 7 + [3, 4, 5, 6, 7]
    assert found.row.tolist() == [0, 0, *range(7), 0, 0, 0, 0, 0]
    numbers = [0, 1, *range(7), 2, 3, 4, 5, 6]
    assert found.object_id.to_pylist() == [f"object-{i}" for i in numbers]
    np.testing.assert_array_equal(found.flux, GOOD.flux[numbers])


@pytest.mark.parametrize(
    ("payload", "reason", "words"),
    [
        (None, Reason.EMPTY, "tombstone"),
        (b"", Reason.EMPTY, "no bytes"),
        (b"\x00\x01", Reason.BAD_FRAMING, "too few"),
        (b"hello", Reason.BAD_FRAMING, "68 65 6c 6c"),
        (confluent.header(4711) + AVRO[0][5:], Reason.UNKNOWN_SCHEMA, "4711"),
        (AVRO[0][:5], Reason.CORRUPT, "truncated"),
        (AVRO[0][:-1], Reason.CORRUPT, "truncated"),
        (AVRO[0] + b"!", Reason.CORRUPT, "1 bytes too many"),
        (ARROW[:-8], Reason.CORRUPT, "no end mark"),
        (ARROW[:-9], Reason.CORRUPT, "cannot be read"),
        (ARROW + b"!", Reason.CORRUPT, "1 bytes too many"),
        (ARROW + ARROW, Reason.CORRUPT, "bytes too many"),
        (encode_avro(galaxies(1, "sdss"), "sdss")[0], Reason.LACKS_FIELD, "flux_y"),
        (encode_arrow(galaxies(1, "sdss"), "sdss")[0], Reason.WRONG_SURVEY, "'sdss', not lsst"),
    ],
)
def test_a_message_that_cannot_be_read_says_why(payload: bytes | None, reason: Reason, words: str) -> None:
    found, text = refused(payload)
    assert found == reason
    assert words in text


@pytest.mark.parametrize("payload", [*AVRO[:2], *(encode_arrow(GOOD, "lsst", compression=c)[0] for c in COMPRESSIONS)])
def test_every_truncation_is_refused(payload: bytes) -> None:
    found, refusals = decode([payload[:end] for end in range(1, len(payload))])
    assert len(found) == 0
    assert refusals.message.tolist() == list(range(len(payload) - 1))
    assert set(refusals.reason.tolist()) == {Reason.BAD_FRAMING, Reason.CORRUPT}


def test_an_arrow_stream_without_rows_is_empty() -> None:
    schema = native.arrow_schema("lsst")
    no_rows = pa.record_batch([pa.array([], field.type) for field in schema], schema=schema)
    assert refused(arrow_ipc.write(no_rows, None))[0] == Reason.EMPTY
    sink = pa.BufferOutputStream()
    pa.ipc.new_stream(sink, schema).close()
    assert refused(sink.getvalue().to_pybytes())[0] == Reason.EMPTY


def test_bounds_on_bytes_and_rows() -> None:
    assert refused(ARROW, max_rows=6)[0] == Reason.TOO_LARGE
    assert refused(AVRO[0], max_message_bytes=len(AVRO[0]) - 1)[0] == Reason.TOO_LARGE
    assert len(decode([ARROW, AVRO[0]], max_rows=7)[0]) == 8


def test_a_configured_framing_wins() -> None:
    assert refused(ARROW, framing="confluent-avro")[0] == Reason.BAD_FRAMING
    assert refused(AVRO[0], framing="arrow")[0] == Reason.BAD_FRAMING
    assert len(decode([ARROW], framing="arrow")[0]) == 7
    with pytest.raises(UserError, match="auto, confluent-avro, container, arrow"):
        NativeDecoder("lsst", framing="protobuf")
    with pytest.raises(UserError, match="--schema"):
        NativeDecoder("lsst", framing="avro")


@pytest.mark.parametrize("name", ["survey", "object_id", "ra", "flux_u", "state_y", "ebv"])
def test_a_missing_column_is_named(name: str) -> None:
    reason, text = refused(arrow_message(lambda table: table.drop_columns([name])))
    assert reason == Reason.LACKS_FIELD
    assert name in text


def test_an_arrow_message_needs_no_stamp_columns_and_may_have_others() -> None:
    def change(table: pa.Table) -> pa.Table:
        lean = table.drop_columns([name for name in table.column_names if name.startswith("stamp")])
        return lean.add_column(0, "mood", pa.array(["fine"] * 7)).select(["mood", *reversed(lean.column_names)])

    found, refusals = decode([arrow_message(change)])
    assert refusals.text == []
    assert_same(found, GOOD)


def test_wider_types_of_the_same_kind_are_cast_and_others_refused() -> None:
    wide = [
        column("flux_u", pa.array(GOOD.flux[:, 0].astype(np.float64))),
        column("object_id", GOOD.object_id.cast(pa.large_string())),
        column("survey", GOOD.survey.dictionary_encode()),
        column("state_u", pa.array(GOOD.band_state[:, 0].astype(np.int64))),
    ]
    for change in wide:
        found, refusals = decode([arrow_message(change)])
        assert refusals.text == []
        assert_same(found, GOOD)
    for change in (column("ra", pa.array(["1.0"] * 7)), column("state_u", pa.array([1.0] * 7))):
        assert refused(arrow_message(change))[0] == Reason.LACKS_FIELD


def test_another_message_or_version_is_not_a_galaxy() -> None:
    for key, value in (("slipher.version", "2"), ("slipher.message", "supernova")):
        payload = arrow_message(
            lambda t, key=key, value=value: t.replace_schema_metadata({**t.schema.metadata, key.encode(): value})  # type: ignore[misc]
        )
        assert refused(payload)[0] == Reason.UNKNOWN_SCHEMA


BAD_VALUES = [
    ({"ra": np.nan}, Reason.BAD_POSITION),
    ({"ra": -1e-9}, Reason.BAD_POSITION),
    ({"ra": 360.0001}, Reason.BAD_POSITION),
    ({"ra": np.inf}, Reason.BAD_POSITION),
    ({"dec": np.nan}, Reason.BAD_POSITION),
    ({"dec": 90.0001}, Reason.BAD_POSITION),
    ({"object_id": ""}, Reason.BAD_OBJECT_ID),
    ({"survey": "des"}, Reason.WRONG_SURVEY),
    ({"survey": "des", "ra": np.nan, "object_id": ""}, Reason.WRONG_SURVEY),
]


@pytest.mark.parametrize(("values", "reason"), BAD_VALUES)
def test_a_bad_row_costs_itself_only(values: dict[str, Any], reason: Reason) -> None:
    broken = with_value(GOOD, 3, **values)
    found, refusals = decode(encode_avro(broken, "lsst"))
    assert reasons(refusals) == [(3, -1, reason)]
    assert found.message.tolist() == [0, 1, 2, 4, 5, 6]
    found, refusals = decode(encode_arrow(broken, "lsst"))
    assert reasons(refusals) == [(0, 3, reason)]
    assert found.row.tolist() == [0, 1, 2, 4, 5, 6]
    np.testing.assert_array_equal(found.flux, np.delete(GOOD.flux, 3, axis=0))


def test_nulls_in_arrow_columns() -> None:
    def null_at(values: pa.Array, i: int) -> pa.Array:
        return pa.array([None if k == i else v for k, v in enumerate(values.to_pylist())], values.type)

    for name, reason in (("object_id", Reason.BAD_OBJECT_ID), ("survey", Reason.WRONG_SURVEY)):
        found, refusals = decode([arrow_message(column(name, null_at(getattr(GOOD, name), 2)))])
        assert reasons(refusals) == [(0, 2, reason)]
        assert len(found) == 6
    found, refusals = decode([arrow_message(column("flux_r", null_at(pa.array(GOOD.flux[:, 2]), 2)))])
    assert refusals.text == []
    assert np.isnan(found.flux[2, 2])
    found, refusals = decode([arrow_message(column("ra", null_at(pa.array(GOOD.ra), 2)))])
    assert reasons(refusals) == [(0, 2, Reason.BAD_POSITION)]
    found, _ = decode([arrow_message(column("alert_id", null_at(GOOD.alert_id, 2)))])
    assert found.alert_id[2].as_py() == ""


@pytest.mark.parametrize(
    "values",
    [
        pa.array([0, 1, 2, 7, 0, 1, None], pa.uint8()),
        pa.array([0, 1, 2, 3000, 0, 1, -1], pa.int64()),
    ],
)
def test_an_unknown_state_costs_its_row_and_names_the_band(values: pa.Array) -> None:
    found, refusals = decode([arrow_message(column("state_g", values))])
    assert reasons(refusals) == [(0, 3, Reason.CORRUPT), (0, 6, Reason.CORRUPT)]
    assert "band g" in refusals.text[0]
    assert found.row.tolist() == [0, 1, 2, 4, 5]


@pytest.mark.parametrize("code", [b"\x01", b"\x06", b"\x7f"])  # zigzag -1, 3 and -64
def test_an_avro_state_out_of_range_is_refused(code: bytes) -> None:
    start = AVRO[0].index(GOOD.flux_err[0, 0].tobytes()) + 4  # the state of u
    reason, text = refused(AVRO[0][:start] + code + AVRO[0][start + 1 :])
    assert reason == Reason.CORRUPT
    assert "state_u" in text


def test_a_message_may_lose_all_its_rows() -> None:
    broken = galaxies(3)
    broken.dec[:] = 91
    found, refusals = decode([AVRO[0], *encode_arrow(broken, "lsst"), AVRO[1]])
    assert found.message.tolist() == [0, 2]
    assert reasons(refusals) == [(1, row, Reason.BAD_POSITION) for row in range(3)]


def test_ra_360_is_0() -> None:
    found, refusals = decode(encode_avro(with_value(galaxies(2), 1, ra=360.0, dec=-90.0), "lsst"))
    assert refusals.text == []
    assert found.ra[1] == 0


def test_a_galaxy_that_no_band_observed_is_a_row() -> None:
    n = 3
    dark = Galaxies(
        **{
            **vars(galaxies(n)),
            "band_state": np.full((n, 6), BandState.NOT_OBSERVED, np.uint8),
            "flux": np.full((n, 6), np.nan, np.float32),
            "flux_err": np.full((n, 6), np.nan, np.float32),
            "ebv": np.full(n, np.nan, np.float32),
            "mjd": np.full(n, np.nan),
        }
    )
    for payloads in (encode_avro(dark, "lsst"), encode_arrow(dark, "lsst")):
        found, refusals = decode(payloads)
        assert refusals.text == []
        assert_same(found, dark)


def test_another_writer_with_other_fields_in_another_order_is_read_by_name() -> None:
    """Fields reversed, one more enum, doubles for floats, states with a symbol of their own."""
    from io import BytesIO

    from fastavro import parse_schema, schemaless_writer

    theirs = native.avro_schema("lsst")
    fields = {field["name"]: field for field in theirs["fields"] if not field["name"].startswith("stamp")}
    states = {"type": "enum", "name": "S", "symbols": ["SATURATED", "NON_DETECTED", "MEASURED", "NOT_OBSERVED"]}
    for band in "ugrizy":
        fields[f"state_{band}"]["type"] = states if band == "y" else "S"  # y comes first
        fields[f"flux_{band}"]["type"] = "double"
    colour = {"name": "colour", "type": ["null", {"type": "enum", "name": "C", "symbols": ["RED"]}], "default": None}
    theirs = {"type": "record", "name": "Other", "fields": [colour, *reversed(fields.values())]}

    def written(state_u: str) -> bytes:
        record: dict[str, Any] = {"survey": "lsst", "object_id": "x", "alert_id": "", "ra": 1.0, "dec": 2.0}
        record |= {"mjd": 3.0, "ebv": 0.5, "colour": "RED"}
        for band in "ugrizy":
            record |= {f"flux_{band}": 1e300, f"flux_err_{band}": 1.0, f"state_{band}": "NON_DETECTED"}
        stream = BytesIO()
        schemaless_writer(stream, parse_schema(theirs), record | {"state_u": state_u})
        return confluent.header(7) + stream.getvalue()

    class Registry:
        def get(self, schema_id: int) -> dict[str, Any] | None:
            return theirs if schema_id == 7 else None

    found, refusals = decode([written("MEASURED"), written("SATURATED")], schemas=Registry())
    assert found.band_state.tolist() == [[1, 2, 2, 2, 2, 2]]
    assert np.isinf(found.flux).all()
    assert reasons(refusals) == [(1, -1, Reason.CORRUPT)]
    assert "band u" in refusals.text[0]


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "record", "name": "A", "fields": []}, Reason.LACKS_FIELD),
        ({"type": "string"}, Reason.LACKS_FIELD),
        ({"type": "no such type"}, Reason.UNKNOWN_SCHEMA),
        ({}, Reason.UNKNOWN_SCHEMA),
        ([], Reason.UNKNOWN_SCHEMA),
    ],
)
def test_a_registry_may_hold_anything(schema: Any, reason: Reason) -> None:
    class Registry:
        def get(self, schema_id: int) -> dict[str, Any] | None:
            return schema

    assert refused(AVRO[0], schemas=Registry())[0] == reason


def test_a_registry_that_is_away_is_no_reason_to_refuse() -> None:
    class Away:
        def get(self, schema_id: int) -> dict[str, Any] | None:
            raise TroubleError("The registry does not answer: try again later.")

    with pytest.raises(TroubleError):
        decode([AVRO[0]], schemas=Away())


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_poison_costs_nobody_else_a_row(data: st.DataObject) -> None:
    """Bad messages anywhere leave the galaxies of the good ones as they were, and each stands in the refusals."""
    good: list[bytes] = [*AVRO, ARROW]
    cut = st.sampled_from(good).flatmap(lambda p: st.integers(1, len(p) - 1).map(lambda end: p[:end]))
    grown = st.sampled_from(good).flatmap(lambda p: st.binary(min_size=1, max_size=9).map(lambda tail: p + tail))
    header = st.binary(max_size=150).map(lambda body: AVRO[0][:5] + body)
    garbage = st.binary(max_size=40) | header | st.binary(max_size=90).map(lambda b: arrow_ipc.ARROW_MAGIC + b)
    poison = data.draw(st.lists(st.none() | cut | grown | garbage, max_size=6))
    mixed = data.draw(st.permutations([(True, p) for p in good] + [(False, p) for p in poison]))

    alone, _ = decode([p for is_good, p in mixed if is_good])
    found, refusals = decode([p for _, p in mixed])
    bad = [m for m, (is_good, _) in enumerate(mixed) if not is_good]
    rows = ~np.isin(found.message, bad)
    assert rows.all()
    assert_same(found, alone)
    assert refusals.message.tolist() == bad


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([*AVRO[:2], *(encode_arrow(GOOD, "lsst", compression=c)[0] for c in COMPRESSIONS)]),
    st.data(),
)
def test_no_mutation_raises(payload: bytes, data: st.DataObject) -> None:
    changed = bytearray(payload)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    found, refusals = decode([AVRO[3], bytes(changed), ARROW])
    assert {0, 2} <= set(found.message.tolist())
    assert set(found.message.tolist()) | set(refusals.message.tolist()) == {0, 1, 2}
    assert np.isin(found.band_state, list(BandState)).all()


def test_decoding_is_pure() -> None:
    decoder = NativeDecoder("lsst")
    batch = messages([None, *AVRO, b"?", ARROW])
    first, again = decoder.decode(batch), decoder.decode(batch)
    assert_same(first[0], again[0])
    assert first[1].text == again[1].text
    assert decoder.version == native.DECODER_VERSION
    assert decoder.bands == ("u", "g", "r", "i", "z", "y")
