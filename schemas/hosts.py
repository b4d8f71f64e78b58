"""Which of a packet's candidates is the host galaxy, and its magnitudes as fluxes."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.batch import BandState, Float32, Float64, UInt8
from schemas.flags import Flag
from schemas.magnitudes import POGSON, flux_from_magnitude
from schemas.packets import Host, NominalErrors, Packet

HOST_DISTANCE = 0.1  # deg: a host's position farther from its source is none
MAGNITUDE_ERRORS = (0.0, 90.0)  # an error outside is a sentinel

Columns = dict[str, Any]  # float or int arrays, by path


class Hosts(NamedTuple):
    """The hosts of n sources.

    Attributes
    ----------
    flux, flux_err
        nJy, float32[n, B]; NaN where not observed.
    band_state
        BandState, uint8[n, B].
    ra, dec
        Of the host where the packet has it, else of the source; deg, float64[n].
    flags
        schemas.flags.Flag, uint32[n].
    """

    flux: Float32
    flux_err: Float32
    band_state: UInt8
    ra: Float64
    dec: Float64
    flags: npt.NDArray[np.uint32]


def hosts(packet: Packet, columns: Columns, bands: int, ra: Float64, dec: Float64) -> Hosts:
    """The host of each of n sources, or none.

    Parameters
    ----------
    packet
        Names candidates and sentinels.
    columns
        Its paths, each [n]; NaN = null or not sent. Of ``fixed``, 1 where the record is there.
    bands
        B.
    ra, dec
        Of the sources, deg, float64[n].
    """
    n = len(ra)
    flags = np.zeros(n, np.uint32)
    found = Hosts(
        np.full((n, bands), np.nan, np.float32),
        np.full((n, bands), np.nan, np.float32),
        np.full((n, bands), BandState.NOT_OBSERVED, np.uint8),
        ra.copy(),
        dec.copy(),
        flags,
    )
    moving = _moving(packet, columns, n)
    flags[moving] |= np.uint32(Flag.SOLAR_SYSTEM)
    free = ~moving
    if packet.hosts:
        chosen, star_like, ambiguous = _choose(packet, columns, n)
        chosen[moving] = -1
        flags[star_like & free] |= np.uint32(Flag.STAR_LIKE)
        flags[ambiguous & free] |= np.uint32(Flag.HOST_AMBIGUOUS)
    else:
        chosen = np.full(n, -1)
    for k, host in enumerate(packet.hosts):
        _fill(found, np.flatnonzero(chosen == k), host, packet, columns)
    flags[chosen < 0] |= np.uint32(Flag.NO_HOST_PHOTOMETRY)
    return found


def _moving(packet: Packet, columns: Columns, n: int) -> npt.NDArray[np.bool_]:
    moving = np.zeros(n, bool)
    if packet.fixed:
        moving |= columns[packet.fixed] == 0
    if packet.moving is not None:
        path, nearest = packet.moving
        distance = columns[path]
        moving |= (distance >= 0) & (distance < nearest)
    return moving


def _choose(
    packet: Packet, columns: Columns, n: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Index of the host or -1; whether a star is what changed; whether another galaxy could be the host, each [n]."""
    choice = packet.choice
    rank = np.full((len(packet.hosts), n), np.inf)  # of the galaxies: the lowest is the host
    star_like = np.zeros(n, bool)
    for k, host in enumerate(packet.hosts):
        seen = np.any([_observed(packet, columns[path]) for path in host.magnitude if path], axis=0)
        separation = np.full(n, float(k))
        if host.separation:
            separation = np.asarray(columns[host.separation], np.float64)
            seen &= (separation >= 0) & (separation <= choice.radius)
        galaxy = seen.copy()
        if host.star:
            probability = columns[host.star]
            galaxy &= (probability >= 0) & (probability < choice.star)
            star_like |= seen & (probability >= choice.star) & (separation < choice.star_radius)
        rank[k] = np.where(galaxy, separation, np.inf)
    galaxies = np.isfinite(rank).sum(axis=0)
    chosen = np.where((galaxies > 0) & ~star_like, np.argmin(rank, axis=0), -1)
    return chosen, star_like, (galaxies > 1) & ~star_like


def _fill(found: Hosts, rows: npt.NDArray[np.int64], host: Host, packet: Packet, columns: Columns) -> None:
    if not len(rows):
        return
    for b, (path, path_err) in enumerate(zip(host.magnitude, host.magnitude_err, strict=True)):
        if not path:
            continue
        observed = _observed(packet, columns[path][rows])
        at = rows[observed]
        magnitude = np.asarray(columns[path][at], np.float64)
        if path_err:
            error = np.asarray(columns[path_err][at], np.float64)
            error = np.where((error > MAGNITUDE_ERRORS[0]) & (error < MAGNITUDE_ERRORS[1]), error, np.nan)
        elif packet.errors is not None:
            error = nominal_error(magnitude, packet.errors, b)
            found.flags[at] |= np.uint32(Flag.NOMINAL_ERRORS)
        else:
            raise ValueError(f"packet {packet.name}: {path} has neither an error nor a nominal one")
        found.flux[at, b], found.flux_err[at, b] = flux_from_magnitude(magnitude, error)
        found.band_state[at, b] = BandState.MEASURED
    if host.ra and host.dec:
        ra, dec = (np.asarray(columns[path][rows], np.float64) for path in (host.ra, host.dec))
        good = (ra >= 0) & (ra <= 360) & (dec >= -90) & (dec <= 90)
        good &= _near(ra, dec, found.ra[rows], found.dec[rows])
        found.ra[rows[good]], found.dec[rows[good]] = ra[good], dec[good]


def _near(ra: Float64, dec: Float64, ra_0: Float64, dec_0: Float64) -> npt.NDArray[np.bool_]:
    """Whether positions, deg, are those of one place of the sky: most of ELAsTiCC's hosts stand at 0, 0."""
    east = ((ra - ra_0 + 180) % 360 - 180) * np.cos(np.deg2rad(dec_0))
    return np.asarray(np.hypot(east, dec - dec_0) < HOST_DISTANCE)


def _observed(packet: Packet, magnitude: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
    low, high = packet.plausible
    return np.asarray((magnitude > low) & (magnitude < high))  # false for NaN


def nominal_error(magnitude: Float64, errors: NominalErrors, band: int) -> Float64:
    """The error of `magnitude`, mag, by ``NominalErrors``."""
    noise = POGSON * 0.2 * 10.0 ** (0.4 * (magnitude - errors.depth[band]))
    return np.asarray(np.hypot(errors.floor, noise), np.float64)
