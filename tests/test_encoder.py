"""What the encoder writes, an independent reader reads, and the decoder gives back to the last bit."""

from io import BytesIO

import numpy as np
import pyarrow as pa
import pytest
from fastavro import parse_schema, schemaless_reader, schemaless_writer
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.batch import BandState, Galaxies
from schemas.encoder import encode_arrow, encode_avro
from schemas.native_decoder import NativeDecoder
from schemas.surveys import native
from schemas.wire import confluent
from tests.made_galaxies import assert_same, changed, drawn_galaxies, galaxies, messages

SCHEMA = parse_schema(native.avro_schema("lsst"))


@settings(max_examples=80, deadline=None)
@given(drawn_galaxies())
def test_avro_round_trip_is_exact(given_galaxies: Galaxies) -> None:
    decoded, refusals = NativeDecoder("lsst").decode(messages(encode_avro(given_galaxies, "lsst")))
    assert not refusals.text
    assert_same(decoded, given_galaxies)


@settings(max_examples=80, deadline=None)
@given(drawn_galaxies(max_size=9), st.integers(1, 5), st.sampled_from([None, "lz4", "zstd"]))
def test_arrow_round_trip_is_exact(given_galaxies: Galaxies, rows: int, compression: str | None) -> None:
    payloads = encode_arrow(given_galaxies, "lsst", rows, compression)  # type: ignore[arg-type]
    assert len(payloads) == -(-len(given_galaxies) // rows)
    decoded, refusals = NativeDecoder("lsst").decode(messages(payloads))
    assert not refusals.text
    assert_same(decoded, given_galaxies)
    index = np.arange(len(given_galaxies))
    np.testing.assert_array_equal(decoded.message, index // rows)
    np.testing.assert_array_equal(decoded.row, index % rows)


@settings(max_examples=60, deadline=None)
@given(drawn_galaxies())
def test_avro_is_what_an_avro_library_writes(given_galaxies: Galaxies) -> None:
    """The naive twin: one dictionary a galaxy, through fastavro."""
    for i, payload in enumerate(encode_avro(given_galaxies, "lsst")):
        stream = BytesIO()
        schemaless_writer(stream, SCHEMA, record(given_galaxies, i))
        assert payload[confluent.HEADER_BYTES :] == stream.getvalue()


def record(g: Galaxies, i: int) -> dict[str, object]:
    values: dict[str, object] = {name: getattr(g, name)[i].as_py() for name in ("survey", "object_id", "alert_id")}
    values |= {name: float(getattr(g, name)[i]) for name in ("ra", "dec", "mjd", "ebv")}
    for b, band in enumerate(g.bands):
        values[f"flux_{band}"] = float(g.flux[i, b])
        values[f"flux_err_{band}"] = float(g.flux_err[i, b])
        values[f"state_{band}"] = BandState(g.band_state[i, b]).name
    if g.stamps is not None:
        values["stamp_height"] = int(g.stamps.height[i])
        values["stamp_width"] = int(g.stamps.width[i])
        values["stamp_scale"] = float(g.stamps.scale[i])
        values["stamp_pixels"] = g.stamps.pixels[i].as_py()
        values["stamp_variance"] = g.stamps.variance[i].as_py()
    return values


def test_a_library_reads_the_states_as_words() -> None:
    [payload] = encode_avro(changed(galaxies(1), band_state=np.array([[0, 1, 2, 0, 1, 2]], np.uint8)), "lsst")
    read = schemaless_reader(BytesIO(payload[confluent.HEADER_BYTES :]), SCHEMA, None)
    words = [read[f"state_{band}"] for band in "ugrizy"]  # type: ignore[index, call-overload]
    assert words == ["NOT_OBSERVED", "MEASURED", "NON_DETECTED"] * 2


def test_arrow_messages_carry_the_schema_as_published() -> None:
    [payload] = encode_arrow(galaxies(3), "lsst", compression=None)
    assert pa.ipc.open_stream(payload).schema.equals(native.arrow_schema("lsst"), check_metadata=True)


def test_wrong_bands_states_or_sizes_are_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="survey sdss has u g r i z"):
        encode_avro(galaxies(1), "sdss")
    with pytest.raises(ValueError, match="band state 7"):
        encode_arrow(changed(galaxies(1), band_state=np.full((1, 6), 7, np.uint8)), "lsst")
    with pytest.raises(ValueError, match="rows a message"):
        encode_arrow(galaxies(1), "lsst", rows=0)
