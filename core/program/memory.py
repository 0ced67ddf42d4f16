"""How compiled code sees arrays: as plain pointers, in one word each.

numba counts the references of every array that it passes on, and passes it as up to nine words: that took most of the
time of folding. A pointer keeps no array alive. Whoever makes one holds the array until it is no longer used: a caller
from Python does, for arguments.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

Ints = Any
"""A pointer to int64."""
Floats = Any
"""A pointer to float64."""
Bytes = Any
"""A pointer to uint8."""


class Words(NamedTuple):
    """Words of records, as int64 and as float64."""

    ints: Ints
    floats: Floats


class Given(NamedTuple):
    """Inputs of n events, as int64 and as float64, and their validity: [input * n + row]."""

    ints: Ints
    floats: Floats
    present: Bytes
    n: int


class Results(NamedTuple):
    """Outputs for n payments, as int64 and as float64, and their validity: [aggregate * n + row]."""

    ints: Ints
    floats: Floats
    valid: Bytes
    n: int


def _pointer_to(element: Any) -> Any:
    def make(typing_context: Any, address: Any) -> Any:
        pointer = types.CPointer(element)  # type: ignore[no-untyped-call]

        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(pointer))

        return pointer(types.intp), code

    return make


def _prefetch(typing_context: Any, address: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer, number = cgutils.voidptr_t, cgutils.int32_t
        declared = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", [pointer], declared)
        builder.call(function, [builder.inttoptr(arguments[0], pointer), number(1), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(types.intp), code


prefetch: Any = intrinsic(_prefetch)
"""Ask for the cache line at an address, to be written; changes nothing."""
int_pointer: Any = intrinsic(_pointer_to(types.int64))
"""A pointer to int64 from an address, such as `array.ctypes.data`."""
float_pointer: Any = intrinsic(_pointer_to(types.float64))
"""A pointer to float64 from an address."""
byte_pointer: Any = intrinsic(_pointer_to(types.uint8))
"""A pointer to uint8 from an address."""
