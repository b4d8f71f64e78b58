"""Fields that the kernel reads most: numbers of variable length, and runs of fields that nobody wants."""

import numpy as np
from numba import njit

from schemas.avro import instructions as op
from schemas.avro.memory import load_i64, load_u8


@njit(nogil=True, cache=True, inline="always")
def varint(p, end):  # type: ignore[no-untyped-def]
    """(value, next byte, status): seven bits a byte, low ones first, zigzag."""
    code = np.uint64(0)
    shift = np.uint64(0)
    while shift < np.uint64(70):
        if p >= end:
            return np.int64(0), p, op.TRUNCATED
        byte = np.uint64(load_u8(p))
        p += 1
        code |= (byte & np.uint64(127)) << shift
        if byte < np.uint64(128):
            if shift == np.uint64(63) and byte > np.uint64(1):
                return np.int64(0), p, op.VARINT
            return np.int64(code >> np.uint64(1)) ^ -np.int64(code & np.uint64(1)), p, op.GOOD
        shift += np.uint64(7)
    return np.int64(0), p, op.VARINT


@njit(nogil=True, cache=True)
def fast_run(p, table, count):  # type: ignore[no-untyped-def]
    """Where a run of skipped fields ends that surely lies in the buffer; 0 where one of them is unusual."""
    stop = table + 8 * count
    while table < stop:
        entry = load_i64(table)
        table += 8
        mode = entry & 3
        if mode != 0:
            branch = np.int64(load_u8(p))
            null = 2 * mode - 2
            p += 1
            if branch == null:
                continue
            if branch != 2 - null:
                return np.int64(0)
        if entry & 4 and load_u8(p) > 1:
            return np.int64(0)
        p += entry >> 3
    return p


@njit(nogil=True, cache=True)
def careful_run(p, end, table, count):  # type: ignore[no-untyped-def]
    """(next byte, status, number of the field) of a run of skipped fields."""
    for k in range(count):
        entry = load_i64(table + 8 * k)
        first = p
        mode = entry & 3
        if mode != 0:
            branch, p, error = varint(p, end)
            if error != op.GOOD:
                return first, error, k
            if branch != 0 and branch != 1:
                return first, op.BRANCH, k
            if branch == mode - 1:
                continue
        width = entry >> 3
        if end - p < width:
            return first, op.TRUNCATED, k
        if entry & 4 and load_u8(p) > 1:
            return first, op.BOOLEAN, k
        p += width
    return p, op.GOOD, count
