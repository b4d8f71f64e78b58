"""The cutouts of a batch of alerts, from bytes where they stand in their messages to arrays."""

import ctypes
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.avro import Buffers, Spans, buffers
from schemas.batch import Float64, Int64, UInt8
from schemas.cutouts.cards import CARD, PLANES, UNIT_BYTES, Layout, number, scan
from schemas.cutouts.gunzip import CannotGunzip, gunzipped, gzips
from schemas.cutouts.planes import Planes, Shelf
from schemas.cutouts.status import SENTENCES, CutoutStatus

TOGETHER = 128  # gzips undone before their pixels are read: this many bound the memory that is held
MOST_BYTES = 1 << 20  # of a cutout once it is gunzipped: 500 by 500 pixels of float32; surveys send up to 101 by 101


class Cutouts(NamedTuple):
    """The cutouts of n alerts.

    Attributes
    ----------
    pixels
        The images, float32, in `unit`, as astropy reads them; NaN where the survey has no value.
    variance
        Of each pixel, float32, in the square of `unit`; the shape of the image, or 0 by 0 where it is unknown.
    psf
        The point spread function, float32, as the survey normalised it (Rubin's has the sum 1); 0 by 0 where unknown.
    unit
        What the header calls the unit of the pixels (``nJy`` for Rubin, ``DN`` for ZTF), bytes of at most 16 characters, S16[n].
    status
        `CutoutStatus`, uint8[n]. Where it is not GOOD all three are 0 by 0 and there is no unit.
    byte
        Where in the (gunzipped) FITS file the trouble is, int64[n]; -1 = good, or unknown.
    """

    pixels: Planes
    variance: Planes
    psf: Planes
    unit: npt.NDArray[np.bytes_]
    status: UInt8
    byte: Int64

    def why(self, i: int) -> str:
        """A sentence about the status of cutout `i`."""
        text = SENTENCES[CutoutStatus(self.status[i])]
        return text if self.byte[i] < 0 else f"{text}; byte {self.byte[i]} of the file"


def decode(source: Buffers, spans: Spans, most: int = MOST_BYTES) -> Cutouts:
    """Cutouts as an Avro engine gives them: pieces of n messages, each FITS, plain or in gzip.

    A cutout is read on its own: what is wrong with one is its status and costs no other. Pixels of plain FITS (Rubin) are
    read where they stand in the message; gzip (ZTF) is undone one by one, at most `most` bytes each.

    An image is the first plane of two axes; uncertainties are in the extension UNCERT, VARIANCE or VAR and become variances,
    whatever kind UTYPE says they are (without it: VARIANCE and VAR are variances, UNCERT standard deviations, as astropy's
    ``CCDData`` has it); the PSF is in PSFIMAGE or PSF. Integers are scaled by BSCALE and BZERO, and BLANK is NaN. Numbers
    are those of astropy, rounded to float32 where they have more digits.

    Parameters
    ----------
    source
        The n messages.
    spans
        Where in each its cutout is; a null and no bytes at all are ABSENT.
    most
        Bytes of a cutout once it is gunzipped.

    Examples
    --------
    An image worker projects the cutouts' bytes with the other fields, decodes, and scales for its network::

        decoded = program.run(source, start)
        science = cutouts.decode(source, decoded.columns["cutoutScience"])
        template = cutouts.decode(source, decoded.columns["cutoutTemplate"])
        images = stretched([science.pixels, template.pixels], 32, softening)   # models.images.stretch

    Rows whose `status` is not GOOD keep their place with an image that is all masked, and ``science.why(i)`` says why.
    """
    default = np.frombuffer(spans.default, np.uint8)
    address = np.where(
        spans.offset >= 0, source.address + spans.offset.astype(np.uint64), np.uint64(default.ctypes.data)
    )
    length = np.maximum(spans.length, 0)
    return _decode(address.astype(np.uint64), length, most)


def decode_bytes(payloads: Sequence[bytes | None], most: int = MOST_BYTES) -> Cutouts:
    """Cutouts that are bytes of their own; None is ABSENT. As `decode`."""
    memory = buffers(payloads)
    return _decode(memory.address, memory.length, most)


def _decode(address: npt.NDArray[np.uint64], length: Int64, most: int) -> Cutouts:
    n = len(address)
    status = np.where(length > 0, CutoutStatus.GOOD, CutoutStatus.ABSENT).astype(np.uint8)
    byte = np.full(n, -1, np.int64)
    unit = np.zeros((n, UNIT_BYTES), np.uint8)
    shelves = [Shelf(plane, n) for plane in range(PLANES)]
    sizes = gzips(address, length)
    step = TOGETHER if (sizes >= 0).any() else max(n, 1)
    for first in range(0, n, step):
        part = slice(first, first + step)
        here, size, alive = _gunzipped(address[part], length[part], sizes[part], status[part], most)
        layout = scan(here, size, status[part], byte[part])
        scale, zero = _scales(here, layout, status[part], byte[part])
        for shelf in shelves:
            shelf.put(first, here, layout, scale, zero, status[part] == CutoutStatus.GOOD)
        unit[part] = layout.unit
        del alive  # until here
    unit[status != CutoutStatus.GOOD] = 0
    pixels, variance, psf = (shelf.planes() for shelf in shelves)
    return Cutouts(pixels, variance, psf, unit.view(f"S{UNIT_BYTES}")[:, 0], status, byte)


def _gunzipped(
    address: npt.NDArray[np.uint64], length: Int64, sizes: Int64, status: UInt8, most: int
) -> tuple[npt.NDArray[np.uint64], Int64, list[pa.Buffer]]:
    """Addresses and lengths of FITS files, and what keeps those alive that were in gzip."""
    alive: list[pa.Buffer] = []
    done: list[int] = []
    which = np.flatnonzero(sizes >= 0)
    columns = (column[which].tolist() for column in (address, length, sizes))
    for i, here, there, size in zip(which.tolist(), *columns, strict=True):
        try:
            alive.append(pa.py_buffer(gunzipped(pa.foreign_buffer(here, there), size, most)))
            done.append(i)
        except CannotGunzip as why:
            status[i] = why.status
    if alive:
        address, length = address.copy(), length.copy()
        address[done], length[done] = [data.address for data in alive], [data.size for data in alive]
    return address, length, alive


def _scales(address: npt.NDArray[np.uint64], layout: Layout, status: UInt8, byte: Int64) -> tuple[Float64, Float64]:
    """BSCALE and BZERO of each plane, float64[n, 3]."""
    found = []
    for cards, default in ((layout.scale, 1.0), (layout.zero, 0.0)):
        values = np.full((len(address), PLANES), default)
        for i, plane in zip(*np.nonzero(cards), strict=True):
            value = number(ctypes.string_at(int(address[i]) + int(cards[i, plane]), CARD))
            if value is not None:
                values[i, plane] = value
            elif status[i] == CutoutStatus.GOOD:
                status[i], byte[i] = CutoutStatus.NUMBER, cards[i, plane]
        found.append(values)
    return found[0], found[1]
