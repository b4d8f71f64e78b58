"""An inspected message as plain values: what `slipher inspect --json` writes, and what the view for people draws."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from models.photometry import MagnitudeSystem, photometry
from schemas.bands import band_set
from schemas.batch import BandState, Galaxies, Reason
from schemas.flags import Flag, names
from schemas.inspection.inspect import Inspection
from schemas.magnitudes import magnitude_from_flux
from schemas.night import night_name, rollover, utc_mjd
from streamer.peek import Peeked

_MJD_0 = datetime(1858, 11, 17, tzinfo=UTC)


def described(found: Inspection, name: str, place: Peeked | None = None) -> dict[str, Any]:
    """`found` as JSON values; NaN is None.

    Parameters
    ----------
    found
        The message.
    name
        Of its file or topic.
    place
        Where Kafka has it; None = it is a file.
    """
    payload, around, guess = found.payload, found.anatomy, found.guess
    out: dict[str, Any] = {"source": name, "bytes": None if payload is None else len(payload)}
    if place is not None:
        out |= {
            "partition": place.partition,
            "offset": place.offset,
            "timestamp_ms": place.timestamp_ms,
            "partition_begin": place.begin,
            "partition_end": place.end,
        }
    out["framing"] = {
        "name": around.framing or None,
        "looks_like": around.guess or None,
        "codec": around.codec or None,
        "blocks": around.blocks,
        "records": around.records,
        "note": around.note or None,
    }
    out["schema"] = {
        "id": around.schema_id,
        "name": around.name or None,
        "version": around.version or None,
        "fields": list(around.fields),
    }
    out["survey"] = None
    if guess is not None:
        fields = guess.fields
        out["survey"] = {
            "alerts": guess.survey.alerts,
            "bands_of": guess.survey.survey,
            "by": guess.by or None,
            "hosts": guess.survey.packet is None or bool(guess.survey.packet.hosts),
            "found": list(fields.found),
            "missing": fields.missing,
            "needed": fields.needed,
        }
    out["rows"] = _rows(found)
    refused = found.refusals
    out["refused"] = [
        {
            "row": int(refused.row[k]),
            "reason": Reason(int(refused.reason[k])).name,
            "text": refused.text[k],
            "byte": int(refused.byte[k]),
        }
        for k in range(len(refused.text))
    ]
    out["verdict"] = "refused" if out["refused"] else "galaxy"
    return out


def flags_of(found: Inspection) -> np.ndarray:
    """The flags that each galaxy's row would have whatever the model, `Flag`, uint32[n]."""
    galaxies = found.galaxies
    bands = band_set(str(galaxies.survey[0].as_py())) if len(galaxies) else None
    if bands is None:
        return np.empty(0, np.uint32)
    n_bands = len(bands.bands)
    system = MagnitudeSystem(np.ones(n_bands), np.array(bands.law("SF11")), bands.bands.index(bands.reference))
    seen = photometry(galaxies.flux, galaxies.flux_err, galaxies.band_state, galaxies.ebv, system)
    flags = seen.flags | np.where(found.bad_time, np.uint32(Flag.BAD_EVENT_TIME), np.uint32(0))
    return np.asarray(flags if galaxies.flags is None else flags | galaxies.flags, np.uint32)


def _rows(found: Inspection) -> list[dict[str, Any]]:
    galaxies, guess = found.galaxies, found.guess
    if guess is None or not len(galaxies):
        return []
    scale = rollover(guess.survey.packet.name if guess.survey.packet else guess.survey.survey).scale
    flags = flags_of(found)
    flux, error = galaxies.flux.astype(np.float64), galaxies.flux_err.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        magnitude, magnitude_err = magnitude_from_flux(flux, error)
    rows = []
    for i in range(len(galaxies)):
        mjd = float(galaxies.mjd[i])
        rows.append(
            {
                "row": int(galaxies.row[i]),
                "object_id": galaxies.object_id[i].as_py(),
                "alert_id": galaxies.alert_id[i].as_py(),
                "ra": _number(galaxies.ra[i]),
                "dec": _number(galaxies.dec[i]),
                "mjd": _number(mjd),
                "time_scale": scale,
                "utc": _utc(mjd, scale),
                "night": night_name(int(found.night[i])),
                "ebv": _number(galaxies.ebv[i]),
                "bands": {
                    band: {
                        "state": BandState(int(galaxies.band_state[i, b])).name,
                        "flux": _number(flux[i, b]),
                        "flux_err": _number(error[i, b]),
                        "mag": _number(magnitude[i, b]),
                        "mag_err": _number(magnitude_err[i, b]),
                    }
                    for b, band in enumerate(galaxies.bands)
                },
                "flags": names(int(flags[i])),
                "cutouts": {name: None if data is None else len(data) for name, data in found.cutouts[i].items()},
                "stamp": _stamp(galaxies, i),
            }
        )
    return rows


def _stamp(galaxies: Galaxies, i: int) -> dict[str, Any] | None:
    """Size of a native stamp."""
    if galaxies.stamps is None or galaxies.stamps.pixels[i].as_py() is None:
        return None
    stamps = galaxies.stamps
    return {"height": int(stamps.height[i]), "width": int(stamps.width[i]), "scale": _number(stamps.scale[i])}


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _utc(mjd: float, scale: Any) -> str | None:
    """ISO time; None where the MJD is no date."""
    try:
        when = _MJD_0 + timedelta(days=float(utc_mjd(np.array([mjd]), scale)[0]))
    except (OverflowError, ValueError):
        return None
    return when.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"
