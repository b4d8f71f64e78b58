"""Cutouts to float32 arrays, beside astropy; and these made ready for a network, beside NumPy. One thread, CPU time."""

import gzip
import io
import os
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import Result, middle
from models.images.stretch import stretched
from schemas import avro, cutouts
from schemas.avro import Containers, Want
from schemas.batch import Float32
from schemas.cutouts import CutoutStatus

BATCH = 480  # stamps a call: those of 160 alerts
PEER_BATCH = 60  # astropy reads one after the other: more make it no faster
NAMES = ("cutoutScience", "cutoutTemplate", "cutoutDifference")
SIDE, BANDS, SOFTENING = 32, 3, np.float32(30.0)
_RUBIN = 0  # a byte that begins Rubin's packets, before a schema's id of four


def run(quick: bool) -> list[Result]:
    """All cases, ours and the peers' in turn."""
    repeats = 3 if quick else 15
    results = []
    for survey, read in (("ZTF", _astropy_gzip), ("LSST", _astropy_planes)):
        for origin, stamps in (("made", made(survey)), ("real", _real(survey))):
            if not stamps:
                continue
            some = (stamps * (BATCH // len(stamps) + 1))[:BATCH]
            _check(some[:PEER_BATCH], read)
            work = {"slipher": _call(cutouts.decode_bytes, some), "astropy": _each(read, some[:PEER_BATCH])}
            case = f"{survey} stamps, {origin}: {len(stamps)}, {sum(map(len, stamps)) / len(stamps) / 1000:.0f} kB each"
            results.append(_compared(case, work, {"slipher": BATCH, "astropy": PEER_BATCH}, repeats))
    found = cutouts.decode_bytes((made("ZTF") * (BATCH // 40 + 1))[:BATCH]).pixels
    bands = [found] * BANDS
    work = {"slipher": lambda: stretched(bands, SIDE, SOFTENING), "NumPy": lambda: _stretched_by_numpy(bands)}
    case = f"63x63 cut to {SIDE}x{SIDE}, masked, arcsinh, {BANDS} bands"
    results.append(_compared(case, work, dict.fromkeys(work, BATCH), repeats))
    return results


def _compared(case: str, work: dict[str, Callable[[], Any]], counts: dict[str, int], repeats: int) -> Result:
    """Microseconds of CPU a stamp, alternately; the first round warms up."""
    costs: dict[str, list[float]] = {who: [] for who in work}
    for _ in range(repeats + 1):
        for who, each in work.items():
            began = time.thread_time()
            each()
            costs[who].append((time.thread_time() - began) / counts[who] * 1e6)
    told = {who: middle(values[1:]) for who, values in costs.items()}
    ours, spread = told.pop("slipher")
    peers, spreads = ({who: value[k] for who, value in told.items()} for k in (0, 1))
    return Result(case, ours, "us/stamp", peers, spread, higher_is_better=False, peer_spreads=spreads)


def _call(function: Callable[[Any], Any], given: Any) -> Callable[[], Any]:
    return lambda: function(given)


def _each(function: Callable[[bytes], Any], given: Sequence[bytes]) -> Callable[[], Any]:
    return lambda: [function(one) for one in given]


def _astropy_gzip(stamp: bytes) -> list[Float32]:
    return _astropy_planes(gzip.decompress(stamp))


def _astropy_planes(stamp: bytes) -> list[Float32]:
    """As people read them, and to float32 of the machine, which a network wants."""
    from astropy.io import fits

    with fits.open(io.BytesIO(stamp), ignore_missing_simple=True) as hdus:
        return [hdu.data.astype(np.float32) for hdu in hdus]


def _check(stamps: Sequence[bytes], read: Callable[[bytes], list[Float32]]) -> None:
    """Both give the same, bit for bit; astropy's warnings are silenced from here on."""
    warnings.simplefilter("ignore")
    found = cutouts.decode_bytes(stamps)
    for i, stamp in enumerate(stamps):
        for planes, expected in zip(found[:3], read(stamp), strict=False):
            if planes.image(i).tobytes() != expected.tobytes():
                raise RuntimeError(f"stamp {i} is not what astropy reads: {found.why(i)}")


def _stretched_by_numpy(bands: Sequence[cutouts.Planes]) -> Float32:
    out = np.empty((len(bands[0].start), len(bands), SIDE, SIDE), np.float32)
    for b, planes in enumerate(bands):
        images = planes.values.reshape(-1, 63, 63)
        first = 63 // 2 - SIDE // 2
        cut = images[:, first : first + SIDE, first : first + SIDE]
        out[:, b] = np.arcsinh(np.where(np.isfinite(cut), cut, np.float32(0)) / SOFTENING)
    return out


def made(survey: str) -> list[bytes]:
    """40 stamps as the survey writes them, of a point source in noise."""
    from astropy.io import fits
    from astropy.nddata import CCDData, VarianceUncertainty
    from astropy.wcs import WCS

    rng = np.random.default_rng(1)
    found = []
    for _ in range(40):
        side = 63 if survey == "ZTF" else 30
        away = np.hypot(*(np.indices((side, side)) - side // 2))
        data = (rng.normal(200, 15, (side, side)) + 2000 * np.exp(-(away**2) / 4)).astype(np.float32)
        file = io.BytesIO()
        if survey == "ZTF":
            data[rng.random(data.shape) < 0.001] = np.nan
            hdu = fits.PrimaryHDU(data)
            hdu.header["BUNIT"] = "DN"
            hdu.writeto(file)
            found.append(gzip.compress(b"SIMPLE  =  T".ljust(80) + file.getvalue()[80:]))
        else:
            frame = WCS(naxis=2)
            frame.wcs.ctype = ["RA---TAN", "DEC--TAN"]
            frame.wcs.crval = rng.uniform(0, 90, 2)
            psf = rng.normal(0, 1, (41, 41))
            noise = VarianceUncertainty(np.full_like(data, 225))
            CCDData(data, uncertainty=noise, unit="nJy", wcs=frame, psf=psf).to_hdu().writeto(file)
            found.append(file.getvalue())
    return found


def _real(survey: str) -> list[bytes]:
    """Those of the packets in the folder that SLIPHER_TEST_DATA names, none without it."""
    folder = Path(os.environ.get("SLIPHER_TEST_DATA", "/nowhere")) / "alerts"
    payloads = [file.read_bytes() for file in sorted((folder / f"{survey.lower()}_real").glob("*.avro"))]
    boxes = [payload for payload in payloads if payload.startswith(b"Obj\x01")]
    bare = [payload for payload in payloads if payload[:1] == bytes([_RUBIN])]
    found: list[bytes] = []
    for path in ("{}.stampData", "{}", "value.{}"):
        wants = [Want(path.format(name), "bytes", default=None) for name in NAMES]
        for part in Containers(wants, 1 << 28, 10_000).read(boxes)[0]:
            found += _blobs(part.program.run(part.buffers, part.start, part.exact), part.buffers)
    for payload in bare:
        major, minor = divmod(int.from_bytes(payload[1:5], "big"), 100)
        place = folder / "schemas" / "lsst" / str(major) / str(minor) / f"lsst.v{major}_{minor}.alert.avsc"
        source = avro.buffers([payload])
        program = avro.compile_schema(_schema(place), [Want(name, "bytes", default=None) for name in NAMES])
        found += _blobs(program.run(source, 5), source)
    good = cutouts.decode_bytes(found).status == CutoutStatus.GOOD
    return [stamp for stamp, fine in zip(found, good, strict=True) if fine]


def _schema(path: Path) -> Any:
    from fastavro.schema import load_schema

    return load_schema(str(path))


def _blobs(decoded: avro.Decoded, source: avro.Buffers) -> list[bytes]:
    columns = [column for column in decoded.columns.values() if isinstance(column, avro.Spans)]
    return [blob for column in columns for blob in avro.blobs(column, source, decoded.status == 0).to_pylist() if blob]
