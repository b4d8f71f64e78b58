"""The fast way through a stretch of plain fields: it reads what looks usual, and leaves the rest to the kernel's operations."""

import numpy as np
from numba import njit

from schemas.avro import instructions as op
from schemas.avro.fields import fast_run
from schemas.avro.memory import (
    load_f32,
    load_f64,
    load_i64,
    load_u8,
    store_f32,
    store_f64,
    store_i8,
    store_i32,
    store_i64,
    trailing_zeros,
)

ROOM = 10  # bytes of the longest varint
_LAST = np.int64(np.uint64(0x8080808080808080).view(np.int64))  # set in all bytes of a varint but the last


@njit(nogil=True, cache=True)
def stretch(p, end, base, entry, table, k):  # type: ignore[no-untyped-def]
    """(next byte, fields read): all fields of the stretch, or those before the first that is unusual.

    Parameters
    ----------
    p, end, base
        Addresses: of the next byte, of that after the buffer, of its first.
    entry
        Address of the stretch in the table.
    table
        Address of the table.
    k
        The item of the columns that is written.
    """
    done = 0
    first = p
    while True:
        word = load_i64(entry)
        what = word & 31
        null = (word >> 5) & 3
        first = p
        if null != 0:
            if p >= end:
                break
            branch = np.int64(load_u8(p))
            if branch & 253 != 0:
                break
            p += 1
            if branch == 2 * null - 2:
                if what == op.FLOAT_F4 or what == op.DOUBLE_F4:
                    store_i32(load_i64(entry + 8) + 4 * k, load_i64(entry + 16))
                    entry += 24
                elif what == op.FLOAT_F8 or what == op.DOUBLE_F8 or what == op.LONG_I8:
                    store_i64(load_i64(entry + 8) + 8 * k, load_i64(entry + 16))
                    entry += 24
                elif what == op.BYTES_SPAN:
                    store_i64(load_i64(entry + 8) + 8 * k, -1)
                    store_i64(load_i64(entry + 16) + 8 * k, -1)
                    entry += 24
                elif what == op.BOOLEAN_I1:
                    store_i8(load_i64(entry + 8) + k, load_i64(entry + 16))
                    entry += 24
                elif what == op.ENUM_I1:
                    store_i8(load_i64(entry + 8) + k, load_i64(entry + 16))
                    entry += 32
                else:
                    entry += 8
                done += 1
                continue
        if what == op.FLOAT_F4:
            if end - p < 4:
                break
            store_f32(load_i64(entry + 8) + 4 * k, load_f32(p))
            p += 4
            entry += 24
        elif what == op.RUN:
            if end - p < load_i64(entry + 16):
                break
            p = fast_run(p, table + load_i64(entry + 8), word >> 8)
            if p == 0:
                break
            entry += 24
        elif what == op.SKIP:
            if end - p < word >> 8:
                break
            p += word >> 8
            entry += 8
        elif what == op.DOUBLE_F8:
            if end - p < 8:
                break
            store_f64(load_i64(entry + 8) + 8 * k, load_f64(p))
            p += 8
            entry += 24
        elif what == op.LONG:  # only its length matters: no loop, no branch on it
            if end - p < ROOM:
                break
            bits = trailing_zeros(~load_i64(p) & _LAST)
            if bits > word >> 8:
                break
            p += (bits >> 3) + 1
            entry += 8
        elif what >= op.BYTES:
            if end - p < ROOM:
                break
            value = np.int64(load_u8(p))
            p += 1
            if value >= 128:
                value &= 127
                shift = 7
                while shift < 63:
                    byte = np.int64(load_u8(p))
                    p += 1
                    value |= (byte & 127) << shift
                    shift += 7
                    if byte < 128:
                        break
                else:
                    break  # a tenth byte, or more
            value = np.int64(np.uint64(value) >> np.uint64(1)) ^ -(value & 1)
            if what == op.BYTES:
                if value < 0 or value > end - p:
                    break
                p += value
                entry += 8
            elif what == op.BYTES_SPAN:
                if value < 0 or value > end - p:
                    break
                store_i64(load_i64(entry + 8) + 8 * k, p - base)
                store_i64(load_i64(entry + 16) + 8 * k, value)
                p += value
                entry += 24
            elif what == op.LONG_I8:
                if word >> 8 != 0 and value != np.int64(np.int32(value)):
                    break
                store_i64(load_i64(entry + 8) + 8 * k, value)
                entry += 24
            else:
                if value < 0 or value >= word >> 8:
                    break
                if what == op.ENUM_I1:
                    store_i8(load_i64(entry + 8) + k, load_i64(table + load_i64(entry + 24) + 8 * value))
                    entry += 24
                entry += 8
        elif what == op.FLOAT_F8:
            if end - p < 4:
                break
            store_f64(load_i64(entry + 8) + 8 * k, load_f32(p))
            p += 4
            entry += 24
        elif what == op.DOUBLE_F4:
            if end - p < 8:
                break
            store_f32(load_i64(entry + 8) + 4 * k, load_f64(p))
            p += 8
            entry += 24
        elif what == op.BOOLEAN_I1:
            if p >= end or load_u8(p) > 1:
                break
            store_i8(load_i64(entry + 8) + k, load_u8(p))
            p += 1
            entry += 24
        else:  # the end of the stretch
            return p, done
        done += 1
    return first, done
