"""Finds a survey's photometry among the columns of a table: fluxes or magnitudes, redshifts, dust, names, positions.

For each band b, first hit wins: ``flux_b`` and ``flux_err_b`` in nJy, or ``mag_b`` with ``err_b``, ``mag_err_b`` or
``magerr_b``, or ``mag_b_lsst`` with ``mag_err_b_lsst`` (`lsst` standing for the survey's name), AB magnitudes. A name is first
looked for as it stands, then whatever its case (FITS tables shout). A column that says its unit is converted.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from schemas import column_checks, stamp_columns, table_metadata, tables
from schemas.bands import BAND_SETS, BandSet
from schemas.batch import BandState, Float32, Float64, Galaxies, Stamps, UInt8
from schemas.errors import UserError
from schemas.magnitudes import ZERO_POINT, flux_from_magnitude

NJY = {  # nJy in one of these; a nanomaggy is a flux of AB magnitude 22.5
    "njy": 1.0,
    "ujy": 1e3,
    "µjy": 1e3,
    "mjy": 1e6,
    "jy": 1e9,
    "nanomaggy": 10 ** (0.4 * (ZERO_POINT - 22.5)),
    "nanomaggies": 10 ** (0.4 * (ZERO_POINT - 22.5)),
    "nmgy": 10 ** (0.4 * (ZERO_POINT - 22.5)),
    "mgy": 10 ** (0.4 * ZERO_POINT),
}
MAGNITUDE_UNITS = ("mag", "mag(ab)", "abmag")

REDSHIFT = ("redshift", "z", "z_spec", "specz", "z_true")
EBV = ("ebv", "ebv_sfd", "e_bv")
OBJECT_ID = ("object_id", "objectId", "id")
RA = ("ra", "coord_ra")
DEC = ("dec", "coord_dec")


@dataclass(frozen=True, eq=False)
class PhotometryTable:
    """n galaxies in the bands of a survey, in its order.

    Attributes
    ----------
    flux, flux_err
        nJy, float32[n, B]; NaN where the band is not measured.
    band_state
        `BandState`, uint8[n, B].
    ebv
        E(B-V), mag, float32[n]; NaN = unknown.
    z
        Redshifts, float64[n]; NaN = unknown.
    object_id
        Names as text, [n]; row numbers if the table has none.
    ra, dec
        Degrees, float64[n]; NaN = unknown.
    stamps
        Cut-outs; None where the table has none, or they were not read.
    """

    flux: Float32
    flux_err: Float32
    band_state: UInt8
    ebv: Float32
    z: Float64
    object_id: list[str]
    ra: Float64
    dec: Float64
    stamps: Stamps | None = None

    def __len__(self) -> int:
        """Galaxies."""
        return len(self.ebv)

    def with_redshift(self) -> "PhotometryTable":
        """The galaxies whose redshift is a number >= 0.

        Raises
        ------
        schemas.errors.UserError
            If there is none.
        """
        if not (self.z >= 0).any():
            raise UserError("The table has no galaxy with a redshift.")
        return self.take(np.flatnonzero(self.z >= 0))

    def take(self, rows: np.ndarray) -> "PhotometryTable":
        """The galaxies `rows`, int[k], in that order."""
        return PhotometryTable(
            self.flux[rows],
            self.flux_err[rows],
            self.band_state[rows],
            self.ebv[rows],
            self.z[rows],
            [self.object_id[row] for row in rows],
            self.ra[rows],
            self.dec[rows],
            None if self.stamps is None else stamp_columns.take(self.stamps, rows),
        )

    def only(self, seen: np.ndarray) -> "PhotometryTable":
        """The same galaxies as if only the bands `seen`, bool[B], had been observed."""
        return replace(self, band_state=np.where(seen, self.band_state, np.uint8(BandState.NOT_OBSERVED)))

    def galaxies(self, bands: tuple[str, ...], survey: str) -> Galaxies:
        """As a model takes them: one message each, at a place and time that are not known."""
        n = len(self)
        empty = pa.array([""] * n, pa.string())
        return Galaxies(
            bands=tuple(bands),
            survey=pa.array([survey] * n, pa.string()),
            object_id=pa.array(self.object_id, pa.string()),
            alert_id=empty,
            ra=self.ra,
            dec=self.dec,
            mjd=np.full(n, np.nan),
            flux=self.flux,
            flux_err=self.flux_err,
            band_state=self.band_state,
            ebv=self.ebv,
            message=np.arange(n),
            row=np.zeros(n, np.int32),
            stamps=self.stamps,
        )


def read(
    path: str | Path,
    bands: BandSet,
    *,
    want_redshift: bool = False,
    missing: BandState = BandState.NON_DETECTED,
    stamps: bool = False,
) -> PhotometryTable:
    """The photometry of the table at `path`: Parquet, CSV, Feather, HDF5 or FITS, see `schemas.tables`; rest as `find`.

    With `stamps`, the stamps too, where it has some.
    """
    return find(tables.read(path, stamps=stamps), bands, str(path), want_redshift=want_redshift, missing=missing)


def find(
    columns: tables.Columns,
    bands: BandSet,
    path: str,
    *,
    want_redshift: bool = False,
    missing: BandState = BandState.NON_DETECTED,
) -> PhotometryTable:
    """The photometry among `columns`.

    Parameters
    ----------
    columns
        As `schemas.tables` gives them.
    bands
        The survey's bands.
    path
        What errors call the table.
    want_redshift
        A table without redshifts is an error.
    missing
        What a magnitude of 99, -99 or NaN, or a flux of NaN, says of its band. An infinite flux is a bad measurement.

    Raises
    ------
    schemas.errors.UserError
        If a column is missing, holds text where numbers are wanted, magnitudes where fluxes are (or the reverse), or another
        unit or survey than wanted.
    """
    _check_survey(path, columns, bands)
    n = len(next(iter(columns.values())))
    shape = (n, len(bands.bands))
    fluxes: dict[str, Float64] = {}  # by the name of their column, nJy
    flux, flux_err = np.full(shape, np.nan, np.float32), np.full(shape, np.nan, np.float32)
    state = np.full(shape, missing, np.uint8)
    for b, band in enumerate(bands.bands):
        value_name, error_name, magnitudes = _band_columns(path, columns, bands, band)
        unit, error_unit = (_unit(path, columns, name, magnitudes) for name in (value_name, error_name))
        value = unit * column_checks.numbers(path, value_name, columns[value_name])
        error = error_unit * column_checks.numbers(path, error_name, columns[error_name])
        if magnitudes:
            column_checks.magnitudes(path, value_name, value)
        none = ~np.isfinite(value) | (np.abs(value) >= column_checks.SENTINEL) if magnitudes else np.isnan(value)
        column_checks.errors(path, error_name, error[~none], magnitudes)
        if magnitudes:
            value, error = flux_from_magnitude(np.where(none, np.nan, value), error)
        else:
            fluxes[value_name] = value
        measured = ~none
        state[measured, b] = BandState.MEASURED
        with np.errstate(over="ignore"):  # a number no float32 holds becomes infinite, and the band a bad one
            flux[measured, b], flux_err[measured, b] = value[measured], error[measured]
    column_checks.fluxes(path, fluxes)
    unknown = np.full(n, np.nan)
    z = _redshifts(path, columns, want_redshift)
    z = unknown if z is None else z
    ra, dec = (unknown if (column := _first(path, columns, names)) is None else column for names in (RA, DEC))
    ebv = _reddening(path, columns, unknown)
    return PhotometryTable(
        flux, flux_err, state, ebv.astype(np.float32), z, _names(columns, n), ra, dec, columns.stamps
    )


def _band_columns(path: str, columns: tables.Columns, bands: BandSet, band: str) -> tuple[str, str, bool]:
    """Names of a band's value and error columns, and whether they are magnitudes."""
    pairs = [
        (f"flux_{band}", (f"flux_err_{band}", f"fluxerr_{band}"), False),
        (f"mag_{band}", (f"err_{band}", f"mag_err_{band}", f"magerr_{band}"), True),
        (f"mag_{band}_{bands.survey}", (f"mag_err_{band}_{bands.survey}",), True),
    ]
    for value, errors, magnitudes in pairs:
        held = _held(columns, (value,))
        if held is not None:
            error = _held(columns, errors)
            if error is not None:
                return held, error, magnitudes
            raise UserError(
                f"{path} has column {held} but no error for it: want {' or '.join(errors)}; found {_listing(columns)}."
            )
    raise UserError(
        f"{path} has no photometry in band {band} of survey {bands.survey} ({' '.join(bands.bands)}): "
        f"want {' or '.join(value for value, _, _ in pairs)}; found {_listing(columns)}.{_other_survey(columns, bands)}"
    )


