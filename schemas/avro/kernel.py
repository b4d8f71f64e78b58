"""The machine that runs a program over records: one pass, no look back, never a byte outside the record's buffer.

What its operations are, ``instructions`` says. Addresses are int64; every length is compared with the bytes that are left
before it is believed. An item of an array takes a byte or more, or is counted against a bound, and a record in a record
takes a frame of a stack that ends: so the time a message costs is bounded by its bytes.
"""

import numpy as np
from numba import njit

from schemas.avro import instructions as op
from schemas.avro.fast import stretch
from schemas.avro.fields import careful_run, fast_run, varint
from schemas.avro.memory import (
    load_f32,
    load_f64,
    load_i64,
    load_u8,
    prefetch,
    store_f32,
    store_f64,
    store_i8,
    store_i32,
    store_i64,
)

AHEAD = 512  # bytes of the next record asked for while this one is read
_LEAST = -(1 << 63)


@njit(nogil=True, cache=True)
def run(first, address, length, start, exact, code, table, dimensions, status, byte, where):  # type: ignore[no-untyped-def]
    """Run a program over the records from `first` on; the number of the one that found no room for its items, n if none.

    Parameters
    ----------
    first
        Where to begin; the dimensions say what came before.
    address, length
        Of the buffers, int64[n].
    start
        Byte at which each record begins, or ``CONTINUE``: int64[n].
    exact
        1 where the record must end with its buffer, uint8[n].
    code, table
        Addresses of the program, and of its jumps, symbols and runs.
    dimensions
        Address of the arrays whose items are wanted; the record itself comes first. Where one has no room, its BEFORE says
        for how many items it should have.
    status, byte, where
        What became of each record, the byte at which that stands, and which operation, + 2^32 x the field in a run: [n].
    """
    n = address.shape[0]
    stack = np.empty(2 * op.FRAMES, np.int64)
    frames = stack.ctypes.data
    floor = np.int64(frames)
    ceiling = floor + 16 * op.FRAMES
    for i in range(first, n):
        base = address[i]
        end = base + length[i]
        free = max(length[i], op.FREE_ITEMS)
        store_i64(dimensions + op.COUNT, i)
        d = load_i64(dimensions + op.PARENT)  # of the record itself: the number of bytes of all dimensions
        for k in range(op.DIMENSION_SIZE, d, op.DIMENSION_SIZE):
            store_i64(dimensions + k + op.BEFORE, load_i64(dimensions + k + op.COUNT))
        if i + 1 < n:
            for k in range(0, AHEAD, 64):
                prefetch(address[i + 1] + k)
        offset = start[i]
        error = op.GOOD
        if offset == op.CONTINUE:
            if i == 0 or status[i - 1] != op.GOOD:
                error = op.AFTER
                offset = np.int64(0)
            else:
                offset = byte[i - 1]
        if offset > length[i]:
            error = op.TRUNCATED
            offset = length[i]
        p = base + offset
        q = p
        pc = code
        field = 0
        frame = floor
        while error == op.GOOD:
            what = load_i64(pc)
            if what == op.STRETCH:
                k = load_i64(dimensions + load_i64(pc + op.DIMENSION))
                p, k = stretch(p, end, base, table + load_i64(pc + op.A), table, k)
                pc += op.SIZE + op.SIZE * k
                continue
            q = p
            null = load_i64(pc + op.NULL)
            if null != 0:
                if p >= end:
                    error = op.TRUNCATED
                    break
                branch = np.int64(load_u8(p))
                if branch == 0 or branch == 2:
                    p += 1
                    branch >>= 1
                else:
                    branch, p, error = varint(p, end)
                    if error != op.GOOD:
                        break
                    if branch != 0 and branch != 1:
                        error = op.BRANCH
                        break
                if branch == (null & 3) - 1:
                    size = null >> 2
                    if size != 0:
                        k = load_i64(dimensions + load_i64(pc + op.DIMENSION))
                        sink = load_i64(pc + op.SINK)
                        nothing = load_i64(pc + op.NOTHING)
                        if size == 4:
                            store_i32(sink + 4 * k, nothing)
                        elif size == 8:
                            store_i64(sink + 8 * k, nothing)
                        elif size == 1:
                            store_i8(sink + k, nothing)
                        else:
                            store_i64(sink + 8 * k, -1)
                            store_i64(load_i64(pc + op.SINK2) + 8 * k, nothing)
                    pc += op.SIZE
                    continue
            if what == op.RUN:  # A: its fields in the table; B: how many; SINK: the most bytes they take
                k = load_i64(pc + op.B)
                if end - p >= load_i64(pc + op.SINK):
                    p = fast_run(p, table + load_i64(pc + op.A), k)
                else:
                    p = np.int64(0)
                if p == 0:
                    p, error, field = careful_run(q, end, table + load_i64(pc + op.A), k)
                    if error != op.GOOD:
                        q = p
                        break
            elif what <= op.FIXED_SPAN:  # A: bytes
                width = load_i64(pc + op.A)
                if end - p < width:
                    error = op.TRUNCATED
                    break
                if what != op.SKIP:
                    k = load_i64(dimensions + load_i64(pc + op.DIMENSION))
                    sink = load_i64(pc + op.SINK)
                    if what == op.FLOAT_F4:
                        store_f32(sink + 4 * k, load_f32(p))
                    elif what == op.FLOAT_F8:
                        store_f64(sink + 8 * k, load_f32(p))
                    elif what == op.DOUBLE_F4:
                        store_f32(sink + 4 * k, load_f64(p))
                    elif what == op.DOUBLE_F8:
                        store_f64(sink + 8 * k, load_f64(p))
                    elif what == op.FIXED_SPAN:
                        store_i64(sink + 8 * k, p - base)
                        store_i64(load_i64(pc + op.SINK2) + 8 * k, width)
                    else:
                        if load_u8(p) > 1:
                            error = op.BOOLEAN
                            break
                        store_i8(sink + k, load_u8(p))
                p += width
            elif what == op.JUMP:  # A: where to
                pc = code + load_i64(pc + op.A)
                continue
            elif what == op.FILL:  # A, B: the value, and the other one of a span; NULL is 0, so NOTHING holds the size
                k = load_i64(dimensions + load_i64(pc + op.DIMENSION))
                sink = load_i64(pc + op.SINK)
                size = load_i64(pc + op.NOTHING)
                if size == 4:
                    store_i32(sink + 4 * k, load_i64(pc + op.A))
                elif size == 8:
                    store_i64(sink + 8 * k, load_i64(pc + op.A))
                elif size == 1:
                    store_i8(sink + k, load_i64(pc + op.A))
                else:
                    store_i64(sink + 8 * k, load_i64(pc + op.B))
                    store_i64(load_i64(pc + op.SINK2) + 8 * k, load_i64(pc + op.A))
            elif what == op.CLOSE:  # A: the dimension whose items in this one end; SINK: its offsets
                k = load_i64(dimensions + load_i64(pc + op.DIMENSION))
                store_i64(load_i64(pc + op.SINK) + 8 * k + 8, load_i64(dimensions + load_i64(pc + op.A)))
            elif what == op.NEXT:  # A: the array; DIMENSION: -1 = its items are not wanted
                k = load_i64(pc + op.DIMENSION)
                if k >= 0:
                    store_i64(dimensions + k, load_i64(dimensions + k) + 1)
                k = load_i64(frame - 16) - 1
                if k > 0:
                    store_i64(frame - 16, k)
                    pc = code + load_i64(pc + op.A) + op.SIZE
                    continue
                k = load_i64(frame - 8)
                if k != 0 and k != p:
                    error = op.BLOCK
                    break
                frame -= 16
                pc = code + load_i64(pc + op.A)
                continue
            elif what == op.CALL:  # A: where to
                if frame == ceiling:
                    error = op.DEPTH
                    break
                store_i64(frame, pc + op.SIZE)
                frame += 16
                pc = code + load_i64(pc + op.A)
                continue
            elif what == op.RETURN:
                frame -= 16
                pc = load_i64(frame)
                continue
            elif what == op.HALT:
                if exact[i] != 0 and p != end:
                    error = op.TRAILING
                break
            elif what == op.FAIL:  # A: why
                error = load_i64(pc + op.A)
                break
            else:  # all that begin with a varint
                if p >= end:
                    error = op.TRUNCATED
                    break
                value = np.int64(load_u8(p))
                if value < 128:
                    p += 1
                    value = (value >> 1) ^ -(value & 1)
                else:
                    value, p, error = varint(p, end)
                    if error != op.GOOD:
                        break
                if what == op.BYTES:
                    if value < 0:
                        error = op.LENGTH
                        break
                    if value > end - p:
                        error = op.TRUNCATED
                        break
                    p += value
                elif what == op.BYTES_SPAN:
                    if value < 0:
                        error = op.LENGTH
                        break
                    if value > end - p:
                        error = op.TRUNCATED
                        break
                    k = 8 * load_i64(dimensions + load_i64(pc + op.DIMENSION))
                    store_i64(load_i64(pc + op.SINK) + k, p - base)
                    store_i64(load_i64(pc + op.SINK2) + k, value)
                    p += value
                elif what <= op.LONG_I8:  # B: 1 = an int
                    if load_i64(pc + op.B) != 0 and value != np.int64(np.int32(value)):
                        error = op.INT
                        break
                    k = load_i64(dimensions + load_i64(pc + op.DIMENSION))
                    if what == op.LONG_I8:
                        store_i64(load_i64(pc + op.SINK) + 8 * k, value)
                    elif what == op.LONG_F8:
                        store_f64(load_i64(pc + op.SINK) + 8 * k, value)
                    elif what == op.LONG_F4:
                        store_f32(load_i64(pc + op.SINK) + 4 * k, value)
                elif what <= op.ENUM_I1:  # A: its symbols in the table; B: how many
                    if value < 0 or value >= load_i64(pc + op.B):
                        error = op.SYMBOL
                        break
                    if what == op.ENUM_I1:
                        k = load_i64(dimensions + load_i64(pc + op.DIMENSION))
                        store_i8(load_i64(pc + op.SINK) + k, load_i64(table + load_i64(pc + op.A) + 8 * value))
                elif what == op.OPTION:  # A: where to if null; B: the branch that is null
                    if value != 0 and value != 1:
                        error = op.BRANCH
                        break
                    if value == load_i64(pc + op.B):
                        pc = code + load_i64(pc + op.A)
                        continue
                elif what == op.UNION:  # A: its branches in the table; B: how many
                    if value < 0 or value >= load_i64(pc + op.B):
                        error = op.BRANCH
                        break
                    pc = code + load_i64(table + load_i64(pc + op.A) + 8 * value)
                    continue
                else:  # ARRAY, a block. A: behind the array; B: the fewest bytes of an item; BLOCKS. B: their bytes
                    if value == 0:
                        if what == op.ARRAY:
                            pc = code + load_i64(pc + op.A)
                        else:
                            pc += op.SIZE
                        continue
                    least = load_i64(pc + op.B)
                    bound = np.int64(0)
                    if value < 0:  # a block that says its size
                        if value == _LEAST:
                            error = op.ITEMS
                            break
                        value = -value
                        size, p, error = varint(p, end)
                        if error != op.GOOD:
                            break
                        if size < 0:
                            error = op.LENGTH
                            break
                        if size > end - p:
                            error = op.TRUNCATED
                            break
                        bound = p + size
                        if (least != 0 and (value > size or value * least > size)) or (least == 0 and size != 0):
                            error = op.BLOCK
                            break
                    elif least != 0 and (value > end - p or value * least > end - p):
                        error = op.ITEMS
                        break
                    if least == 0:
                        if value > free:
                            error = op.EMPTY
                            break
                        free -= value
                    k = load_i64(pc + op.DIMENSION)
                    if what == op.BLOCKS:
                        if bound != 0 and bound - p != value * least:
                            error = op.BLOCK
                            break
                        p += value * least
                        continue
                    if k < 0 and bound != 0:  # nothing in it is wanted
                        p = bound
                        continue
                    if frame == ceiling:
                        error = op.DEPTH
                        break
                    if k > 0 and load_i64(dimensions + k) + value > load_i64(dimensions + k + op.ROOM):
                        size = load_i64(dimensions + k) + value
                        for j in range(op.DIMENSION_SIZE, d, op.DIMENSION_SIZE):
                            store_i64(dimensions + j, load_i64(dimensions + j + op.BEFORE))
                            store_i64(dimensions + j + op.BEFORE, 0)
                        store_i64(dimensions + k + op.BEFORE, size)
                        return i
                    store_i64(frame, value)
                    store_i64(frame + 8, bound)
                    frame += 16
            pc += op.SIZE
        status[i] = error
        byte[i] = (p if error == op.GOOD else q) - base
        where[i] = (pc - code) // op.SIZE + (np.int64(field) << 32)
        if error != op.GOOD:
            for k in range(op.DIMENSION_SIZE, d, op.DIMENSION_SIZE):
                before = load_i64(dimensions + k + op.BEFORE)
                store_i64(dimensions + k, before)
                if load_i64(dimensions + k + op.PARENT) == 0:
                    store_i64(load_i64(dimensions + k + op.OFFSETS) + 8 * i + 8, before)
    return n
