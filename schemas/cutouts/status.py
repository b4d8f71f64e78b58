"""What can be wrong with a cutout, and the words for it."""

from enum import IntEnum


class CutoutStatus(IntEnum):
    """How the reading of one cutout ended."""

    GOOD = 0
    ABSENT = 1
    NOT_FITS = 2
    TRUNCATED = 3
    LACKS_CARD = 4
    NUMBER = 5
    BITPIX = 6
    AXES = 7
    NO_IMAGE = 8
    SHAPE = 9
    UNCERTAINTY = 10
    GZIP = 11
    CHECKSUM = 12
    TOO_LARGE = 13
    REPEATED = 14


SENTENCES: dict[CutoutStatus, str] = {
    CutoutStatus.GOOD: "the cutout is good",
    CutoutStatus.ABSENT: "the alert has no such cutout",
    CutoutStatus.NOT_FITS: "no FITS file: its first card is not SIMPLE = T",
    CutoutStatus.TRUNCATED: "the FITS file is truncated",
    CutoutStatus.LACKS_CARD: "a header lacks BITPIX or NAXIS",
    CutoutStatus.NUMBER: "the value of a card is not the number it must be",
    CutoutStatus.BITPIX: "BITPIX is none of 8, 16, 32, 64, -32 and -64",
    CutoutStatus.AXES: "NAXIS is not 2: no image of rows and columns",
    CutoutStatus.NO_IMAGE: "the FITS file holds no image",
    CutoutStatus.SHAPE: "the uncertainties have another shape than the image",
    CutoutStatus.UNCERTAINTY: "UTYPE is none of the uncertainties we know",
    CutoutStatus.GZIP: "the cutout cannot be gunzipped",
    CutoutStatus.CHECKSUM: "the checksum or the length at the end of the gzip is wrong",
    CutoutStatus.TOO_LARGE: "the cutout is larger than the bound once it is gunzipped",
    CutoutStatus.REPEATED: "a card that says how pixels are stored stands twice",
}