def _held(columns: tables.Columns, names: tuple[str, ...]) -> str | None:
    """The first of `names` that is a column, or else the first that is one but for its case."""
    folded = {name.lower(): name for name in reversed(columns)}
    exact = next((name for name in names if name in columns), None)
    return exact or next((folded[name.lower()] for name in names if name.lower() in folded), None)


def _other_survey(columns: tables.Columns, bands: BandSet) -> str:
    """A sentence, where the columns bear another survey's name."""
    found = {survey for survey in BAND_SETS if any(name.lower().endswith(f"_{survey}") for name in columns)}
    others = sorted(found - {bands.survey})
    return f" These columns are of survey {' and '.join(others)}, not {bands.survey}." if others else ""


def _check_survey(path: str, columns: tables.Columns, bands: BandSet) -> None:
    """A column ``survey``, and the table's metadata, must say what is wanted."""
    table_metadata.check_survey(path, columns.about, bands)
    column = columns.get("survey")
    if column is None or column.dtype.kind != "O":
        return
    others = sorted({str(value) for value in column if value is not None and str(value).lower() != bands.survey})
    if others:
        raise UserError(
            f"{path}: column survey says {', '.join(others[:3])}, and survey {bands.survey} "
            f"with bands {' '.join(bands.bands)} is wanted."
        )


