"""What can be wrong with a record, and the words for it."""

from enum import IntEnum


class Status(IntEnum):
    """How the reading of one record ended."""

    GOOD = 0
    TRUNCATED = 1
    VARINT = 2
    INT = 3
    LENGTH = 4
    COUNT = 5
    BRANCH = 6
    SYMBOL = 7
    BOOLEAN = 8
    BLOCK = 9
    DEPTH = 10
    TRAILING = 11
    TYPE = 12
    AFTER = 13
    EMPTY = 14


SENTENCES: dict[Status, str] = {
    Status.GOOD: "the record is good",
    Status.TRUNCATED: "the record is truncated: it goes on after the last byte",
    Status.VARINT: "a number of more than 64 bits",
    Status.INT: "an int of more than 32 bits",
    Status.LENGTH: "a negative length",
    Status.COUNT: "a block of more items than the message has bytes for",
    Status.BRANCH: "a union has no such branch",
    Status.SYMBOL: "an enum has no such symbol",
    Status.BOOLEAN: "a boolean is neither 0 nor 1",
    Status.BLOCK: "a block's items do not end where its size says",
    Status.DEPTH: "records are nested too deep",
    Status.TYPE: "the union holds a type that the field cannot be read from",
    Status.AFTER: "it follows a record that could not be read",
    Status.EMPTY: "more items of no bytes than a message of its size may have",
}
