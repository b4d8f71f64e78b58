"""FITS files written card by card, as no library would, and what astropy reads in them."""

import io
import random
import warnings
from typing import Any

import numpy as np

PLANE_NAMES = (("", "PRIMARY"), ("UNCERT", "VARIANCE", "VAR"), ("PSFIMAGE", "PSF"))


def card(key: str, value: str = "", comment: str = "") -> bytes:
    """80 bytes; `value` as it shall stand."""
    text = f"{key:8s}= {value}{' / ' + comment if comment else ''}" if value else key
    return text.encode().ljust(80)


def padded(data: bytes, by: bytes) -> bytes:
    return data + by * (-len(data) % 2880)


def hdu(
    data: Any, *cards: bytes, first: str = "SIMPLE", value: str = "                   T", axes: int | None = None
) -> bytes:
    """A header and its data, big-endian; the type of `data` says BITPIX."""
    array = np.asarray(data)
    bitpix = array.dtype.itemsize * (-8 if array.dtype.kind == "f" else 8)
    head = [card(first, value), card("BITPIX", f"{bitpix:20d}"), card("NAXIS", f"{axes or array.ndim:20d}")]
    head += [card(f"NAXIS{k + 1}", f"{size:20d}") for k, size in enumerate(reversed(array.shape))]
    raw = array.astype(array.dtype.newbyteorder(">")).tobytes()
    return padded(b"".join([*head, *cards, card("END")]), b" ") + padded(raw, b"\0")


def extension(data: Any, name: str, *cards: bytes) -> bytes:
    more = (card("PCOUNT", "0"), card("GCOUNT", "1"), card("EXTNAME", f"'{name:8s}'"), *cards)
    return hdu(data, *more, first="XTENSION", value="'IMAGE   '")


def ztf_like(rng: np.random.Generator, height: int = 63, width: int = 63) -> bytes:
    """As ZTF has them: SIMPLE not where it belongs, a NaN."""
    data = rng.normal(200, 20, (height, width)).astype(np.float32)
    data[0, 0] = np.nan
    return hdu(data, card("BUNIT", "'DN      '"), value=" T")


def rubin_like(rng: np.random.Generator, side: int = 30, psf: int = 41) -> bytes:
    """As Rubin has them: image, variances and PSF, with a position in the header."""
    data = rng.normal(0, 25, (side, side)).astype(np.float32)
    numbers = [card(f"CRVAL{k}", f"{rng.uniform(0, 90):20.13f}", "Coordinate value") for k in (1, 2)]
    return (
        hdu(data, card("EXTEND", f"{'T':>20s}"), card("BUNIT", "'nJy     '"), *numbers)
        + extension(np.full((side, side), 625, np.float32), "UNCERT", card("UTYPE", "'VarianceUncertainty'"))
        + extension(rng.normal(0, 1, (psf, psf)), "PSFIMAGE")
    )


def by_astropy(data: bytes) -> list[np.ndarray | None]:
    """Image, uncertainty and PSF as astropy reads them, rounded to float32."""
    from astropy.io import fits

    found: list[np.ndarray | None] = [None, None, None]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        with fits.open(io.BytesIO(data), ignore_missing_simple=True, memmap=False) as hdus:
            for part in hdus:
                plane = next((k for k, names in enumerate(PLANE_NAMES) if part.name in names), 0)
                if found[plane] is None and part.is_image and part.data is not None:
                    found[plane] = part.data.astype(np.float32)
    return found


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Bits turned, cut, spliced, cards exchanged; mostly in the headers, where it matters."""
    out = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(max(len(out), 1)) if rng.random() < 0.3 else rng.randrange(min(len(out), 800) or 1)
        way = rng.randrange(6)
        if way == 0 and out:
            out[at] ^= 1 << rng.randrange(8)
        elif way == 1 and out:
            out[at] = rng.choice(b"0123456789 -+./'T=EZ\0\xff")
        elif way == 2:
            del out[at : len(out) if rng.random() < 0.3 else at + rng.randrange(200)]
        elif way == 3:
            out[at:at] = out[: rng.randrange(200)]
        elif way == 4:
            one, other = (80 * rng.randrange(max(len(out) // 80, 1)) for _ in range(2))
            out[one : one + 80], out[other : other + 80] = out[other : other + 80], out[one : one + 80]
        else:
            line = rng.choice([b"NAXIS1", b"BITPIX", b"NAXIS", b"NAXIS2", b"BSCALE", b"BZERO", b"PCOUNT", b"BLANK"])
            at = 80 * (at // 80)
            out[at : at + 80] = card(
                line.decode(), str(rng.choice([0, 1, -1, 2, 3, 16, -64, 99999999999, 10**20, "x"]))
            )
    return bytes(out)
