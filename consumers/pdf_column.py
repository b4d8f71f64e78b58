"""PDFs as they are stored: a list column whose mantissas are cut to what redshift work can tell apart."""

import numba
import numpy as np
import pyarrow as pa

from schemas.batch import Float32
from schemas.catalogue import ROWS

FLOOR = np.float32(1e-5)  # of a row's peak; what lies below is stored as 0
DROPPED = 11  # mantissa bits cut of 23: relative error 1.2e-4, a third of the size after BYTE_STREAM_SPLIT and zstd


@numba.njit(nogil=True, cache=True, error_model="numpy")
def round_pdfs(pdf: Float32) -> None:
    """Round each value of `pdf`, float32[n, G], in place to 12 mantissa bits; zero those below 1e-5 of the row's peak."""
    half = np.uint32(1 << (DROPPED - 1))
    mask = np.uint32(0xFFFFFFFF ^ ((1 << DROPPED) - 1))
    bits = pdf.view(np.uint32)
    for i in range(pdf.shape[0]):
        peak = np.float32(0.0)
        for j in range(pdf.shape[1]):
            peak = max(peak, pdf[i, j])
        floor = peak * FLOOR
        for j in range(pdf.shape[1]):
            if pdf[i, j] < floor:
                bits[i, j] = np.uint32(0)
            else:
                bits[i, j] = (bits[i, j] + half) & mask


def pdf_column(pdf: Float32) -> pa.ListArray:
    """The ``pdf`` column of `pdf`, float32[n, G], which is rounded in place; a row that begins with NaN becomes null."""
    n, points = pdf.shape
    absent = np.isnan(pdf[:, 0])
    round_pdfs(pdf)
    kind = ROWS.field("pdf").type
    if not absent.any():
        offsets = np.arange(0, (n + 1) * points, points, dtype=np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(pdf.reshape(-1)), type=kind)
    lengths = np.where(absent, 0, points).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    values = pa.array(np.ascontiguousarray(pdf[~absent]).reshape(-1))
    return pa.ListArray.from_arrays(pa.array(offsets), values, type=kind, mask=pa.array(absent))
