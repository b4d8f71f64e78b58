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
    _F16,
    _FLOAT,
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
    gathered,
)

LONERS = 4  # no more rows than this at a node are loners: see `descent`

# ---- sixty-four rows


@intrinsic
def beyond_pieces(typing, values, index, threshold, out, place):
    """A bit for each of 64 rows whose value is above the threshold or NaN, into `out[place:place + 4]`, uint16.

    `values[index:]` lies on a boundary of 64 bytes. To join the four in a register would cost as much as to compare.
    """

    def code(context, builder, signature, args):
        data = _at(context, builder, signature.args[3], args[3], args[4], _I16)
        limit = _splat(builder, args[2], _F16)
        for piece in range(4):
            at = builder.add(args[1], _I64(16 * piece))
            rows = _read(context, builder, signature.args[0], args[0], at, _F16, 64)
            bits = builder.bitcast(builder.fcmp_unordered(">", rows, limit), _I16)
            builder.store(bits, builder.gep(data, [_I64(piece)])).align = 2
        return context.get_dummy_value()

    return types.void(values, types.uint64, types.float32, out, types.uint64), code


@intrinsic
def add_where(typing, array, index, rows, value):
    """`array[index + r] += value`, uint32, for each row r whose bit is set."""

    def code(context, builder, signature, args):
        kind = signature.args[0]
        here = _read(context, builder, kind, args[0], args[1], _N64)
        chosen = builder.bitcast(args[2], _BITS64)
        added = builder.add(here, _splat(builder, args[3], _N64))
        _write(context, builder, kind, args[0], args[1], builder.select(chosen, added, here))
        return context.get_dummy_value()

    return types.void(array, types.uint64, types.uint64, types.uint32), code


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


# ---- queue entries, eight at once; all queues are stretches of one array of uint64


def _eight(value):
    return ir.Constant(_Q8, [value] * 8)


def _set_in(builder, bits):
    return builder.icmp_unsigned("!=", bits, _eight(0))


def _not(builder, chosen):
    return builder.xor(chosen, ir.Constant(ir.VectorType(_BIT, 8), [1] * 8))


def _append(builder, room, places, columns, chosen):
    """Writes the chosen lanes of each column one behind the other; returns how many they are."""
    for at, vector in zip(places, columns, strict=True):
        packed = _call(
            builder,
            "llvm.experimental.vector.compress.v8i64",
            _Q8,
            [vector, chosen, _eight(0)],  # zeros behind: readers look ahead
        )
        stored = builder.store(packed, builder.bitcast(builder.gep(room, [at]), _Q8.as_pointer()))
        stored.align = 8
    return builder.zext(builder.ctpop(builder.bitcast(chosen, _BYTE)), _I64)


@intrinsic
def part_eight(typing, room, node, rows, right, link, inner, inner_rows, ends, end_rows, loners):
    """Send the rows at eight nodes on to the children: see `descent.traverse`. All but `room` are places in it.

    Returns inner entries added | ends added << 20 | loners added << 40. It needs the machine's own compress instruction to be
    worth it.
    """

    def code(context, builder, signature, args):
        if not HAS_COMPRESS:
            return _I64(0)  # never called: see `packets.fastest`
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        entry, here, beyond, links = (
            _read(context, builder, signature.args[0], args[0], at, _Q8, 8) for at in args[1:5]
        )
        inner, ends, loners = [*args[5:7]], [*args[7:9]], [args[9]]
        added = [_I64(0)] * 3
        for step, going, leaf_bit in (
            (_eight(1), builder.and_(here, builder.xor(beyond, _eight(-1))), 1 << 8),
            (builder.lshr(links, _eight(10)), builder.and_(here, beyond), 1 << 9),
        ):
            child = builder.add(entry, step)
            leaf = _set_in(builder, builder.and_(links, _eight(leaf_bit)))
            rests = [going]
            for _ in range(LONERS):
                rests.append(builder.and_(rests[-1], builder.add(rests[-1], _eight(-1))))
            crowd = _set_in(builder, rests[-1])
            onward = _not(builder, leaf)
            lonely = builder.and_(_not(builder, crowd), onward)
            for which, places, columns, chosen in (
                (0, inner, (child, going), builder.and_(crowd, onward)),
                (1, ends, (child, going), builder.and_(_set_in(builder, going), leaf)),
                *(
                    (2, loners, (_alone(builder, child, rest),), builder.and_(lonely, _set_in(builder, rest)))
                    for rest in rests[:-1]
                ),
            ):
                more = _append(builder, data, places, columns, chosen)
                places[:] = [builder.add(at, more) for at in places]
                added[which] = builder.add(added[which], more)
        return builder.or_(added[0], builder.or_(builder.shl(added[1], _I64(20)), builder.shl(added[2], _I64(40))))

    return types.uint64(room, *[types.uint64] * 9), code


def _alone(builder, child, rows):
    """Entries of the lowest of the rows at each child."""
    below = builder.and_(builder.add(rows, _eight(-1)), builder.xor(rows, _eight(-1)))
    return builder.add(child, builder.shl(_call(builder, "llvm.ctpop.v8i64", _Q8, [below]), _eight(32)))


@intrinsic
def step_eight(typing, room, loners, how_many, words, packed, base, inner, ends):
    """One step down for eight loners, of which `how_many` are there: see `descent`. Returns inner entries | ends << 32."""

    def code(context, builder, signature, args):
        if not HAS_COMPRESS:
            return _I64(0)
        data, words, packed = (context.make_array(signature.args[k])(context, builder, args[k]).data for k in (0, 3, 4))
        there = builder.icmp_unsigned("<", ir.Constant(_Q8, list(range(8))), _splat(builder, args[2], _Q8))
        entry = _read(context, builder, signature.args[0], args[0], args[1], _Q8, 8)
        word = gathered(builder, words, builder.and_(entry, _eight(0xFFFFFFFF)), there, _I64, 8)
        link = builder.lshr(word, _eight(32))
        feature = builder.and_(builder.lshr(link, _eight(1)), _eight(127))
        row = builder.and_(builder.lshr(entry, _eight(32)), _eight((1 << 20) - 1))
        place = builder.add(builder.shl(feature, _eight(6)), builder.add(row, _splat(builder, args[5], _Q8)))
        value = gathered(builder, packed, place, there, _FLOAT, 4)
        narrow = ir.VectorType(_I32, 8)
        threshold = builder.bitcast(builder.trunc(word, narrow), value.type)
        missing = builder.and_(
            builder.fcmp_unordered("uno", value, value), _set_in(builder, builder.and_(link, _eight(1)))
        )
        left = builder.or_(builder.fcmp_ordered("<=", value, threshold), missing)
        child = builder.add(entry, builder.select(left, _eight(1), builder.lshr(link, _eight(10))))
        bit = builder.select(left, _eight(1 << 8), _eight(1 << 9))
        leaf = builder.and_(_set_in(builder, builder.and_(link, bit)), there)
        onward = builder.and_(_not(builder, leaf), there)
        added = _append(builder, data, [args[6]], [child], onward)
        ended = _append(builder, data, [args[7]], [child], leaf)
        return builder.or_(added, builder.shl(ended, _I64(32)))

    return types.uint64(room, types.uint64, types.uint64, words, packed, types.uint64, types.uint64, types.uint64), code
