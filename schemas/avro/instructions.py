"""The instructions of the machine in ``kernel``: a program is a list of operations of eight int64 each.

Jumps count in bytes from the start of the program, places in the table in bytes from its start.
"""

# What an operation does.
RUN = 0  # skips a run of fields
SKIP, FLOAT_F4, FLOAT_F8, DOUBLE_F4, DOUBLE_F8, BOOLEAN_I1, FIXED_SPAN = range(1, 8)  # a value of fixed width
JUMP, FILL, CLOSE, NEXT, CALL, RETURN, HALT, FAIL = range(8, 16)  # reads nothing
BYTES, BYTES_SPAN, LONG, LONG_F4, LONG_F8, LONG_I8, ENUM, ENUM_I1 = range(16, 24)  # begins with a varint: a value,
OPTION, UNION, ARRAY, BLOCKS = range(24, 28)  # or a choice of what comes next
STRETCH = (
    28  # plain fields that follow, the fast way: A: their entries in the table; B: how many; DIMENSION: of those read
)

# Its eight numbers: bytes from its start. The first is which operation it is.
A, B = 8, 16  # arguments: see the kernel
SINK = 24  # address of the column it writes, 0 = none
DIMENSION = 32  # whose items the column holds: bytes into `dimensions`; those of 0 are the records
NULL = 40  # 0 = no union with null, else 4 x size of a value in the column + 1 where null is the first branch, 2 the second
NOTHING = 48  # the bits that stand for null
SINK2 = 56  # address of the column of lengths
SIZE = 64

# A dimension's five numbers: items so far, room, items before this record, address of its offsets, its parent.
COUNT, ROOM, BEFORE, OFFSETS, PARENT = 0, 8, 16, 24, 32
DIMENSION_SIZE = 40

CONTINUE = -1  # a start: where the record before ended
FRAMES = 256  # of arrays and of records in one another
FREE_ITEMS = 256  # items without a byte that a record may have in any case; more only if it has as many bytes

# Statuses, as plain integers: they are those of `Status`, in its order.
(GOOD, TRUNCATED, VARINT, INT, LENGTH, ITEMS, BRANCH, SYMBOL) = range(8)
(BOOLEAN, BLOCK, DEPTH, TRAILING, TYPE, AFTER, EMPTY) = range(8, 15)
