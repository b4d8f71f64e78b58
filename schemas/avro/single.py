"""Containers as a stream sends them, at speed: the header that is known, and one record in one block that is not compressed."""

from numba import njit

from schemas.avro import instructions as op
from schemas.avro.fields import varint
from schemas.avro.memory import load_i64, load_u8


@njit(nogil=True, cache=True)
def locate(address, length, header, size, sync, least, first, end):  # type: ignore[no-untyped-def]
    """Where the record of each container stands, or -1 where the container is anything else.

    Parameters
    ----------
    address, length
        Of the containers, int64[n].
    header, size
        Address and bytes of the header without its sync marker, which has `sync` bytes.
    least
        The fewest bytes of a record.
    first, end
        Bytes from the start of the container, int64[n].
    """
    for i in range(len(address)):
        first[i] = -1
        end[i] = -1
        p = address[i]
        stop = p + length[i]
        if length[i] < size + sync or not same(p, header, size):
            continue
        count, q, error = varint(p + size + sync, stop)
        if error != op.GOOD or count != 1:
            continue
        nbytes, q, error = varint(q, stop)
        if error != op.GOOD or nbytes < max(least, 1) or nbytes != stop - q - sync:
            continue
        if same(q + nbytes, p + size, sync):
            first[i] = q - p
            end[i] = q - p + nbytes


@njit(nogil=True, cache=True)
def same(one, other, size):  # type: ignore[no-untyped-def]
    """Whether `size` bytes are the same at two addresses."""
    different = 0
    whole = size & ~7
    for k in range(0, whole, 8):
        different |= load_i64(one + k) ^ load_i64(other + k)
    for k in range(whole, size):
        different |= load_u8(one + k) ^ load_u8(other + k)
    return different == 0
