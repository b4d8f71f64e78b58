"""Vectors for kernels: sixteen float32, or sixty-four rows at once, as values that numba keeps in registers.

All of it is generic LLVM IR: the compiler makes AVX-512, AVX2 or plain instructions of it, and the order of every addition is
written here. So the same bits come out of every machine. What is outside an array's bounds is the caller's to know:
nothing here checks.
"""

# numba's extension points are untyped.
# mypy: disable-error-code="no-untyped-def"

import operator

import llvmlite.binding
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, models, overload, register_model

WIDTH = 16  # float32 in a vector
HAS_COMPRESS = llvmlite.binding.llvm_version_info[0] >= 20  # llvm.experimental.vector.compress came with LLVM 19

_BIT, _BYTE, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
_FLOAT = ir.FloatType()
_F16 = ir.VectorType(_FLOAT, WIDTH)
_N16 = ir.VectorType(_I32, WIDTH)
_F64 = ir.VectorType(_FLOAT, 64)
_N64 = ir.VectorType(_I32, 64)
_BITS64 = ir.VectorType(_BIT, 64)
_Q8 = ir.VectorType(_I64, 8)


class Floats(types.Type):
    """Sixteen float32."""


floats = Floats(name="float32x16")


@register_model(Floats)
class _FloatsModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, _F16)


def _at(context, builder, kind, value, index, vector):
    """Pointer to `vector` at an index of a contiguous array."""
    data = context.make_array(kind)(context, builder, value).data
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


def _read(context, builder, kind, value, index, vector, align=4):
    loaded = builder.load(_at(context, builder, kind, value, index, vector))
    loaded.align = align
    return loaded


def _write(context, builder, kind, value, index, vector, align=4):
    stored = builder.store(vector, _at(context, builder, kind, value, index, vector.type))
    stored.align = align


def _splat(builder, scalar, vector):
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, _I32(0))
    zeros = ir.Constant(ir.VectorType(_I32, vector.count), [0] * vector.count)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), zeros)


def _call(builder, name, result, arguments):
    kind = ir.FunctionType(result, [a.type for a in arguments])
    function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    return builder.call(function, arguments)


def _shifted(builder, vector, by):
    """Lanes moved up by `by`, zeros behind them."""
    zeros = ir.Constant(vector.type, [0] * WIDTH)
    index = [WIDTH + i - by if i >= by else 0 for i in range(WIDTH)]
    return builder.shuffle_vector(zeros, vector, ir.Constant(_N16, index))


def gathered(builder, data, index, chosen, kind, align):
    """`data[index]` in the lanes of `index`, a vector of 64 bits; 0 where not chosen."""
    lanes = index.type.count
    vector = ir.VectorType(kind, lanes)
    start = _splat(builder, builder.ptrtoint(data, _I64), index.type)
    size, name = (4, "f32") if kind is _FLOAT else (8, "i64")
    offset = builder.mul(index, ir.Constant(index.type, [size] * lanes))
    pointers = builder.inttoptr(builder.add(start, offset), ir.VectorType(kind.as_pointer(), lanes))
    zeros = ir.Constant(vector, [0] * lanes)
    name = f"llvm.masked.gather.v{lanes}{name}.v{lanes}p0"
    return _call(builder, name, vector, [pointers, _I32(align), chosen, zeros])


# ---- sixteen float32


@intrinsic
def load(typing, array, index):
    """`array[index:index + 16]`, float32."""

    def code(context, builder, signature, args):
        return _read(context, builder, signature.args[0], args[0], args[1], _F16)

    return floats(array, types.uint64), code


@intrinsic
def store(typing, array, index, vector):
    """`array[index:index + 16] = vector`."""

    def code(context, builder, signature, args):
        _write(context, builder, signature.args[0], args[0], args[1], args[2])
        return context.get_dummy_value()

    return types.void(array, types.uint64, floats), code


@intrinsic
def splat(typing, value):
    """`value`, float32, in every lane."""

    def code(context, builder, signature, args):
        return _splat(builder, args[0], _F16)

    return floats(types.float32), code


@intrinsic
def steps(typing):
    """0, 1, 2 ... 15."""

    def code(context, builder, signature, args):
        return ir.Constant(_F16, [float(i) for i in range(WIDTH)])

    return floats(), code


def _binary(name):
    @intrinsic
    def operation(typing, left, right):
        if not (isinstance(left, Floats) and isinstance(right, Floats)):
            return None

        def code(context, builder, signature, args):
            return getattr(builder, name)(*args)

        return floats(floats, floats), code

    return operation


