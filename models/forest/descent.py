"""How packets of sixty-four rows go down trees, several packets and trees side by side, level by level.

As long as a node is met by many rows of a packet, it is loaded once for all: its threshold is compared with 64 values at once,
and the bits that come out part the rows. Where hardly a row of the packet is left the bits would carry nothing: these rows, the
loners, go on one by one, many in turn, so that the load of one hides behind the steps of the others.

All queues are stretches of one array, the room of a thread: a kernel that passes arrays around would count references.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from models.forest.crowd import LONERS, beyond_pieces, first_row, part_eight, prefetch, step_eight
from schemas.batch import Int64

ROWS = 64  # of a packet: the bits of a word
FLIGHT = 32  # pairs of a packet and a tree that go down side by side
TREES = 3 << 18  # bytes of trees that packets go through together: they stay in the second cache while packets pass
AHEAD = 16  # queue entries between asking for a node and using it
# An entry is: node | place << 32 | tree << 52. Place is where the packet's values begin in the flight's, plus a loner's row.
PLACE, TREE = np.uint64(32), np.uint64(52)
MAX_PLACE = 1 << 20
_SIZE = np.uint64(FLIGHT * ROWS + AHEAD + 40)  # of a queue, with entries that may be read or written behind its end
# Where in the room each queue begins
_NODE, _ROWS = np.uint64(0), np.uint64(2) * _SIZE  # of this level and, _SIZE further, of the next
_RIGHT, _LINK = np.uint64(4) * _SIZE, np.uint64(5) * _SIZE  # which rows go right; link of the node
END, END_ROWS = np.uint64(6) * _SIZE, np.uint64(7) * _SIZE  # leaves of several rows: entry, rows
_LONER = np.uint64(8) * _SIZE  # entries of those under way
ALONE = np.uint64(9) * _SIZE  # and of those in their leaf


class Flights(NamedTuple):
    """Which packets and trees go down side by side: trees `tile[k]` to `tile[k + 1]`, and `packets[k]` packets."""

    tile: Int64  # [K + 1]
    packets: Int64  # [K]


def flights(root: Int64, n_nodes: int, width: int) -> Flights:
    """Flights through trees that begin at `root`, int64[T], of rows of `width` features."""
    size = np.diff(root, append=n_nodes) * 8
    tile = [0]
    room = 0
    for tree, nbytes in enumerate(size.tolist()):
        if tree > tile[-1] and (room + nbytes > TREES or tree - tile[-1] >= FLIGHT):
            tile.append(tree)
            room = 0
        room += nbytes
    trees = np.diff([*tile, len(root)])
    most = max(1, (MAX_PLACE - ROWS) // max(width * ROWS, 1))
    return Flights(np.array([*tile, len(root)], np.int64), np.clip(FLIGHT // trees, 1, min(most, 16)).astype(np.int64))


@njit(nogil=True, error_model="numpy")
def new_room():  # type: ignore[no-untyped-def]
    """Memory for one thread."""
    return np.zeros(np.uint64(10) * _SIZE, np.uint64)


@njit(nogil=True, error_model="numpy", inline="always")
def node_of(entry):  # type: ignore[no-untyped-def]
    """Node of a queue entry."""
    return entry & np.uint64(0xFFFFFFFF)


@njit(nogil=True, error_model="numpy", inline="always")
def tree_of(entry):  # type: ignore[no-untyped-def]
    """Tree of a queue entry, counted in the flight."""
    return entry >> TREE


@njit(nogil=True, error_model="numpy", inline="always")
def place_of(entry):  # type: ignore[no-untyped-def]
    """Where the packet's values begin, and the row if it is a loner."""
    return (entry >> PLACE) & np.uint64(MAX_PLACE - 1)


