"""The naive twin of the packet decoder: one record of an Avro library at a time, as dictionaries, in plain Python."""

import math
from typing import Any, NamedTuple

from schemas.flags import Flag
from schemas.packets import Packet

NAN = math.nan


class Row(NamedTuple):
    """What a record gives."""

    object_id: str
    alert_id: str
    ra: float
    dec: float
    mjd: float
    flux: list[float]
    flux_err: list[float]
    ebv: float
    flags: int


def at(record: Any, path: str) -> Any:
    """The value at `path`; None where it is null, below a null, or not there."""
    for name in path.split("."):
        if not isinstance(record, dict) or name not in record:
            return None
        record = record[name]
    return record


def has(record: Any, path: str) -> bool:
    """Whether the schema has `path`, as far as the record shows: a null on the way hides it."""
    for name in path.split("."):
        if record is None:
            return True
        if name not in record:
            return False
        record = record[name]
    return True


def number(record: Any, path: str) -> float:
    value = at(record, path)
    return NAN if value is None else float(value)


def row(packet: Packet, record: dict[str, Any]) -> Row:
    """The host galaxy of `record`, or a row that says why there is none."""
    flags = 0
    ra, dec = number(record, packet.ra), number(record, packet.dec)
    moving = bool(packet.fixed) and has(record, packet.fixed) and at(record, packet.fixed) is None
    if packet.moving is not None and 0 <= number(record, packet.moving[0]) < packet.moving[1]:
        moving = True
    bands = len(packet.hosts[0].magnitude) if packet.hosts else 6
    flux, error = [NAN] * bands, [NAN] * bands
    galaxies = []
    star = False
    for k, host in enumerate(packet.hosts):
        separation = number(record, host.separation) if host.separation else float(k)
        seen = any(path and plausible(packet, number(record, path)) for path in host.magnitude)
        if host.separation and not 0 <= separation <= packet.choice.radius:
            seen = False
        score = number(record, host.star) if host.star else 0.0
        if seen and 0 <= score < packet.choice.star:
            galaxies.append((separation, k))
        if seen and score >= packet.choice.star and separation < packet.choice.star_radius:
            star = True
    if moving:
        flags |= Flag.SOLAR_SYSTEM
    elif star:
        flags |= Flag.STAR_LIKE
    elif len(galaxies) > 1:
        flags |= Flag.HOST_AMBIGUOUS
    if moving or star or not galaxies:
        flags |= Flag.NO_HOST_PHOTOMETRY
    else:
        host = packet.hosts[min(galaxies)[1]]
        for b, path in enumerate(host.magnitude):
            magnitude = number(record, path) if path else NAN
            if not plausible(packet, magnitude):
                continue
            if host.magnitude_err[b]:
                sigma = number(record, host.magnitude_err[b])
                sigma = sigma if 0 < sigma < 90 else NAN
            else:
                assert packet.errors is not None
                noise = 1.0857362 * 0.2 * 10 ** (0.4 * (magnitude - packet.errors.depth[b]))
                sigma = math.sqrt(packet.errors.floor**2 + noise**2)
                flags |= Flag.NOMINAL_ERRORS
            flux[b] = 10 ** (0.4 * (31.4 - magnitude))
            error[b] = flux[b] * sigma / 1.0857362
        if host.ra and 0 <= number(record, host.ra) <= 360 and -90 <= number(record, host.dec) <= 90:
            east = (number(record, host.ra) - ra + 180) % 360 - 180
            apart = math.hypot(east * math.cos(math.radians(dec)), number(record, host.dec) - dec)
            if apart < 0.1:  # most of ELAsTiCC's hosts stand at 0, 0
                ra, dec = number(record, host.ra), number(record, host.dec)
    ebv = number(record, packet.ebv) if packet.ebv else NAN
    names = [at(record, name.path) for name in packet.object_id]
    object_id = next(
        (str(name) for name in names if name not in (None, "") and (isinstance(name, str) or name > 0)), ""
    )
    alert_id = at(record, packet.alert_id.path)
    return Row(
        object_id,
        "" if alert_id is None else str(alert_id),
        ra,
        dec,
        number(record, packet.time) + packet.epoch,
        flux,
        error,
        ebv if ebv >= 0 else NAN,
        int(flags),
    )


def plausible(packet: Packet, magnitude: float) -> bool:
    return packet.plausible[0] < magnitude < packet.plausible[1]
