"""Numbers of FITS, big-endian and at any address, for kernels: arrays over raw memory, and bytes turned round."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


def _array(item: Any) -> Any:
    kind = types.Array(item, 1, "C", readonly=True, aligned=False)

    @intrinsic
    def array(typing_context, address, count):  # type: ignore[no-untyped-def]
        def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            made = context.make_array(kind)(context, builder)
            size = context.get_constant(types.intp, item.bitwidth // 8)
            pointer = builder.inttoptr(arguments[0], made.data.type)
            context.populate_array(
                made, data=pointer, shape=[arguments[1]], strides=[size], itemsize=size, meminfo=None
            )
            return made._getvalue()

        return kind(types.uint64, types.int64), code

    return array


def _turned(item: Any) -> Any:
    @intrinsic
    def turned(typing_context, value):  # type: ignore[no-untyped-def]
        def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            word = ir.IntType(item.bitwidth)
            name = f"llvm.bswap.i{item.bitwidth}"
            swap = cgutils.get_or_insert_function(builder.module, ir.FunctionType(word, [word]), name)
            return builder.call(swap, arguments)

        return item(item), code

    return turned


def _as(item: Any, result: Any, kind: ir.Type) -> Any:
    @intrinsic
    def same_bits(typing_context, value):  # type: ignore[no-untyped-def]
        def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            return builder.bitcast(arguments[0], kind)

        return result(item), code

    return same_bits


array_u8, array_u16 = _array(types.uint8), _array(types.uint16)  # (address, count): nothing is copied or checked
array_u32, array_u64 = _array(types.uint32), _array(types.uint64)
turned_u16, turned_u32, turned_u64 = _turned(types.uint16), _turned(types.uint32), _turned(types.uint64)
as_f32 = _as(types.uint32, types.float32, ir.FloatType())  # the number of the same bits
as_f64 = _as(types.uint64, types.float64, ir.DoubleType())
