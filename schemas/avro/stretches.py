"""Stretches of plain fields in a program, one after the other: put into a table, for the kernel to run through them at speed.

The operations stay where they are. An operation STRETCH before them reads as many fields as look usual; where one does not, or
the buffer may end in it, the kernel goes on with that field's own operation, which knows what is wrong.
"""

from typing import NamedTuple

from schemas.avro import instructions as op

_READ = {op.FLOAT_F4, op.FLOAT_F8, op.DOUBLE_F4, op.DOUBLE_F8, op.BOOLEAN_I1, op.BYTES_SPAN, op.LONG_I8, op.ENUM_I1}
_SKIPPED = {op.RUN, op.SKIP, op.BYTES, op.LONG, op.ENUM}
_JUMPS = {op.JUMP, op.NEXT, op.CALL, op.OPTION, op.ARRAY}
LEAST = 2  # fields that are worth a stretch
SURELY_INT, SURELY_LONG = 31, 63  # the highest bit of the last byte of a varint that has room in it, whatever it says


class Stretched(NamedTuple):
    """A program with stretches.

    Attributes
    ----------
    ops, table
        As in ``compiler.Code``.
    moved
        Where each old operation is now.
    addresses
        (place in the table, old operation, which of its two addresses) of what each run fills in.
    """

    ops: list[list[int]]
    table: list[int]
    moved: list[int]
    addresses: list[tuple[int, int, int]]


def stretched(ops: list[list[int]], table: list[int]) -> Stretched:
    """`ops` with an operation STRETCH before each run of plain fields of one dimension."""
    targets = {each[1] // op.SIZE for each in ops if each[0] in _JUMPS}
    unions = [place // 8 + k for what, place, count, *_ in ops if what == op.UNION for k in range(count)]
    targets |= {table[place] // op.SIZE for place in unions}
    table = list(table)
    new: list[list[int]] = []
    moved: list[int] = []
    addresses: list[tuple[int, int, int]] = []
    at = 0
    while at < len(ops):
        end, dimension = at, -1
        while end < len(ops) and ops[end][0] in _READ | _SKIPPED and (end == at or end not in targets):
            if ops[end][0] in _READ:
                if dimension not in (-1, ops[end][4]):
                    break
                dimension = ops[end][4]
            end += 1
        if end - at < LEAST:
            moved.append(len(new))
            new.append(ops[at])
            at += 1
            continue
        new.append([op.STRETCH, 8 * len(table), end - at, 0, max(dimension, 0), 0, 0, 0])
        for number in range(at, end):
            moved.append(len(new) - (number == at))  # who jumps to the first field jumps to the stretch
            new.append(ops[number])
            _entry(number, ops[number], table, addresses)
        table.append(op.HALT)
        at = end
    moved.append(len(new))
    for each in new:
        if each[0] in _JUMPS:
            each[1] = moved[each[1] // op.SIZE] * op.SIZE
    for place in unions:
        table[place] = moved[table[place] // op.SIZE] * op.SIZE
    return Stretched(new, table, moved, addresses)


def _entry(number: int, operation: list[int], table: list[int], addresses: list[tuple[int, int, int]]) -> None:
    """One field: which operation, null, and an argument, in a word; then what that operation needs."""
    what, a, b, most, _, null, nothing, _ = operation
    argument = {op.SKIP: a, op.RUN: b}.get(what, b if what in (op.LONG_I8, op.ENUM, op.ENUM_I1) else 0)
    if what == op.LONG:
        argument = SURELY_INT if b else SURELY_LONG
    table.append(what | (null & 3) << 5 | argument << 8)
    if what == op.RUN:
        table += [a, most]
    elif what in _READ:
        addresses.append((len(table), number, 0))
        if what == op.BYTES_SPAN:
            addresses.append((len(table) + 1, number, 1))
        table += [0, nothing]
        if what == op.ENUM_I1:
            table.append(a)
