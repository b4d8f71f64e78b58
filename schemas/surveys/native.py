"""The native galaxy message: one flat record, the same columns in Avro and in Arrow, generated from a band set.

A galaxy has its names, its position and time, for each band a flux, its error and a state, and at will a stamp: the
same cut-out of the sky in every band. The layout never changes under one version; columns we do not know are ignored.
"""

from functools import cache
from typing import Any, NamedTuple

import pyarrow as pa

from schemas.bands import BAND_SETS, band_set
from schemas.batch import BandState

DECODER_VERSION = "native-2"
"""Part of a processing id: raise it whenever the same message would give other rows than before."""

ARROW_METADATA = {"slipher.message": "galaxy", "slipher.version": "1"}

BAND_STATE: dict[str, Any] = {
    "type": "enum",
    "name": "BandState",
    "namespace": "slipher",
    "symbols": [state.name for state in BandState],
    "doc": "What the survey says of the galaxy in this band; NON_DETECTED and NOT_OBSERVED may carry NaN flux.",
}

_REQUIRED = object()
_OPTIONAL_BYTES = ["null", "bytes"]


class Column(NamedTuple):
    """One column of the message in both its forms."""

    name: str
    avro: Any
    arrow: pa.DataType
    doc: str
    default: Any = _REQUIRED

    @property
    def required(self) -> bool:
        """True where a message without this column is no galaxy."""
        return self.default is _REQUIRED


@cache
def columns(bands: tuple[str, ...]) -> tuple[Column, ...]:
    """The columns of a galaxy in `bands`, in their order on the wire."""
    head = (
        Column("survey", "string", pa.string(), "Name of the survey, which fixes bands and time scale."),
        Column("object_id", "string", pa.string(), "Identifier of the object in the survey's catalogue; never empty."),
        Column("alert_id", "string", pa.string(), "Identifier of this alert; may be empty."),
        Column("ra", "double", pa.float64(), "Right ascension, deg, ICRS, 0 to 360."),
        Column("dec", "double", pa.float64(), "Declination, deg, ICRS, -90 to 90."),
        Column(
            "mjd", "double", pa.float64(), "Time of the event, MJD in the survey's time scale, days; NaN = unknown."
        ),
    )
    photometry: list[Column] = []
    for band in bands:
        state = BAND_STATE if band == bands[0] else "slipher.BandState"
        photometry += (
            Column(
                f"flux_{band}", "float", pa.float32(), f"Flux in {band}, nJy, not corrected for dust; may be negative."
            ),
            Column(f"flux_err_{band}", "float", pa.float32(), f"Standard deviation of the flux in {band}, nJy."),
            Column(f"state_{band}", state, pa.uint8(), f"State of {band}: 0 not observed, 1 measured, 2 non-detected."),
        )
    tail = (
        Column("ebv", "float", pa.float32(), "Galactic reddening E(B-V) towards the galaxy, mag; NaN = unknown."),
        Column("stamp_height", "int", pa.int32(), "Height of the stamp, pixels; 0 = no stamp.", 0),
        Column("stamp_width", "int", pa.int32(), "Width of the stamp, pixels; 0 = no stamp.", 0),
        Column("stamp_scale", "float", pa.float32(), "Pixel scale of the stamp, arcsec per pixel.", 0.0),
        Column(
            "stamp_pixels",
            _OPTIONAL_BYTES,
            pa.binary(),
            "Little-endian float32 planes in band order, row by row, nJy; null = no stamp.",
            None,
        ),
        Column(
            "stamp_variance",
            _OPTIONAL_BYTES,
            pa.binary(),
            "Variance of the pixels in the layout of the pixels, nJy^2; null = unknown.",
            None,
        ),
    )
    return head + tuple(photometry) + tail


def avro_schema(survey: str) -> dict[str, Any]:
    """The Avro schema of a galaxy of `survey`."""
    fields: list[dict[str, Any]] = []
    for column in columns(band_set(survey).bands):
        field = {"name": column.name, "type": column.avro, "doc": column.doc}
        if not column.required:
            field["default"] = column.default
        fields.append(field)
    return {
        "type": "record",
        "name": "Galaxy",
        "namespace": "slipher",
        "doc": f"A galaxy in the bands {' '.join(band_set(survey).bands)}.",
        "fields": fields,
    }


def arrow_schema(survey: str) -> pa.Schema:
    """The Arrow schema of galaxies of `survey`, with the metadata that names message, version and survey."""
    return pa.schema(
        [pa.field(c.name, c.arrow, metadata={"doc": c.doc}) for c in columns(band_set(survey).bands)],
        metadata={**ARROW_METADATA, "slipher.survey": survey},
    )


def column_schema(bands: tuple[str, ...]) -> pa.Schema:
    """The columns as a decoder gathers them: as on the wire, but stamps with 64-bit offsets (a batch may pass 2 GiB)."""
    wide = {pa.binary(): pa.large_binary()}
    return pa.schema([pa.field(c.name, wide.get(c.arrow, c.arrow)) for c in columns(bands)])


def optional(bands: tuple[str, ...]) -> dict[str, Any]:
    """The columns a message may leave out, with what then stands for them."""
    return {c.name: c.default for c in columns(bands) if not c.required}


def known_avro_schemas() -> list[dict[str, Any]]:
    """The schemas of all surveys, of which producer and consumer need no registry."""
    return [avro_schema(survey) for survey in BAND_SETS]