def _unit(path: str, columns: tables.Columns, name: str, magnitudes: bool) -> float:
    """What to multiply a column with to get nJy or magnitudes; 1 where it does not say its unit."""
    unit = columns.units.get(name, "").strip()
    plain = unit.lower().replace("μ", "µ").replace(" ", "")
    if not plain or plain == "dimensionless" or (magnitudes and plain in MAGNITUDE_UNITS):
        return 1.0
    if not magnitudes and plain in NJY and unit != "MJy":
        return NJY[plain]
    want = "magnitudes (mag)" if magnitudes else "fluxes in nJy, uJy, mJy, Jy or nanomaggies"
    raise UserError(f"{path}: column {name} should hold {want}, and says its unit is {unit}.")


def _redshifts(path: str, columns: tables.Columns, wanted: bool) -> Float64 | None:
    name = _held(columns, REDSHIFT)
    if name is not None:
        return column_checks.redshifts(path, name, column_checks.numbers(path, name, columns[name]), wanted)
    if wanted:
        raise UserError(
            f"{path} has no column of redshifts: want one of {', '.join(REDSHIFT)}; found {_listing(columns)}."
        )
    return None


def _reddening(path: str, columns: tables.Columns, unknown: Float64) -> Float64:
    name = _held(columns, EBV)
    if name is None:
        return unknown
    return column_checks.reddening(path, name, column_checks.numbers(path, name, columns[name]))


def _first(path: str, columns: tables.Columns, names: tuple[str, ...]) -> Float64 | None:
    name = _held(columns, names)
    return None if name is None else column_checks.numbers(path, name, columns[name])


def _names(columns: tables.Columns, n: int) -> list[str]:
    name = _held(columns, OBJECT_ID)
    return [str(k) for k in range(n)] if name is None else [str(value) for value in columns[name]]


def _listing(columns: tables.Columns) -> str:
    names = list(columns)
    return ", ".join(names[:30]) + (f" and {len(names) - 30} more" if len(names) > 30 else "")
