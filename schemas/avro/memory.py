"""Loads and stores at a raw address: what a kernel needs that reads bytes where they lie, aligned or not."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


def _load(result: Any, width: ir.Type) -> Any:
    @intrinsic
    def load(typing_context, address):  # type: ignore[no-untyped-def]
        def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            value = builder.load(builder.inttoptr(arguments[0], width.as_pointer()))
            value.align = 1
            return value

        return result(types.uint64), code

    return load


def _store(kind: Any, width: ir.Type) -> Any:
    @intrinsic
    def store(typing_context, address, value):  # type: ignore[no-untyped-def]
        def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            put = builder.store(arguments[1], builder.inttoptr(arguments[0], width.as_pointer()))
            put.align = 1
            return context.get_dummy_value()

        return types.void(types.uint64, kind), code

    return store


load_u8 = _load(types.uint8, ir.IntType(8))
load_i64 = _load(types.int64, ir.IntType(64))
load_f32 = _load(types.float32, ir.FloatType())
load_f64 = _load(types.float64, ir.DoubleType())
store_i8 = _store(types.int8, ir.IntType(8))
store_i32 = _store(types.int32, ir.IntType(32))
store_i64 = _store(types.int64, ir.IntType(64))
store_f32 = _store(types.float32, ir.FloatType())
store_f64 = _store(types.float64, ir.DoubleType())


@intrinsic
def copy(typing_context, target, source, size):  # type: ignore[no-untyped-def]
    """Copy `size` bytes from one address to another; they do not overlap."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        byte = ir.IntType(8)
        there = builder.inttoptr(arguments[0], byte.as_pointer())
        here = builder.inttoptr(arguments[1], byte.as_pointer())
        cgutils.raw_memcpy(builder, there, here, arguments[2], 1)
        return context.get_dummy_value()

    return types.void(types.uint64, types.uint64, types.int64), code


@intrinsic
def trailing_zeros(typing_context, word):  # type: ignore[no-untyped-def]
    """How many of the low bits of a word are 0 before the first 1; 64 of 0."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.int64), code


@intrinsic
def prefetch(typing_context, address):  # type: ignore[no-untyped-def]
    """Ask for the line of memory at an address, which may be any number: a hint never fails."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        number, pointer = ir.IntType(32), ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        hint = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        read, near, data = (ir.Constant(number, value) for value in (0, 3, 1))
        builder.call(hint, [builder.inttoptr(arguments[0], pointer), read, near, data])
        return context.get_dummy_value()

    return types.void(types.uint64), code
