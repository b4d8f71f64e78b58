"""Refuses a column of a photometry table whose values cannot be what its name says: text, another unit, errors that are none.

Each check takes the name of the file, that of the column and its values, and raises `schemas.errors.UserError`: one sentence with
all three and what was expected. Ranges are generous: galaxies may be strange, units may not.
"""

from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np

from schemas.batch import Float64
from schemas.errors import UserError
from schemas.magnitudes import ZERO_POINT

ENOUGH = 20  # values before we dare to call a column something else than its name says
SENTINEL = 90.0  # magnitudes at or beyond +-this (99, -99, 999) say that there is none
MOST_SENTINELS = 4  # different ones in a column: more of them are fluxes
MAGNITUDES = (-5.0, 40.0)  # where the median of a band's magnitudes must lie; what few reach beyond 45 are fluxes too
NO_MAGNITUDE = 45.0
FAINTEST = 30.0  # AB: where the median flux is fainter in every band, the unit is larger than nJy
NO_ERROR = 10.0  # magnitudes that no median error reaches
REDSHIFT_LIMIT = 20.0
EBV = (-0.5, 10.0)  # E(B-V) below says that there is none; a median above is something else


def numbers(path: str, name: str, column: np.ndarray) -> Float64:
    """`column` as floating point, NaN where it holds nothing."""
    if column.dtype.kind in "iuf":
        return column.astype(np.float64)
    if column.dtype.kind == "O" and all(value is None or _is_number(value) for value in column):
        return np.array([np.nan if value is None else float(value) for value in column], np.float64)
    strange = [row for row, value in enumerate(column) if value is not None and not _is_number(value)]
    row = next((row for row in strange if not _reads_as_number(column[row])), strange[0])
    value = column[row].item() if isinstance(column[row], np.generic) else column[row]
    raise UserError(f"{path}: column {name} should hold numbers, it holds for example {value!r:.60} in row {row}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, Real | Decimal) and not isinstance(value, bool | np.bool_)


def _reads_as_number(value: Any) -> bool:
    """Whether a text is a number, so that it is not the one that makes its column text."""
    if not isinstance(value, str):
        return False
    try:
        float(value)
    except ValueError:
        return False
    return True


def magnitudes(path: str, name: str, value: Float64) -> None:
    """Refuse fluxes where magnitudes, sentinels among them, should be."""
    beyond = np.unique(value[np.isfinite(value) & (np.abs(value) >= SENTINEL)])
    if len(beyond) > MOST_SENTINELS:
        raise UserError(
            f"{path}: column {name} should hold magnitudes, but {len(beyond):,} different values lie beyond {SENTINEL:g}, "
            f"up to {beyond[-1]:.6g}: are these fluxes? Call it flux_..."
        )
    known = value[np.abs(value) < SENTINEL]
    if not len(known):
        return
    median, high = np.percentile(known, [50, 99])
    if not (MAGNITUDES[0] <= median <= MAGNITUDES[1] and high <= NO_MAGNITUDE):
        raise UserError(
            f"{path}: column {name} should hold magnitudes, but its median is {median:.6g} and 1 in 100 is above {high:.6g}: "
            "are these fluxes? Call it flux_..."
        )


def fluxes(path: str, columns: dict[str, Float64]) -> None:
    """Refuse magnitudes in a column of fluxes, and fluxes in another unit than nJy in all of `columns`.

    A table of few galaxies may have enough values in all its columns together.
    """
    known = {name: value[np.isfinite(value)] for name, value in columns.items()}
    groups = {f"column {name}": value for name, value in known.items()}
    if known and all(len(value) < ENOUGH for value in known.values()):
        groups = {f"columns {', '.join(known)}": np.concatenate(list(known.values()))}
    for which, value in groups.items():
        if len(value) < ENOUGH:
            continue
        low, high = np.percentile(value, [1, 99])
        if low > 5.0 and high < MAGNITUDES[1]:
            raise UserError(
                f"{path}: {which} should hold fluxes in nJy, but all is between {low:.4g} and {high:.4g}: "
                "are these magnitudes? Call it mag_..."
            )
    positive = {name: value[value > 0] for name, value in known.items()}
    median = {
        name: float(ZERO_POINT - 2.5 * np.log10(np.median(value)))
        for name, value in positive.items()
        if len(value) >= ENOUGH
    }
    if median and all(m > FAINTEST or m < MAGNITUDES[0] for m in median.values()):
        name = min(median, key=lambda name: abs(median[name] - FAINTEST))
        raise UserError(
            f"{path}: column {name} should hold fluxes in nJy, but its median would be a galaxy of {median[name]:.1f} mag (AB), "
            "and the other bands are no better: is it another unit (AB magnitude 31.4 is 1 nJy)?"
        )


def errors(path: str, name: str, value: Float64, magnitudes: bool) -> None:
    """Refuse a column of errors, of measured bands, in which none is one."""
    if len(value) < ENOUGH:
        return
    good = value[value > 0]
    want = f"errors in {'magnitudes' if magnitudes else 'the unit of the fluxes'}, above 0"
    if not len(good):
        raise UserError(f"{path}: column {name} should hold {want}, and none of its {len(value):,} values is.")
    if magnitudes and np.median(good) > NO_ERROR:
        raise UserError(f"{path}: column {name} should hold {want}, but its median is {np.median(good):.6g}.")


def redshifts(path: str, name: str, z: Float64, wanted: bool) -> Float64:
    """`z`, unless they reach where no galaxy is, or there is none although they are `wanted`."""
    if (z > REDSHIFT_LIMIT).any():
        raise UserError(
            f"{path}: column {name} should hold redshifts, but these redshifts reach {np.nanmax(z):.6g}; no galaxy is beyond "
            f"{REDSHIFT_LIMIT:g}."
        )
    if wanted and not (z >= 0).any():
        raise UserError(
            f"{path} has no galaxy with a redshift: none of the {len(z):,} values of column {name} is a number >= 0."
        )
    return z


def reddening(path: str, name: str, ebv: Float64) -> Float64:
    """E(B-V), NaN where a sentinel says that there is none."""
    known = ebv[ebv >= EBV[0]]
    if len(known) >= ENOUGH and np.median(known) > EBV[1]:
        raise UserError(
            f"{path}: column {name} should hold E(B-V) in magnitudes, but its median is {np.median(known):.6g}."
        )
    return np.where(ebv >= EBV[0], ebv, np.nan)
