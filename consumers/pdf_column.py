"""PDFs as they are stored, in one of two forms, and both back again as one.

*plain*: a list of float32 whose mantissas are cut to what redshift work can tell apart; any tool reads it.
*compact*: a byte a point, 255 at the PDF's peak. What is below 1/510 of the peak becomes 0, and the scale is not stored: a PDF
integrates to 1, so the reader finds it again.
"""

from collections.abc import Mapping

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from models.grid import step_of
from schemas.batch import Float32, Float64
from schemas.catalogue import ROWS, PdfForm
from schemas.errors import IntegrityError

UInt8 = npt.NDArray[np.uint8]

FLOOR = np.float32(1e-5)  # of a row's peak; what lies below is stored as 0
DROPPED = 11  # mantissa bits cut of 23: relative error 1.2e-4, a third of the size after BYTE_STREAM_SPLIT and zstd
TOP = np.float32(255.0)  # what a compact PDF's peak becomes

# What each form is to the identity of a processing: a form is other rows. That of plain was there before there were two.
SETTINGS: dict[PdfForm, dict[str, int | str]] = {"plain": {"pdf_bits": 12}, "compact": {"pdf": "uint8"}}


@numba.njit(nogil=True, error_model="numpy", inline="always")
def _peak(bits):  # type: ignore[no-untyped-def]
    """Bits of the greatest value of a row, given as int32: numbers that are not negative stand in the order of their bits.

    A maximum of whole numbers is taken sixteen at a time, one of floating point numbers one by one.
    """
    top = np.int32(0)
    for j in range(len(bits)):
        top = max(top, bits[j])
    return top


@numba.njit(nogil=True, cache=True, error_model="numpy")
def round_pdfs(pdf: Float32) -> int:
    """Round each value of `pdf`, float32[n, G], in place to 12 mantissa bits; zero those below 1e-5 of the row's peak.

    A row that begins with NaN goes, those behind it move up. Returns how many are left, m; what stands behind them is of no use.
    """
    half = np.int32(1 << (DROPPED - 1))
    mask = np.int32(-(1 << DROPPED))
    whole = pdf.view(np.int32)
    least = np.zeros(1, np.float32)
    least_bits = least.view(np.int32)
    held = 0
    for i in range(pdf.shape[0]):
        if np.isnan(pdf[i, 0]):
            continue
        bits = whole[i]
        least_bits[0] = _peak(bits)
        least[0] *= FLOOR
        floor = least_bits[0]
        for j in range(len(bits)):
            value = np.int32(np.int32(bits[j] + half) & mask)
            bits[j] = np.int32(0) if bits[j] < floor else value
        if held < i:
            whole[held] = bits
        held += 1
    return held


@numba.njit(nogil=True, cache=True, error_model="numpy")
def quantise(pdf: Float32, out: UInt8) -> None:
    """Each value of `pdf`, float32[n, G], over its row's peak, in 255ths, to the nearest: uint8[n, G]."""
    half = np.float32(0.5)
    whole = pdf.view(np.int32)
    peak = np.zeros(1, np.float32)
    peak_bits = peak.view(np.int32)
    for i in range(pdf.shape[0]):
        peak_bits[0] = _peak(whole[i])
        scale = TOP / peak[0]
        row, stored = pdf[i], out[i]
        for j in range(len(row)):
            stored[j] = np.uint8(np.int32(row[j] * scale + half))


@numba.njit(nogil=True, cache=True, error_model="numpy")
def restore(stored: UInt8, step: float, out: Float32) -> None:
    """p(z) of `stored`, uint8[n, G] on a linear grid of `step`: it integrates to 1 by the trapezoid rule. float32[n, G]."""
    last = stored.shape[1] - 1
    for i in range(stored.shape[0]):
        twice = -np.int64(stored[i, 0]) - np.int64(stored[i, last])
        for j in range(stored.shape[1]):
            twice += 2 * np.int64(stored[i, j])
        scale = 2.0 / (step * twice)
        for j in range(stored.shape[1]):
            out[i, j] = np.float32(stored[i, j] * scale)


