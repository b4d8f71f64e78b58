"""FITS headers, read where they lie: where the planes of a cutout are, and how their numbers are written.

Only the cards that say so are looked at, at steps of 80 bytes. A header takes a quarter of a microsecond; to look its bytes
up among those that were read before would take a whole one, so no headers are kept. Values may stand in any column (ZTF's
``SIMPLE`` does not stand where the standard wants it). A card about storage that is repeated is refused: the standard does
not say which one counts.

The layout is that of FITS 4.0 (https://fits.gsfc.nasa.gov/fits_standard.html), sections 3 and 4. Names and meanings of the
extensions are those of astropy's ``CCDData``, which Rubin writes: ``UNCERT`` with the kind of uncertainty in ``UTYPE``
(Rubin's is ``VarianceUncertainty``, in the square of the image's unit), and ``PSFIMAGE``.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from schemas.avro.memory import load_i64, load_u8
from schemas.batch import Int64, UInt8
from schemas.cutouts.status import CutoutStatus

IMAGE, VARIANCE, PSF = 0, 1, 2  # planes
PLANES = 3
BLOCK, CARD = 2880, 80
UNIT_BYTES = 16
MOST = 1 << 28  # pixels along an axis: below it, the arithmetic of sizes never overflows
AS_IS, SIGMA, INVERSE = 0, 1, 2  # what uncertainties are: variances, their square roots, one over them


class Layout(NamedTuple):
    """Where the planes of n cutouts are; of each the image, its uncertainty and the PSF.

    Attributes
    ----------
    data
        Bytes from the start of the FITS file to the first pixel, int64[n, 3].
    height, width
        Pixels, int64[n, 3]; 0 where there is no such plane.
    bitpix
        As in the header, int64[n, 3].
    scale, zero
        Bytes from the start of the file to the cards BSCALE and BZERO, int64[n, 3]; 0 = there is none.
    blank
        The value of BLANK, int64[n, 3].
    blanks
        1 where BLANK has a meaning, int64[n, 3].
    kind
        What the uncertainties are, int64[n].
    unit
        BUNIT of the image, uint8[n, 16], zeros behind it.
    """

    data: Int64
    height: Int64
    width: Int64
    bitpix: Int64
    scale: Int64
    zero: Int64
    blank: Int64
    blanks: Int64
    kind: Int64
    unit: UInt8


def _word(text: str) -> np.int64:
    """Eight characters as a kernel loads them."""
    return np.int64(int.from_bytes(text.ljust(8).encode(), "little"))


_SIMPLE, _XTENSION, _END, _BITPIX, _NAXIS = (_word(k) for k in ("SIMPLE", "XTENSION", "END", "BITPIX", "NAXIS"))
_PCOUNT, _GCOUNT, _BSCALE, _BZERO, _BLANK = (_word(k) for k in ("PCOUNT", "GCOUNT", "BSCALE", "BZERO", "BLANK"))
_EXTNAME, _UTYPE, _BUNIT = (_word(k) for k in ("EXTNAME", "UTYPE", "BUNIT"))
_NAXIS_PART = _NAXIS & np.int64(0xFFFFFFFFFF)
_FIVE = np.int64(0xFFFFFFFFFF)
_SPACES = np.int64(0x2020)
_IMAGE_TYPE = _word("IMAGE")
_SIGMAS, _VARIANCES, _INVERSES = (_word(k) for k in ("STDDEVUN", "VARIANCE", "INVERSEV"))
_UNCERT, _VAR, _PSFIMAGE, _PSF = (_word(k) for k in ("UNCERT", "VAR", "PSFIMAGE", "PSF"))

_GOOD, _NOT_FITS, _TRUNCATED = int(CutoutStatus.GOOD), int(CutoutStatus.NOT_FITS), int(CutoutStatus.TRUNCATED)
_LACKS_CARD, _NUMBER, _WRONG_BITPIX = (
    int(CutoutStatus.LACKS_CARD),
    int(CutoutStatus.NUMBER),
    int(CutoutStatus.BITPIX),
)
_AXES, _NO_IMAGE, _SHAPE = int(CutoutStatus.AXES), int(CutoutStatus.NO_IMAGE), int(CutoutStatus.SHAPE)
_UNCERTAINTY, _REPEATED = int(CutoutStatus.UNCERTAINTY), int(CutoutStatus.REPEATED)


def scan(address: npt.NDArray[np.uint64], length: Int64, status: UInt8, byte: Int64) -> Layout:
    """The layout of n FITS files.

    Parameters
    ----------
    address, length
        Of each file in memory, uint64[n] and int64[n].
    status
        `CutoutStatus`, uint8[n]: those that are GOOD are read, and are another if they cannot be.
    byte
        Where in the file the trouble is, int64[n]: filled in.
    """
    n = len(address)
    a, b, c, d, e, f, g, h = np.zeros((8, n, PLANES), np.int64)
    layout = Layout(a, b, c, d, e, f, g, h, np.zeros(n, np.int64), np.zeros((n, UNIT_BYTES), np.uint8))
    _scan(address.view(np.int64), length, layout, status, byte)
    return layout


@lru_cache(maxsize=1024)
def number(card: bytes) -> float | None:
    """The number in a card, None where it holds none; a card of the same bytes is read once."""
    value = card[10:].split(b"/")[0].strip().replace(b"D", b"E").replace(b"d", b"e")
    try:
        return float(value) if value.strip(b"+-.0123456789eE") == b"" else None  # no nan, no inf, no 1_000
    except ValueError:
        return None


@njit(nogil=True, error_model="numpy", cache=True)
def _scan(address, length, layout, status, byte):  # type: ignore[no-untyped-def]
    axis = np.zeros(10, np.int64)
    for i in range(len(address)):
        if status[i] == _GOOD:
            status[i], byte[i] = _file(address[i], length[i], i, layout, axis)


@njit(nogil=True, error_model="numpy", cache=True)
def _file(base, length, i, layout, axis):  # type: ignore[no-untyped-def]
    """(status, byte) of file `i`, its layout filled in: one header and its data after the other."""
    if length < CARD:
        return (_TRUNCATED, length) if length >= 8 and load_i64(base) == _SIMPLE else (_NOT_FITS, np.int64(0))
    if load_i64(base) != _SIMPLE or not _indicates(base) or load_u8(_first(base)) != 84:  # T
        return _NOT_FITS, np.int64(0)
    start = np.int64(0)
    while start == 0 or (length - start >= CARD and load_i64(base + start) == _XTENSION):
        image = start == 0 or _text(base + start) == _IMAGE_TYPE
        bitpix, axes, pcount, gcount = np.int64(0), np.int64(-1), np.int64(0), np.int64(1)
        scale = zero = blank = np.int64(0)
        blanks = name = kind = unit = np.int64(0)
        seen = np.int64(0)
        axis[:] = 0
        card = start + CARD
        while True:
            if length - card < CARD:
                return _TRUNCATED, length
            at = base + card
            key = load_i64(at)
            if key == _END:
                break
            if _indicates(at):
                value, good, bit = np.int64(0), True, np.int64(0)
                if key & _FIVE == _NAXIS_PART and (key >> 48) == _SPACES:
                    which = ((key >> 40) & 255) - 48
                    if key == _NAXIS or 1 <= which <= 9:
                        value, good = _integer(at)
                        good = good and 0 <= value <= MOST
                        if key == _NAXIS:
                            axes, bit = value, np.int64(1)
                        else:
                            axis[which], bit = value, np.int64(1) << which
                elif key == _BITPIX:
                    bitpix, good = _integer(at)
                    bit = np.int64(1) << 10
                elif key == _PCOUNT:
                    pcount, good = _integer(at)
                    good = good and 0 <= pcount <= MOST
                    bit = np.int64(1) << 11
                elif key == _GCOUNT:
                    gcount, good = _integer(at)
                    good = good and 0 <= gcount <= MOST
                    bit = np.int64(1) << 12
                elif key == _BSCALE:
                    scale, bit = card, np.int64(1) << 13
                elif key == _BZERO:
                    zero, bit = card, np.int64(1) << 14
                elif key == _BLANK:
                    blank, good = _integer(at)
                    blanks, bit = np.int64(1), np.int64(1) << 15
                elif key == _EXTNAME:
                    name, bit = _text(at), np.int64(1) << 16
                elif key == _UTYPE:
                    kind, bit = _text(at), np.int64(1) << 17
                elif key == _BUNIT:
                    unit = card if unit == 0 else unit
                if not good:
                    return _NUMBER, card
                if seen & bit:
                    return _REPEATED, card
                seen |= bit
            card += CARD
        if axes < 0 or bitpix == 0:
            return _LACKS_CARD, start
        if bitpix not in (8, 16, 32, 64, -32, -64):
            return _WRONG_BITPIX, start
        if axes > 9:
            return _AXES, start
        data = start + _padded(card + CARD - start)
        size = _size(bitpix, axes, axis, pcount, gcount)
        if size > 0 and size > length - data:
            return _TRUNCATED, length
        if image and size > 0:
            plane = IMAGE
            if name in (_UNCERT, _VARIANCES, _VAR):
                plane = VARIANCE
            elif name in (_PSFIMAGE, _PSF):
                plane = PSF
            if layout.height[i, plane] == 0:  # what is more than one of its kind, or a mask, is left
                if axes != 2:
                    return _AXES, start
                layout.data[i, plane] = data
                layout.width[i, plane], layout.height[i, plane] = axis[1], axis[2]
                layout.bitpix[i, plane] = bitpix
                layout.scale[i, plane], layout.zero[i, plane] = scale, zero
                layout.blank[i, plane], layout.blanks[i, plane] = blank, blanks if bitpix > 0 else 0
                if plane == VARIANCE:
                    layout.kind[i] = _meaning(name, kind)
                    if layout.kind[i] < 0:
                        return _UNCERTAINTY, start
                elif plane == IMAGE and unit:
                    _copy_text(base + unit, layout.unit[i])
        start = data + _padded(size)
    if layout.height[i, IMAGE] == 0:
        return _NO_IMAGE, np.int64(-1)
    for shape in (layout.height, layout.width):
        if layout.height[i, VARIANCE] > 0 and shape[i, VARIANCE] != shape[i, IMAGE]:
            return _SHAPE, np.int64(-1)
    return _GOOD, np.int64(-1)


@njit(nogil=True, cache=True, inline="always")
def _padded(size):  # type: ignore[no-untyped-def]
    return (size + BLOCK - 1) // BLOCK * BLOCK


@njit(nogil=True, cache=True)
def _size(bitpix, axes, axis, pcount, gcount):  # type: ignore[no-untyped-def]
    """Bytes of data behind a header (FITS 4.0, equations 1 and 2); more than memory has is some large number."""
    if axes == 0:
        return np.int64(0)
    cells = np.int64(1)
    for k in range(1, axes + 1):
        cells = min(cells * axis[k], np.int64(1) << 32)
    if cells == 0:
        return np.int64(0)
    return abs(bitpix) // 8 * min((cells + pcount) * gcount, np.int64(1) << 40)


@njit(nogil=True, cache=True)
def _meaning(name, kind):  # type: ignore[no-untyped-def]
    """What uncertainties are; -1 = nothing we know. Without UTYPE: what the name says, or as ``CCDData`` takes UNCERT."""
    if kind == 0:
        return SIGMA if name == _UNCERT else AS_IS
    if kind == _VARIANCES:
        return AS_IS
    if kind == _SIGMAS:
        return SIGMA
    return INVERSE if kind == _INVERSES else -1


@njit(nogil=True, cache=True, inline="always")
def _indicates(card):  # type: ignore[no-untyped-def]
    """Whether a card has a value: ``= `` in columns 9 and 10."""
    return load_u8(card + 8) == 61 and load_u8(card + 9) == 32


@njit(nogil=True, cache=True)
def _first(card):  # type: ignore[no-untyped-def]
    """Address of the first character of a value; of the card's last one where there is none."""
    for k in range(10, CARD - 1):
        if load_u8(card + k) != 32:
            return card + k
    return card + CARD - 1