_add, _subtract, _multiply = _binary("fadd"), _binary("fsub"), _binary("fmul")


@overload(operator.add)
def _overload_add(left, right):
    if isinstance(left, Floats) and isinstance(right, Floats):
        return lambda left, right: _add(left, right)
    return None


@overload(operator.sub)
def _overload_sub(left, right):
    if isinstance(left, Floats) and isinstance(right, Floats):
        return lambda left, right: _subtract(left, right)
    return None


@overload(operator.mul)
def _overload_mul(left, right):
    if isinstance(left, Floats) and isinstance(right, Floats):
        return lambda left, right: _multiply(left, right)
    return None


@intrinsic
def _negative(typing, vector):
    def code(context, builder, signature, args):
        return builder.fneg(args[0])

    return floats(floats), code


@overload(operator.neg)
def _overload_neg(vector):
    if isinstance(vector, Floats):
        return lambda vector: _negative(vector)
    return None


@intrinsic
def highest(typing, left, right):
    """The greater of each pair; neither is NaN."""

    def code(context, builder, signature, args):
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return floats(floats, floats), code


@intrinsic
def fused(typing, left, right, sum):
    """`left * right + sum`, rounded once where the machine can."""

    def code(context, builder, signature, args):
        return _call(builder, "llvm.fmuladd.v16f32", _F16, list(args))

    return floats(floats, floats, floats), code


@intrinsic
def root(typing, vector):
    """Square roots, rounded to the nearest float32 as IEEE 754 wants them."""

    def code(context, builder, signature, args):
        return _call(builder, "llvm.sqrt.v16f32", _F16, [args[0]])

    return floats(floats), code


@intrinsic
def prefix(typing, vector):
    """Running sums of the lanes, in four steps of a fixed order."""

    def code(context, builder, signature, args):
        total = args[0]
        for by in (1, 2, 4, 8):
            total = builder.fadd(total, _shifted(builder, total, by))
        return total

    return floats(floats), code


@intrinsic
def last(typing, vector):
    """The sixteenth lane."""

    def code(context, builder, signature, args):
        return builder.extract_element(args[0], _I32(WIDTH - 1))

    return types.float32(floats), code


def _folded(builder, vector, join):
    for by in (8, 4, 2, 1):
        index = [(i + by) % WIDTH for i in range(WIDTH)]
        vector = join(vector, builder.shuffle_vector(vector, vector, ir.Constant(_N16, index)))
    return builder.extract_element(vector, _I32(0))


@intrinsic
def total(typing, vector):
    """Sum of the lanes, halves folded onto each other."""

    def code(context, builder, signature, args):
        return _folded(builder, args[0], builder.fadd)

    return types.float32(floats), code


@intrinsic
def peak(typing, vector):
    """The greatest lane; none is NaN."""

    def code(context, builder, signature, args):
        return _folded(builder, args[0], lambda a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b))

    return types.float32(floats), code


def _comparison(sign):
    @intrinsic
    def operation(typing, left, right):
        def code(context, builder, signature, args):
            bits = builder.bitcast(builder.fcmp_ordered(sign, *args), _I16)
            return builder.zext(bits, _I64)

        return types.uint64(floats, floats), code

    return operation


above = _comparison(">")  # bit of each lane where left > right
at_most = _comparison("<=")


@intrinsic
def interpolate(typing, table, index, at, final):
    """Linear interpolation at `at` in `table[index:]`, pairs (value, step to the next), cell `final` being the last."""

    def code(context, builder, signature, args):
        kind, position = signature.args[0], args[2]
        limit = _splat(builder, builder.trunc(args[3], _I32), _N16)
        cell = builder.fptosi(position, _N16)
        cell = builder.select(builder.icmp_signed("<", cell, limit), cell, limit)
        data = _at(context, builder, kind, args[0], args[1], _I64)  # one gather brings value and step
        wide = builder.zext(cell, ir.VectorType(_I64, WIDTH))
        every = ir.Constant(ir.VectorType(_BIT, WIDTH), [1] * WIDTH)
        pairs = gathered(builder, data, wide, every, _I64, 4)
        both = builder.bitcast(pairs, ir.VectorType(_FLOAT, 2 * WIDTH))
        pick = [
            builder.shuffle_vector(both, both, ir.Constant(_N16, [2 * i + odd for i in range(WIDTH)])) for odd in (0, 1)
        ]
        part = builder.fsub(position, builder.sitofp(cell, _F16))
        return builder.fadd(pick[0], builder.fmul(part, pick[1]))

    return floats(table, types.uint64, floats, types.uint64), code
