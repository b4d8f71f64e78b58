"""A simulated sky as a table: the columns of the native message, the photometry of the stamps, and the truth."""

from collections.abc import Iterator
from importlib import metadata

import numpy as np
import pyarrow as pa

from models.sky.measure import Measured
from models.sky.simulate import CHUNK, Sky, chunks
from models.sky.surveys import DUST_LAW, SkySurvey
from schemas import stamp_columns, table_metadata
from schemas.batch import BandState

TRUTH = (  # (column, of Truth, unit, what it is)
    ("redshift", "z", "", "True redshift."),
    ("true_log_mass", "log_mass", "log10(solMass)", "Stellar mass."),
    ("true_t_type", "t_type", "", "de Vaucouleurs' type."),
    ("true_bulge", "bulge", "", "Part of the light of the reference band that is in the bulge."),
    ("true_bar_length", "bar_length", "arcsec", "Half length of the bar on the sky; 0 = none."),
    ("true_ebv", "ebv", "mag", "E(B-V) that the light went through."),
)


def schema(survey: SkySurvey, size: int, n: int, seed: int) -> pa.Schema:
    """Columns, with units and what they are; how the sky was made in the metadata."""

    def column(name: str, kind: pa.DataType, unit: str = "", what: str = "") -> pa.Field:
        said = {key: value for key, value in (("unit", unit), ("description", what)) if value}
        return pa.field(name, kind, metadata=said or None)

    f4, f8, bands = pa.float32(), pa.float64(), survey.bands.bands
    fields = [
        column("object_id", pa.string(), "", "SURVEY-SEED-NUMBER."),
        column("ra", f8, "deg", "Invented, uniform on the sphere."),
        column("dec", f8, "deg", "Invented, uniform on the sphere."),
        column("ebv", f4, "mag", "E(B-V) as a dust map has it."),
    ]
    for band in bands:
        fields += [
            column(f"flux_{band}", f4, "nJy", "Matched flux, measured from the stamp."),
            column(f"flux_err_{band}", f4, "nJy", "Its standard deviation."),
        ]
    for k, radius in enumerate(survey.apertures):
        for band in bands:
            fields += [
                column(f"aperture{k}_flux_{band}", f4, "nJy", f"Within {radius:g} arcsec, measured from the stamp."),
                column(f"aperture{k}_flux_err_{band}", f4, "nJy", "Its standard deviation."),
            ]
    fields += [
        column("size", f4, "arcsec", "Standard deviation along the mean axis, seeing taken off."),
        column("ellipticity", f4, "", "(1 - q^2) / (1 + q^2) of the axis ratio q."),
        column(stamp_columns.HEIGHT, pa.int32(), "pix"),
        column(stamp_columns.WIDTH, pa.int32(), "pix"),
        column(stamp_columns.SCALE, f4, "arcsec / pix"),
        column(
            stamp_columns.PIXELS, pa.large_binary(), "nJy", "Little-endian float32 planes in band order, row by row."
        ),
        column(stamp_columns.VARIANCE, pa.large_binary(), "nJy^2", "Variance of the pixels, laid out as they are."),
    ]
    fields += [column(name, f8, unit, what) for name, _, unit, what in TRUTH]
    fields += [column(f"true_flux_{band}", f8, "nJy", "Without noise, before Galactic dust.") for band in bands]
    made = {
        table_metadata.SURVEY: survey.survey,
        table_metadata.DUST_LAW: DUST_LAW,
        table_metadata.PIXEL: f"{survey.pixel:g}",
        "seed": str(seed),
        "galaxies": str(n),
        "size": str(size),
        "version": metadata.version("slipher"),
    }
    return pa.schema(fields, metadata={table_metadata.PREFIX + key: value for key, value in made.items()})


def batches(
    survey: SkySurvey, n: int, seed: int = 1, size: int | None = None, threads: int | None = None
) -> Iterator[pa.RecordBatch]:
    """A sky of `n` galaxies in record batches of `schema`; parameters and errors as `models.sky.simulate.simulate` has them."""
    side = survey.size if size is None else size
    columns = schema(survey, side, n, seed)
    for k, part in enumerate(chunks(survey, n, seed, size, threads)):
        where = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(k, 1)))
        yield _batch(part, survey, columns, seed, k * CHUNK, where)


def _batch(
    sky: Sky, survey: SkySurvey, columns: pa.Schema, seed: int, first: int, where: np.random.Generator
) -> pa.RecordBatch:
    n, bands = len(sky.ebv), survey.bands.bands
    if not (sky.band_state == BandState.MEASURED).all():
        raise ValueError("a galaxy that is not measured in every band has no place in this table")
    measured: Measured = sky.measured
    found: dict[str, object] = {
        "object_id": [f"{survey.survey}-{seed}-{first + i:07d}" for i in range(n)],
        "ra": where.uniform(0, 360, n),
        "dec": np.rad2deg(np.arcsin(where.uniform(-1, 1, n))),
        "ebv": sky.ebv,
        "size": measured.size,
        "ellipticity": measured.ellipticity,
        stamp_columns.HEIGHT: np.full(n, sky.stamps.shape[2], np.int32),
        stamp_columns.WIDTH: np.full(n, sky.stamps.shape[3], np.int32),
        stamp_columns.SCALE: np.full(n, survey.pixel, np.float32),
        stamp_columns.PIXELS: stamp_columns.blobs(sky.stamps),
        stamp_columns.VARIANCE: stamp_columns.blobs(sky.variance),
    }
    for b, band in enumerate(bands):
        found |= {f"flux_{band}": measured.flux[:, b], f"flux_err_{band}": measured.flux_err[:, b]}
        found[f"true_flux_{band}"] = sky.truth.flux[:, b]
        for k in range(len(survey.apertures)):
            found[f"aperture{k}_flux_{band}"] = measured.aperture[:, k, b]
            found[f"aperture{k}_flux_err_{band}"] = measured.aperture_err[:, k, b]
    found |= {name: getattr(sky.truth, attribute) for name, attribute, _, _ in TRUTH}
    arrays = [
        value if isinstance(value := found[field.name], pa.Array) else pa.array(_whole(value), field.type)
        for field in columns
    ]
    return pa.record_batch(arrays, schema=columns)


def _whole(column: object) -> object:
    return np.ascontiguousarray(column) if isinstance(column, np.ndarray) else column