def pdf_columns(pdf: Float32, form: PdfForm) -> dict[str, pa.Array]:
    """The columns ``pdf`` and ``pdf_u8`` of `pdf`, float32[n, G]; one of them is null throughout.

    Parameters
    ----------
    pdf
        May be changed. A row that begins with NaN becomes null.
    form
        Which of the two is filled.
    """
    nothing = pa.nulls(len(pdf), ROWS.field("pdf_u8").type)
    if form == "plain":
        return {"pdf": pdf_column(pdf), "pdf_u8": nothing}
    return {"pdf": pa.nulls(len(pdf), ROWS.field("pdf").type), "pdf_u8": compact_column(pdf)}


def pdf_column(pdf: Float32) -> pa.ListArray:
    """The ``pdf`` column of `pdf`, float32[n, G], whose memory it takes; a row that begins with NaN becomes null."""
    absent = np.isnan(pdf[:, 0])
    return _lists(pdf[: round_pdfs(pdf)], absent)


def compact_column(pdf: Float32) -> pa.BinaryArray:
    """The ``pdf_u8`` column of `pdf`, float32[n, G]; a row that begins with NaN becomes null."""
    absent = np.isnan(pdf[:, 0])
    held = pdf[~absent] if absent.any() else pdf
    stored = np.empty(held.shape, np.uint8)
    quantise(held, stored)
    offsets = pa.py_buffer(_offsets(absent, pdf.shape[1]))
    return pa.Array.from_buffers(pa.binary(), len(pdf), [pa.array(~absent).buffers()[1], offsets, pa.py_buffer(stored)])


def plain_column(
    pdf: pa.ListArray, pdf_u8: pa.BinaryArray, model: pa.Array, grids: Mapping[str, Float64]
) -> pa.ListArray:
    """The ``pdf`` column of n rows of either form, as if all were plain.

    Parameters
    ----------
    pdf, pdf_u8
        As stored.
    model
        Model of each row, string[n].
    grids
        Redshifts of the points, by model. A compact PDF of a model that is not among them stays null.

    Raises
    ------
    IntegrityError
        A compact PDF has not a byte for each point.
    """
    parts, at = [pdf], np.arange(len(pdf))  # `at`: where each row stands in the parts, put one after another
    for name in pc.unique(model.filter(pdf_u8.is_valid())).to_pylist():
        if name not in grids:
            continue
        mine = pc.and_(pc.equal(model, name), pdf_u8.is_valid())
        rows = np.flatnonzero(mine.to_numpy(zero_copy_only=False))
        at[rows] = sum(map(len, parts)) + np.arange(len(rows))
        stored = pdf_u8.take(pa.array(rows))
        points = pc.min_max(pc.binary_length(stored)).as_py()
        if points != {"min": len(grids[name]), "max": len(grids[name])}:
            raise IntegrityError(
                f"Compact PDFs of {name} have {points['min']} to {points['max']} bytes, its redshift grid has "
                f"{len(grids[name])} points: these rows were not written by slipher, or are damaged."
            )
        parts.append(_lists(_restored(stored, grids[name]), np.zeros(len(rows), bool)))
    return pa.concat_arrays(parts).take(pa.array(at)) if len(parts) > 1 else pdf


def _restored(pdf_u8: pa.BinaryArray, grid: Float64) -> Float32:
    """p(z) of n rows, none of them null, of len(grid) bytes each: float32[n, G]."""
    first = pdf_u8.offset * len(grid)
    stored = np.frombuffer(pdf_u8.buffers()[2], np.uint8, len(pdf_u8) * len(grid), first).reshape(-1, len(grid))
    out = np.empty(stored.shape, np.float32)
    restore(stored, step_of(grid), out)
    return out


def _lists(held: Float32, absent: npt.NDArray[np.bool_]) -> pa.ListArray:
    """A list a row, those of `held` in turn, null where `absent`."""
    values = pa.array(np.ascontiguousarray(held).reshape(-1))
    mask = pa.array(absent) if absent.any() else None
    offsets = pa.array(_offsets(absent, held.shape[1]))
    return pa.ListArray.from_arrays(offsets, values, type=ROWS.field("pdf").type, mask=mask)


def _offsets(absent: npt.NDArray[np.bool_], points: int) -> npt.NDArray[np.int32]:
    """Where each row begins, and the last ends, in the values of all."""
    return np.concatenate([[0], np.cumsum(np.where(absent, 0, points))]).astype(np.int32)