@njit(nogil=True, cache=True)
def _integer(card):  # type: ignore[no-untyped-def]
    """(value, whether it is an integer of 64 bits)."""
    at, end = _first(card), card + CARD
    sign = np.int64(1)
    if load_u8(at) == 45 or load_u8(at) == 43:
        sign = np.int64(44) - load_u8(at)
        at += 1
    value = np.int64(0)
    digits = significant = 0
    while at < end:
        digit = np.int64(load_u8(at)) - 48
        if digit < 0 or digit > 9:
            break
        value = value * 10 + sign * digit
        digits += 1
        significant += value != 0
        if significant > 19 or (value != 0 and (value < 0) != (sign < 0)):
            return np.int64(0), False
        at += 1
    while at < end and load_u8(at) == 32:
        at += 1
    return value, digits > 0 and (at == end or load_u8(at) == 47)  # nothing, or the comment's /


@njit(nogil=True, cache=True)
def _text(card):  # type: ignore[no-untyped-def]
    """The first eight characters of a string in capitals, as `_word` has them; 0 where the value is no string."""
    at, end = _first(card), card + CARD
    if load_u8(at) != 39:
        return np.int64(0)
    word, shift = np.int64(0), 0
    ended = False
    for k in range(1, 9):
        byte = np.int64(32)
        if not ended and at + k < end:
            byte = np.int64(load_u8(at + k))
            if byte == 39:
                ended, byte = True, np.int64(32)
            elif 97 <= byte <= 122:
                byte -= 32
        word |= byte << shift
        shift += 8
    return word


@njit(nogil=True, cache=True)
def _copy_text(card, out):  # type: ignore[no-untyped-def]
    """The first characters of a string, without spaces behind."""
    at, end = _first(card), card + CARD
    if load_u8(at) != 39:
        return
    used = 0
    for k in range(len(out)):
        if at + 1 + k >= end or load_u8(at + 1 + k) == 39:
            break
        out[k] = load_u8(at + 1 + k)
        if out[k] != 32:
            used = k + 1
    out[used:] = 0
