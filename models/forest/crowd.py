"""Vector instructions on the sixty-four rows of a packet: see `lanes`, of which this is the other half."""

# numba's extension points are untyped.
# mypy: disable-error-code="no-untyped-def"

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from models.forest.lanes import (
    _BIT,
    _BITS64,
    _BYTE,
    _F64,
    _I16,
    _I32,
    _I64,
    _N64,
    _Q8,
    HAS_COMPRESS,
    _at,
    _call,
    _read,
    _splat,
    _write,
    counts,
)

# ---- sixty-four rows


@intrinsic
def beyond(typing, values, index, threshold):
    """Bit of each of 64 rows whose value is above the threshold or NaN; `values[index:]` lies on a boundary of 64 bytes."""

    def code(context, builder, signature, args):
        rows = _read(context, builder, signature.args[0], args[0], args[1], _F64, 64)
        return builder.bitcast(builder.fcmp_unordered(">", rows, _splat(builder, args[2], _F64)), _I64)

    return types.uint64(values, types.uint64, types.float32), code


@intrinsic
def no_counts(typing):
    """Zero for each row."""

    def code(context, builder, signature, args):
        return ir.Constant(_N64, [0] * 64)

    return counts(), code


@intrinsic
def add_where(typing, sums, rows, value):
    """`sums` with `value`, uint32, added where the bit of a row is set."""

    def code(context, builder, signature, args):
        chosen = builder.bitcast(args[1], _BITS64)
        added = builder.add(args[0], _splat(builder, args[2], _N64))
        return builder.select(chosen, added, args[0])

    return counts(counts, types.uint64, types.uint32), code


@intrinsic
def store_counts(typing, array, index, value):
    """`array[index:index + 64] = value`, uint32."""

    def code(context, builder, signature, args):
        _write(context, builder, signature.args[0], args[0], args[1], args[2])
        return context.get_dummy_value()

    return types.void(array, types.uint64, counts), code


@intrinsic
def store_where(typing, array, index, rows, value):
    """`array[index + r] = value`, uint32, for each row r whose bit is set."""

    def code(context, builder, signature, args):
        pointer = _at(context, builder, signature.args[0], args[0], args[1], _N64)
        _call_void(
            builder,
            "llvm.masked.store.v64i32.p0",
            [_splat(builder, args[3], _N64), pointer, _I32(4), builder.bitcast(args[2], _BITS64)],
        )
        return context.get_dummy_value()

    return types.void(array, types.uint64, types.uint64, types.uint32), code


def _call_void(builder, name, arguments):
    kind = ir.FunctionType(ir.VoidType(), [a.type for a in arguments])
    function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    builder.call(function, arguments)


@intrinsic
def first_row(typing, rows):
    """Number of the lowest bit set; `rows` is not 0."""

    def code(context, builder, signature, args):
        return builder.cttz(args[0], _BIT(1))

    return types.uint64(types.uint64), code


@intrinsic
def how_many(typing, rows):
    """Bits set."""

    def code(context, builder, signature, args):
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), code


@intrinsic
def prefetch(typing, array, index):
    """Ask for the cache line of `array[index]`."""

    def code(context, builder, signature, args):
        pointer = _at(context, builder, signature.args[0], args[0], args[1], _BYTE)
        _call_void(builder, "llvm.prefetch.p0", [pointer, _I32(0), _I32(3), _I32(1)])
        return context.get_dummy_value()

    return types.void(array, types.uint64), code


@intrinsic
def add_window(typing, histogram, index, records, record):
    """`histogram[index:index + 32] += records[record:record + 32]`, uint16 onto uint32, of which the last four lanes count as 0.

    `histogram[index:]` lies on a boundary of 64 bytes.
    """

    def code(context, builder, signature, args):
        narrow, wide = ir.VectorType(_I16, 32), ir.VectorType(_I32, 32)
        weights = _read(context, builder, signature.args[2], args[2], args[3], narrow, 2)
        weights = builder.and_(weights, ir.Constant(narrow, [0xFFFF] * 28 + [0] * 4))
        here = _read(context, builder, signature.args[0], args[0], args[1], wide, 64)
        summed = builder.add(here, builder.zext(weights, wide))
        _write(context, builder, signature.args[0], args[0], args[1], summed, 64)
        return context.get_dummy_value()

    return types.void(histogram, types.uint64, records, types.uint64), code


# ---- a queue of (node, rows), eight entries at once


@intrinsic
def part_eight(typing, queue, index, inner, n_inner, ends, n_ends):
    """Send eight queue entries on to their children: see `packets.traverse`. Returns inner entries added | ends added << 32.

    Each of `queue`, `inner`, `ends` is a matrix of rows of equal length: (node, rows), and in `queue` also (rows that go right,
    link >> 8). It needs the machine's own compress instruction to be worth it.
    """

    def code(context, builder, signature, args):
        if not HAS_COMPRESS:
            return _I64(0)  # never called: see `packets.fastest`

        def row(which, number, at):
            array = context.make_array(signature.args[which])(context, builder, args[which])
            stride = builder.lshr(builder.extract_value(array.strides, 0), _I64(3))
            return builder.gep(array.data, [builder.add(builder.mul(stride, _I64(number)), at)])

        def read(number):
            loaded = builder.load(builder.bitcast(row(0, number, args[1]), _Q8.as_pointer()))
            loaded.align = 8
            return loaded

        def many(value):
            return ir.Constant(_Q8, [value] * 8)

        node, rows, right, link = (read(number) for number in range(4))
        going_right = builder.and_(rows, right)
        going_left = builder.and_(rows, builder.xor(right, many(-1)))
        some_left = builder.icmp_unsigned("!=", going_left, many(0))
        some_right = builder.icmp_unsigned("!=", going_right, many(0))
        left_ends = builder.icmp_unsigned("!=", builder.and_(link, many(1)), many(0))
        right_ends = builder.icmp_unsigned("!=", builder.and_(link, many(2)), many(0))
        left_child = builder.add(node, many(1))
        right_child = builder.add(node, builder.lshr(link, many(2)))
        every = ir.Constant(ir.VectorType(_BIT, 8), [1] * 8)

        def put(which, at, child, gone, chosen):
            for number, vector in ((0, child), (1, gone)):
                packed = _call(
                    builder,
                    "llvm.experimental.vector.compress.v8i64",
                    _Q8,
                    [vector, chosen, ir.Constant(_Q8, ir.Undefined)],
                )
                stored = builder.store(packed, builder.bitcast(row(which, number, at), _Q8.as_pointer()))
                stored.align = 8
            return builder.add(at, builder.zext(builder.ctpop(builder.bitcast(chosen, _BYTE)), _I64))

        n1 = put(2, args[3], left_child, going_left, builder.and_(some_left, builder.xor(left_ends, every)))
        n2 = put(2, n1, right_child, going_right, builder.and_(some_right, builder.xor(right_ends, every)))
        e1 = put(4, args[5], left_child, going_left, builder.and_(some_left, left_ends))
        e2 = put(4, e1, right_child, going_right, builder.and_(some_right, right_ends))
        return builder.or_(builder.sub(n2, args[3]), builder.shl(builder.sub(e2, args[5]), _I64(32)))

    return types.uint64(queue, types.uint64, inner, types.uint64, ends, types.uint64), code
