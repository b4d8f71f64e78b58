"""Stamps in a table: the columns of the native message that hold them, taken out of it, and as arrays."""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.batch import Float32, Stamps

PIXELS, VARIANCE = "stamp_pixels", "stamp_variance"
HEIGHT, WIDTH, SCALE = "stamp_height", "stamp_width", "stamp_scale"
NAMES = (HEIGHT, WIDTH, SCALE, PIXELS, VARIANCE)


def parted(table: pa.Table) -> tuple[pa.Table, Stamps | None]:
    """The table without its stamps, and the stamps; None where it has no column of pixels.

    Raises
    ------
    ValueError
        If the pixels or the variance are not bytes, or their heights and widths are missing or no whole numbers.
    """
    names = set(table.column_names)
    if PIXELS not in names:
        return table.drop_columns([name for name in NAMES if name in names]), None
    lacking = [name for name in (HEIGHT, WIDTH) if name not in names]
    if lacking:
        raise ValueError(f"it has a column {PIXELS} and no {lacking[0]}")
    n = table.num_rows
    height, width = (_numbers(table, name, np.int32) for name in (HEIGHT, WIDTH))
    scale = _numbers(table, SCALE, np.float32) if SCALE in names else np.zeros(n, np.float32)
    variance = _blobs(table, VARIANCE) if VARIANCE in names else pa.nulls(n, pa.large_binary())
    stamps = Stamps(height, width, scale, _blobs(table, PIXELS), variance)
    return table.drop_columns([name for name in NAMES if name in names]), stamps


def _numbers(table: pa.Table, name: str, kind: Any) -> Any:
    column = table.column(name)
    if not (pa.types.is_integer(column.type) or (kind is np.float32 and pa.types.is_floating(column.type))):
        raise ValueError(f"column {name} is {column.type}, numbers were expected")
    return column.fill_null(0).to_numpy().astype(kind)


def _blobs(table: pa.Table, name: str) -> pa.LargeBinaryArray:
    column = table.column(name)
    if not (pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type) or pa.types.is_null(column.type)):
        raise ValueError(
            f"column {name} is {column.type}: bytes were expected, float32 planes in the order of the bands"
        )
    whole = column.cast(pa.large_binary()).combine_chunks()  # 64-bit offsets first: 2 GiB of stamps are few galaxies
    return whole.combine_chunks() if isinstance(whole, pa.ChunkedArray) else whole


def take(stamps: Stamps, rows: np.ndarray) -> Stamps:
    """Those of the galaxies `rows`, int[k]; of neighbours in their order without a copy."""
    if len(rows) and (np.diff(rows) == 1).all():
        first, n = int(rows[0]), len(rows)
        blobs = stamps.pixels.slice(first, n), stamps.variance.slice(first, n)
    else:
        index = pa.array(rows, pa.int64())
        blobs = stamps.pixels.take(index), stamps.variance.take(index)
    return Stamps(stamps.height[rows], stamps.width[rows], stamps.scale[rows], *blobs)


def rows_within(stamps: Stamps, nbytes: int) -> int:
    """How many galaxies of the mean size of these have stamps of at most `nbytes`, at least 1."""
    each = (stamps.pixels.nbytes + stamps.variance.nbytes) / max(len(stamps.height), 1)
    return max(int(nbytes / max(each, 1)), 1)


class Planes(NamedTuple):
    """Stamps of one size as arrays.

    Attributes
    ----------
    pixels
        nJy, float32[n, B, S, S]; NaN where a stamp does not reach, or is not of the bands' planes.
    variance
        nJy^2, float32[n, B, S, S], NaN where unknown; None where no galaxy has one.
    """

    pixels: Float32
    variance: Float32 | None


def planes(stamps: Stamps, n_bands: int, size: int) -> Planes:
    """Stamps cut, or filled up with NaN, about their middle to `size` pixels a side.

    Parameters
    ----------
    stamps
        Of n galaxies.
    n_bands, size
        Planes of a stamp, and pixels a side of what comes out.
    """
    n = len(stamps.height)
    shape = (n, n_bands, size, size)
    pixels = np.full(shape, np.nan, np.float32)
    known = stamps.variance.null_count < n
    variance = np.full(shape, np.nan, np.float32) if known else None
    for i in range(n):
        _lay(stamps.pixels[i], int(stamps.height[i]), int(stamps.width[i]), pixels[i])
        if variance is not None:
            _lay(stamps.variance[i], int(stamps.height[i]), int(stamps.width[i]), variance[i])
    return Planes(pixels, variance)


def _lay(blob: pa.LargeBinaryScalar, height: int, width: int, out: np.ndarray) -> None:
    """Write one stamp's planes into `out`, float32[B, S, S], unless the bytes are not those planes."""
    data = blob.as_buffer()
    n_bands, size, _ = out.shape
    if data is None or height <= 0 or width <= 0 or data.size != 4 * n_bands * height * width:
        return
    given = np.frombuffer(data, "<f4").reshape(n_bands, height, width)
    top, left = height // 2 - size // 2, width // 2 - size // 2  # as models.images.inputs.cut
    rows, columns = slice(max(0, top), top + size), slice(max(0, left), left + size)
    part = given[:, rows, columns]
    below, beside = max(0, -top), max(0, -left)
    out[:, below : below + part.shape[1], beside : beside + part.shape[2]] = part


def blobs(images: Float32) -> pa.LargeBinaryArray:
    """Images as a column of bytes: little-endian float32, one blob for each of the n of [n, ...]; no copy where they are so."""
    n = len(images)
    data = np.ascontiguousarray(images, "<f4")
    offsets = np.arange(n + 1, dtype=np.int64) * (data.nbytes // max(n, 1))
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), n, [None, pa.py_buffer(offsets), pa.py_buffer(data)])


def whole(stamps: Stamps, n_bands: int) -> np.ndarray:
    """Which galaxies have a stamp with the planes of the bands, bool[n]."""
    area = stamps.height.astype(np.int64) * stamps.width
    length = pc.fill_null(pc.binary_length(stamps.pixels), -1).to_numpy()
    return (stamps.height > 0) & (stamps.width > 0) & (length == 4 * n_bands * area)


def border_variance(pixels: Float32) -> Float32:
    """The scatter of the border's pixels, nJy^2, float32[n, B, 1, 1]."""
    edge = np.concatenate([pixels[:, :, 0], pixels[:, :, -1], pixels[:, :, :, 0], pixels[:, :, :, -1]], 2)
    middle = np.nanmedian(edge, 2, keepdims=True)
    spread = 1.4826 * np.nanmedian(np.abs(edge - middle), 2)
    variance: Float32 = (spread**2)[:, :, None, None].astype(np.float32)
    return variance
