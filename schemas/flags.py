"""The flags of a catalogue row, bit by bit. A bit, once given, keeps its meaning for ever: rows outlive software."""

from enum import IntFlag


class Flag(IntFlag):
    """Bits of the ``flags`` column (int32 in the table: bits 0 to 30)."""

    # What the survey sent
    NO_PHOTOMETRY = 1 << 0  # no band could be used: no redshift
    NO_HOST_PHOTOMETRY = (
        1 << 1
    )  # the packet carries a transient but no host galaxy: no redshift from the transient's own flux
    BAND_NOT_OBSERVED = 1 << 2  # at least one of the model's bands was not observed
    BAND_NON_DETECTED = 1 << 3  # at least one of the model's bands is a non-detection
    BAD_FLUX = (
        1 << 4
    )  # a band called measured had a flux or error that is not a number, or an error <= 0: taken as not observed
    NO_EBV = 1 << 5  # E(B-V) unknown: no correction for dust was made
    BAD_EVENT_TIME = (
        1 << 6
    )  # event time missing, or outside [Kafka time - 30 d, + 1 d]: filed under the night of its Kafka time
    LATE = 1 << 7  # arrived after its night was closed
    SOLAR_SYSTEM = 1 << 8  # a moving object: not a galaxy
    STAR_LIKE = 1 << 9  # the host is probably a star
    HOST_AMBIGUOUS = 1 << 10  # more than one host candidate
    # What the model thinks of it
    MASK_UNSEEN = 1 << 11  # this combination of bands never occurred in training
    FEATURE_RANGE = 1 << 12  # a feature outside the range of the training set
    OUT_OF_DISTRIBUTION = 1 << 13  # far from every training galaxy
    BROAD_PDF = 1 << 14  # the 68 % interval is wider than 0.3 (1 + z)
    MULTIMODAL_PDF = 1 << 15  # more than one peak holds at least 20 % of the probability
    Z_AT_GRID_EDGE = 1 << 16  # the mode is the first or last point of the grid
    # Images
    NO_STAMP = 1 << 17  # no image where the model wants one
    BAD_STAMP = 1 << 18  # image of a wrong size, or all pixels masked
    SATURATED_STAMP = 1 << 19  # saturated pixels in the object
    # What the survey did not send
    NOMINAL_ERRORS = 1 << 20  # magnitudes came without errors: those of the survey's depth stand for them


DESCRIPTIONS: dict[Flag, str] = {
    Flag.NO_PHOTOMETRY: "no band could be used: no redshift",
    Flag.NO_HOST_PHOTOMETRY: "no host galaxy in the packet: no redshift",
    Flag.BAND_NOT_OBSERVED: "a band of the model was not observed",
    Flag.BAND_NON_DETECTED: "a band of the model is a non-detection",
    Flag.BAD_FLUX: "a measured flux or error was not a number, or the error not positive: band not used",
    Flag.NO_EBV: "E(B-V) unknown: no dust correction",
    Flag.BAD_EVENT_TIME: "event time missing or implausible: filed under its Kafka time",
    Flag.LATE: "arrived after its night was closed",
    Flag.SOLAR_SYSTEM: "a moving object, not a galaxy",
    Flag.STAR_LIKE: "the host is probably a star",
    Flag.HOST_AMBIGUOUS: "more than one host candidate",
    Flag.MASK_UNSEEN: "this combination of bands never occurred in training",
    Flag.FEATURE_RANGE: "a feature outside the range of the training set",
    Flag.OUT_OF_DISTRIBUTION: "far from every training galaxy",
    Flag.BROAD_PDF: "68 % interval wider than 0.3 (1 + z)",
    Flag.MULTIMODAL_PDF: "a second peak holds at least 20 % of the probability",
    Flag.Z_AT_GRID_EDGE: "the mode is at the edge of the redshift grid",
    Flag.NO_STAMP: "no image where the model wants one",
    Flag.BAD_STAMP: "image of a wrong size, or fully masked",
    Flag.SATURATED_STAMP: "saturated pixels in the object",
    Flag.NOMINAL_ERRORS: "magnitudes without errors: nominal ones of the survey's depth",
}


def names(flags: int) -> list[str]:
    """Names of the bits set in `flags`, lowest first."""
    return [flag.name for flag in Flag if flags & flag and flag.name]
