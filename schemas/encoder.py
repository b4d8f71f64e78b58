"""The producer's side: galaxies to native galaxy messages, one a message in Avro, thousands a message in Arrow.

The Avro of a galaxy is three strings, then fields of fixed width, then the stamp: the fixed fields of all galaxies are
laid out by NumPy at once. The tests hold this against an Avro library.
"""

from typing import Any

import numpy as np
import pyarrow as pa

from schemas.avro.write import sized, zigzag
from schemas.bands import band_set
from schemas.batch import BandState, Galaxies, Int32
from schemas.surveys import native
from schemas.wire import arrow_ipc, confluent

_NO_STAMP = bytes(8)  # height 0, width 0, scale 0.0, pixels null, variance null


def encode_avro(galaxies: Galaxies, survey: str) -> list[bytes]:
    """One message a galaxy: Confluent header with the fingerprint id of the schema of `survey`, then Avro.

    Raises
    ------
    ValueError
        Where the bands are not those of `survey`, or a band state is none.
    """
    return confluent.framed(avro_bodies(galaxies, survey), confluent.fingerprint_id(native.avro_schema(survey)))


def avro_bodies(galaxies: Galaxies, survey: str) -> list[bytes]:
    """The Avro of each galaxy, without any framing, written with ``native.avro_schema(survey)``.

    Raises
    ------
    ValueError
        As ``encode_avro``.
    """
    _check(galaxies, survey)
    names = (_strings(column) for column in (galaxies.survey, galaxies.object_id, galaxies.alert_id))
    return [b"".join(parts) for parts in zip(*names, _fixed_fields(galaxies), _stamp_fields(galaxies), strict=True)]


def encode_arrow(
    galaxies: Galaxies, survey: str, rows: int = 2000, compression: arrow_ipc.Compression | None = "lz4"
) -> list[bytes]:
    """Messages of at most `rows` galaxies, each a complete Arrow IPC stream of the schema of `survey`.

    Raises
    ------
    ValueError
        Where the bands are not those of `survey`, a band state is none, or `rows` is not positive.
    """
    _check(galaxies, survey)
    if rows < 1:
        raise ValueError(f"{rows} rows a message: at least one is needed")
    schema = native.arrow_schema(survey)
    columns = _columns(galaxies)
    messages = []
    for start in range(0, len(galaxies), rows):
        arrays = [columns[field.name][start : start + rows].cast(field.type) for field in schema]
        messages.append(arrow_ipc.write(pa.record_batch(arrays, schema=schema), compression))
    return messages


def _check(galaxies: Galaxies, survey: str) -> None:
    bands = band_set(survey).bands
    if galaxies.bands != bands:
        raise ValueError(f"galaxies in the bands {' '.join(galaxies.bands)}: survey {survey} has {' '.join(bands)}")
    if (galaxies.band_state > max(BandState)).any():
        raise ValueError(f"band state {int(galaxies.band_state.max())} is none: 0, 1 and 2 are")


def _fixed_fields(galaxies: Galaxies) -> list[bytes]:
    """Positions, time, photometry and E(B-V) of each galaxy as Avro: all little-endian, a state is one byte."""
    layout: list[Any] = [("ra", "<f8"), ("dec", "<f8"), ("mjd", "<f8")]
    for band in galaxies.bands:
        layout += [(f"flux_{band}", "<f4"), (f"flux_err_{band}", "<f4"), (f"state_{band}", "u1")]
    fixed = np.empty(len(galaxies), np.dtype([*layout, ("ebv", "<f4")]))
    for name in ("ra", "dec", "mjd", "ebv"):
        fixed[name] = getattr(galaxies, name)
    for b, band in enumerate(galaxies.bands):
        fixed[f"flux_{band}"] = galaxies.flux[:, b]
        fixed[f"flux_err_{band}"] = galaxies.flux_err[:, b]
        fixed[f"state_{band}"] = galaxies.band_state[:, b] * 2  # the zigzag code of a small number
    blob, size = fixed.tobytes(), fixed.dtype.itemsize
    return [blob[i : i + size] for i in range(0, len(blob), size)]


def _stamp_fields(galaxies: Galaxies) -> list[bytes]:
    stamps = galaxies.stamps
    if stamps is None:
        return [_NO_STAMP] * len(galaxies)
    scales = stamps.scale.astype("<f4").tobytes()
    pixels, variances = stamps.pixels, stamps.variance
    return [
        b"".join(
            (
                zigzag(int(stamps.height[i])),
                zigzag(int(stamps.width[i])),
                scales[4 * i : 4 * i + 4],
                _optional_bytes(pixels[i].as_py()),
                _optional_bytes(variances[i].as_py()),
            )
        )
        for i in range(len(galaxies))
    ]


def _strings(column: pa.Array) -> list[bytes]:
    encoded = (b"" if value is None else value.encode() for value in column.to_pylist())
    return [sized(value) for value in encoded]


def _optional_bytes(value: bytes | None) -> bytes:
    return b"\x00" if value is None else b"\x02" + sized(value)


def _columns(galaxies: Galaxies) -> dict[str, pa.Array]:
    n = len(galaxies)
    columns = {
        "survey": galaxies.survey,
        "object_id": galaxies.object_id,
        "alert_id": galaxies.alert_id,
        "ra": pa.array(galaxies.ra),
        "dec": pa.array(galaxies.dec),
        "mjd": pa.array(galaxies.mjd),
        "ebv": pa.array(galaxies.ebv),
    }
    for b, band in enumerate(galaxies.bands):
        columns[f"flux_{band}"] = pa.array(np.ascontiguousarray(galaxies.flux[:, b]))
        columns[f"flux_err_{band}"] = pa.array(np.ascontiguousarray(galaxies.flux_err[:, b]))
        columns[f"state_{band}"] = pa.array(np.ascontiguousarray(galaxies.band_state[:, b]))
    stamps = galaxies.stamps
    zeros: Int32 = np.zeros(n, np.int32)
    columns["stamp_height"] = pa.array(zeros if stamps is None else stamps.height)
    columns["stamp_width"] = pa.array(zeros if stamps is None else stamps.width)
    columns["stamp_scale"] = pa.array(zeros.astype(np.float32) if stamps is None else stamps.scale)
    columns["stamp_pixels"] = pa.nulls(n, pa.large_binary()) if stamps is None else stamps.pixels
    columns["stamp_variance"] = pa.nulls(n, pa.large_binary()) if stamps is None else stamps.variance
    return columns
