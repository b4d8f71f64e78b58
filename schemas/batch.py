"""What passes between the rooms: columns in named tuples of arrays, never lists of records.

``Messages`` come from a source, ``Galaxies`` and ``Refusals`` from a decoder, ``Estimates`` from a model.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
UInt8 = npt.NDArray[np.uint8]


class BandState(IntEnum):
    """What a survey says of one band of one galaxy. The values are those on the wire: they never change."""

    NOT_OBSERVED = 0
    MEASURED = 1
    NON_DETECTED = 2


class Reason(IntEnum):
    """Why an offset, or a row of it, has no catalogue row. The names stand in the exceptions ledger: they never change."""

    NO_MESSAGE = 0  # transaction marker, aborted or compacted away: the log holds nothing for us at this offset
    EMPTY = 1  # a message that holds no galaxy: a tombstone, an Arrow stream without rows
    RETENTION_GAP = 2  # expired before it was read: lost by the broker, and said so
    WITHDRAWN = 3  # its rows stood in the catalogue, and a person took them out for good
    BAD_FRAMING = 10  # no header of a framing we know
    UNKNOWN_SCHEMA = 11  # a schema id nobody can resolve
    LACKS_FIELD = 12  # the writer's schema lacks a field that a galaxy needs
    CORRUPT = 13  # the body does not follow its schema: truncated, trailing bytes, a bad union branch
    TOO_LARGE = 14  # more bytes, or more rows, than the bound
    WRONG_SURVEY = 15  # another survey's message than this worker reads
    BAD_POSITION = 20  # a row whose right ascension or declination is not a position on the sky
    BAD_OBJECT_ID = 21  # a row without an object id


class Messages(NamedTuple):
    """What a source read: n messages of one topic, in the order read, offsets rising within a partition.

    Attributes
    ----------
    payloads
        The n message values; ``None`` is a tombstone.
    partition
        Kafka partition, int32[n].
    offset
        Kafka offset, int64[n].
    timestamp_ms
        Kafka timestamp, ms since 1970 UTC, int64[n]; -1 where the broker keeps none.
    ends
        For each partition read, the next offset: every offset below it was either delivered or holds no message.
    gaps
        (partition, first, end): offsets that retention took before they were read.
    starts
        For each partition read, where this batch goes on from the one before: the source vouches for every jump between
        here and ``ends``, and a sink refuses a batch that does not begin where the last one ended.
    """

    payloads: list[bytes | None]
    partition: Int32
    offset: Int64
    timestamp_ms: Int64
    ends: dict[int, int]
    gaps: tuple[tuple[int, int, int], ...] = ()
    starts: dict[int, int] = {}  # noqa: RUF012 - a default nobody mutates

    @property
    def nbytes(self) -> int:
        """Bytes of all payloads."""
        return sum(len(p) for p in self.payloads if p is not None)


class Stamps(NamedTuple):
    """Image cut-outs of n galaxies: little-endian float32 planes in band order, nJy, kept as bytes until a model needs them."""

    height: Int32  # pixels; 0 where a galaxy has none
    width: Int32  # pixels
    scale: Float32  # arcsec per pixel
    pixels: pa.LargeBinaryArray  # B * height * width * 4 bytes each, null where a galaxy has none
    variance: pa.LargeBinaryArray  # nJy^2, same shape, null where unknown


@dataclass(frozen=True, eq=False)
class Galaxies:
    """n galaxies out of m messages, in message order.

    Bands are those of ``bands``, in its order; an unobserved or non-detected band may hold NaN flux. A dataclass, for it has
    a length of its own, which a tuple may not have.
    """

    bands: tuple[str, ...]
    survey: pa.StringArray  # [n]
    object_id: pa.StringArray  # [n]
    alert_id: pa.StringArray  # [n]
    ra: Float64  # deg, ICRS, [0, 360)
    dec: Float64  # deg, ICRS
    mjd: Float64  # event time, days, in the survey's time scale
    flux: Float32  # nJy, [n, B]
    flux_err: Float32  # nJy, [n, B]
    band_state: UInt8  # BandState, [n, B]
    ebv: Float32  # mag, NaN = unknown
    message: Int64  # index of the message in Messages, [n]
    row: Int32  # row within the message, [n]
    stamps: Stamps | None = None
    flags: npt.NDArray[np.uint32] | None = (
        None  # what the packet says of itself: schemas.flags.Flag, [n]; None = nothing
    )

    def __len__(self) -> int:
        """Galaxies."""
        return len(self.ra)


class Refusals(NamedTuple):
    """k messages, or rows of messages, that give no galaxy, and why."""

    message: Int64  # index of the message in Messages, [k]
    row: Int32  # row within the message; -1 = the message, or what is left of it beside the rows listed one by one
    reason: UInt8  # Reason, [k]
    text: list[str]  # a sentence for people, [k]
    byte: Int64  # where in the payload the trouble stands, -1 where unknown, [k]


class Estimates(NamedTuple):
    """What a model says of n galaxies. A galaxy it cannot estimate has NaN everywhere and a flag that says why."""

    pdf: Float32  # p(z), [n, G] on the model's grid, integrates to 1
    z_mode: Float32
    z_mean: Float32
    z_median: Float32
    z_best: Float32  # argmin of the risk with loss 1 - 1/(1 + (dz/(1+z)/0.15)^2)  (Tanaka et al. 2018)
    z_best_risk: Float32
    z_sigma: Float32  # standard deviation of the PDF
    z_lo68: Float32
    z_hi68: Float32
    z_lo95: Float32
    z_hi95: Float32
    odds: Float32  # probability within 0.03 (1 + z_best) of z_best
    mag_ref: Float32  # dereddened asinh magnitude in the model's reference band
    flags: npt.NDArray[np.uint32]  # schemas.flags.Flag
    band_mask: npt.NDArray[np.uint32]  # bit b: band b entered the estimate


def no_refusals() -> Refusals:
    """Nothing refused."""
    return Refusals(np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.uint8), [], np.empty(0, np.int64))