@njit(nogil=True, error_model="numpy", inline="always")
def inverse_of(width):  # type: ignore[no-untyped-def]
    """2^40 / (64 width), rounded up: to multiply with it is to divide a place by the length of a packet, only sooner."""
    return np.uint64(((1 << 40) + width * ROWS - 1) // (width * ROWS))


@njit(nogil=True, error_model="numpy", inline="always")
def row_of(entry, width, inverse):  # type: ignore[no-untyped-def]
    """Row of a loner, or first row of a packet, counted in the flight; `inverse` is that of `inverse_of`."""
    place = place_of(entry)
    packet = (place * inverse) >> np.uint64(40)
    return place - packet * ((width - np.uint64(1)) * np.uint64(ROWS))


@njit(nogil=True, error_model="numpy", inline="always")
def rows_there(packet, n):  # type: ignore[no-untyped-def]
    """Bits of the rows of a packet that are there: all but in the last."""
    left = n - packet * ROWS
    return ~np.uint64(0) if left >= ROWS else (np.uint64(1) << np.uint64(left)) - np.uint64(1)


@njit(nogil=True, error_model="numpy")
def descend(word, threshold, root, first, stop, packed, holes, packet, last, n, width, avx512, room, pieces):  # type: ignore[no-untyped-def]
    """Take packets from `packet` to `last`, of `n` rows in all packets, through the trees from `first` to `stop`.

    `threshold` is `word` as float32, `pieces` is `room` as uint16.

    Fills END and END_ROWS with leaves where several rows end, and ALONE with those of loners. Returns how many there are of both.
    """
    one, low = np.uint64(1), np.uint64(0xFFFFF)
    base, hole_base = np.uint64(packet * width * ROWS), np.uint64(packet * width)
    count = np.uint64(0)
    n_ends = np.uint64(0)
    n_loners = np.uint64(0)
    missing = np.uint64(0)
    for k in range(packet, last):
        here = rows_there(k, n)
        for t in range(first, stop):
            node = np.uint64(root[t])
            entry = node | np.uint64((k - packet) * width * ROWS) << PLACE | np.uint64(t - first) << TREE
            if word[node] >> np.uint64(32 + 10) == np.uint64(0):  # a tree of one leaf
                room[END + n_ends], room[END_ROWS + n_ends] = entry, here
                n_ends += one
            else:
                room[_NODE + count], room[_ROWS + count] = entry, here
                count += one
        for f in range(width):
            missing |= holes[k * width + f]
    level, following = np.uint64(0), _SIZE
    while count > np.uint64(0):
        node_at, rows_at = _NODE + level, _ROWS + level
        for k in range(count, count + np.uint64(8)):  # the last eight may be fewer: the rest are nobody's
            room[node_at + k] = room[node_at]
            room[rows_at + k] = np.uint64(0)
        for i in range(np.uint64(0), count):
            entry = room[node_at + i]
            node = node_of(entry)
            prefetch(word, node_of(room[node_at + i + np.uint64(AHEAD)]))
            bits = word[node] >> np.uint64(32)
            at = base + place_of(entry) + ((bits >> one) & np.uint64(127)) * np.uint64(ROWS)
            beyond_pieces(packed, at, threshold[node << one], pieces, (_RIGHT + i) << np.uint64(2))
            room[_LINK + i] = bits
        if missing != np.uint64(0):
            for i in range(np.uint64(0), count):
                bits = room[_LINK + i]
                hole = hole_base + place_of(room[node_at + i]) // np.uint64(ROWS) + ((bits >> one) & np.uint64(127))
                room[_RIGHT + i] &= ~(holes[hole] & (np.uint64(0) - (bits & one)))
        m = np.uint64(0)
        if avx512:
            for i in range(np.uint64(0), count, np.uint64(8)):
                added = part_eight(
                    room,
                    node_at + i,
                    rows_at + i,
                    _RIGHT + i,
                    _LINK + i,
                    _NODE + following + m,
                    _ROWS + following + m,
                    END + n_ends,
                    END_ROWS + n_ends,
                    _LONER + n_loners,
                )
                m += added & low
                n_ends += (added >> np.uint64(20)) & low
                n_loners += added >> np.uint64(40)
        else:
            for i in range(np.uint64(0), count):
                rows, right, link = room[rows_at + i], room[_RIGHT + i], room[_LINK + i]
                for side in range(np.uint64(0), np.uint64(2)):
                    if side == np.uint64(0):
                        child, going = room[node_at + i] + one, rows & ~right
                    else:
                        child, going = room[node_at + i] + (link >> np.uint64(10)), rows & right
                    leaf = (link >> (np.uint64(8) + side)) & one
                    some = np.uint64(going != np.uint64(0))
                    rest = going
                    for _ in range(LONERS):
                        rest &= rest - one
                    many = np.uint64(rest != np.uint64(0))
                    room[_NODE + following + m], room[_ROWS + following + m] = child, going
                    room[END + n_ends], room[END_ROWS + n_ends] = child, going
                    m += many & (leaf ^ one)
                    n_ends += some & leaf
                    lonely = (many | leaf) ^ one
                    rest = going
                    for _ in range(LONERS):
                        room[_LONER + n_loners] = child + (first_row(rest | np.uint64(1 << 63)) << PLACE)
                        some = np.uint64(rest != np.uint64(0))
                        n_loners += lonely & some
                        rest &= rest - some
        level, following = following, level
        count = m
    return n_ends, _alone(word, threshold, packed, base, n_loners, avx512, room)


@njit(nogil=True, error_model="numpy", inline="always")
def _alone(word, threshold, packed, base, count, avx512, room):  # type: ignore[no-untyped-def]
    """Take `count` loners to their leaves, without a branch."""
    one, low = np.uint64(1), np.uint64(0xFFFFFFFF)
    done = np.uint64(0)
    while count > np.uint64(0):
        m = np.uint64(0)
        if avx512:
            for i in range(np.uint64(0), count, np.uint64(8)):
                added = step_eight(room, _LONER + i, count - i, word, packed, base, _LONER + m, ALONE + done)
                m += added & low
                done += added >> np.uint64(32)
        else:
            for i in range(np.uint64(0), count):
                entry = room[_LONER + i]
                prefetch(word, node_of(room[_LONER + i + np.uint64(AHEAD)]))
                node = node_of(entry)
                link = word[node] >> np.uint64(32)
                value = packed[base + ((link >> one) & np.uint64(127)) * np.uint64(ROWS) + place_of(entry)]
                left = np.uint64(value <= threshold[node << one]) | (np.uint64(value != value) & link & one)
                offset = link >> np.uint64(10)
                leaf = (link >> (np.uint64(9) - left)) & one
                entry += offset ^ ((offset ^ one) & (np.uint64(0) - left))
                room[_LONER + m] = entry
                room[ALONE + done] = entry
                m += leaf ^ one
                done += leaf
        count = m
    return done
