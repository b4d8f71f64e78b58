"""Cutouts against astropy, bit for bit: made ones, real ones, and broken ones, which cost nobody else a stamp."""

import gzip
import io
import os
import random
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from schemas import avro, cutouts
from schemas.avro import Containers, Want
from schemas.cutouts import CutoutStatus
from schemas.cutouts.cards import number
from tests.cutout_files import by_astropy, card, extension, hdu, mutated, padded, rubin_like, ztf_like

DATA = Path(os.environ.get("SLIPHER_TEST_DATA", "/nowhere")) / "alerts"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="SLIPHER_TEST_DATA names no folder with alerts")
NUMBERS = np.random.default_rng(1)
SMALL = np.arange(6, dtype=np.float32).reshape(2, 3)


def same(found: np.ndarray, expected: np.ndarray | None) -> bool:
    """Same shape and same bits; no image where none is expected."""
    if expected is None:
        return found.shape == (0, 0)
    return found.shape == expected.shape and found.tobytes() == expected.tobytes()


def one(payload: bytes, **how: Any) -> cutouts.Cutouts:
    """A cutout, and two good ones beside it, which must be what they are."""
    good = rubin_like(np.random.default_rng(5))
    found = cutouts.decode_bytes([good, payload, gzip.compress(good)], **how)
    for i in (0, 2):
        assert found.status[i] == CutoutStatus.GOOD
        assert all(same(p.image(i), e) for p, e in zip(found[:3], by_astropy(good), strict=True))
    return found


def refused(payload: bytes, **how: Any) -> tuple[str, int]:
    found = one(payload, **how)
    assert all(planes.image(1).size == 0 for planes in found[:3])
    return CutoutStatus(found.status[1]).name, int(found.byte[1])


TYPES = st.sampled_from([np.float32, np.float64, np.uint8, np.int16, np.int32, np.int64])
SCALES = st.sampled_from(["1.0", "1", "2", "0.25", "-1.5E-3", "1D2", "3.0000000000000001", "1e300"])
ZEROS = st.sampled_from(["0.0", "0", "32768", "32768.0", "2147483648", "9223372036854775808", "-128", "-7.25", "+1.E5"])


@st.composite
def planes(draw: st.DrawFn) -> tuple[np.ndarray, list[bytes]]:
    """An image of any type and shape, and the cards that scale it."""
    shape = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    kind = draw(TYPES)
    bits = {4: np.uint32, 8: np.uint64, 1: np.uint8, 2: np.uint16}[np.dtype(kind).itemsize]
    data = draw(hnp.arrays(bits, shape)).view(kind)
    cards = [card("BSCALE", draw(SCALES), "scale")] if draw(st.booleans()) else []
    cards += [card("BZERO", draw(ZEROS))] if draw(st.booleans()) else []
    cards += [card("COMMENT"), card("NAXISX", "12"), card("HIERARCH")]
    return data, draw(st.permutations(cards))


@given(
    st.lists(
        st.tuples(planes(), st.one_of(st.none(), planes()), st.booleans(), st.integers(0, 9)), min_size=1, max_size=4
    )
)
@settings(max_examples=100, deadline=None)
def test_any_image_is_what_astropy_reads(images: list[Any]) -> None:
    files = []
    for (data, cards), psf, zipped, missing in images:
        file = hdu(data, *cards) + (extension(psf[0], "PSF", *psf[1]) if psf else b"")
        # the padding behind the last data may be missing
        last = psf[0] if psf else data
        file = file[: len(file) - min(missing, -last.nbytes % 2880)]
        files.append((file, zipped))
    found = cutouts.decode_bytes([gzip.compress(file) if zipped else file for file, zipped in files])
    assert found.status.tolist() == [CutoutStatus.GOOD] * len(files)
    for i, (file, _) in enumerate(files):
        for plane, expected in zip(found[:3], by_astropy(padded(file, b"\0")), strict=True):
            assert same(plane.image(i), expected)


def test_files_that_astropy_writes() -> None:
    from astropy.io import fits
    from astropy.nddata import CCDData, InverseVariance, StdDevUncertainty, VarianceUncertainty

    data = NUMBERS.normal(0, 30, (30, 28)).astype(np.float32)
    noise = NUMBERS.uniform(1, 9, data.shape).astype(np.float32)
    psf = NUMBERS.normal(0, 1, (41, 41))
    wanted = {StdDevUncertainty: noise * noise, VarianceUncertainty: noise, InverseVariance: np.float32(1) / noise}
    for kind, variance in wanted.items():
        for as_image in (False, True):
            file = io.BytesIO()
            ccd = CCDData(data, unit="nJy", uncertainty=kind(noise), psf=psf, mask=noise > 8)
            ccd.to_hdu(as_image_hdu=as_image).writeto(file) if not as_image else fits.HDUList(
                [fits.PrimaryHDU(), *ccd.to_hdu(as_image_hdu=True)]
            ).writeto(file)
            found = one(file.getvalue())
            assert found.status[1] == CutoutStatus.GOOD, found.why(1)
            assert found.unit[1] == b"nJy"
            assert same(found.pixels.image(1), data)
            assert same(found.variance.image(1), variance)
            assert same(found.psf.image(1), psf.astype(np.float32))
    for kind in (np.uint16, np.uint32, np.uint64, np.int8):
        data = NUMBERS.integers(np.iinfo(kind).min, np.iinfo(kind).max, (5, 7), kind, endpoint=True)
        file = io.BytesIO()
        fits.HDUList([fits.PrimaryHDU(data), fits.ImageHDU(data, name="OTHER")]).writeto(file)
        assert same(one(file.getvalue()).pixels.image(1), data.astype(np.float32))


def test_what_uncertainties_are_without_a_word_about_it() -> None:
    sigma = one(hdu(SMALL) + extension(SMALL, "UNCERT"))
    assert same(sigma.variance.image(1), SMALL * SMALL)
    for name in ("VARIANCE", "VAR"):
        assert same(one(hdu(SMALL) + extension(SMALL, name)).variance.image(1), SMALL)


def test_blank_is_nan_as_the_standard_has_it() -> None:
    """Here astropy differs: it does not mind BLANK = 0, nor BLANK of unsigned integers."""
    for blank, zero in ((0, 0), (-3, 0), (5, 32768)):
        data = np.array([[0, 1, -3], [5, 6, 0]], np.int16)
        found = one(hdu(data, card("BLANK", str(blank)), card("BZERO", str(zero)))).pixels.image(1)
        assert same(found, np.where(data == blank, np.nan, data.astype(np.float32) + zero).astype(np.float32))
    assert same(one(hdu(SMALL, card("BLANK", "1"))).pixels.image(1), SMALL)  # it has no meaning for floats


@pytest.mark.parametrize(
    ("file", "why", "byte"),
    [
        (b"\xff\xd8\xff\xe0 JFIF" * 20, "NOT_FITS", 0),
        (b"FITS", "NOT_FITS", 0),
        (hdu(SMALL, value="F"), "NOT_FITS", 0),
        (b"SIMPLE  =  T", "TRUNCATED", 12),
        (hdu(SMALL)[:200], "TRUNCATED", 200),
        (hdu(SMALL)[: 2880 + 23], "TRUNCATED", 2880 + 23),
        ((hdu(SMALL) + extension(SMALL, "PSF"))[: 2 * 2880 + 400], "TRUNCATED", 2 * 2880 + 400),
        (hdu(SMALL).replace(b"BITPIX", b"BITPIY"), "LACKS_CARD", 0),
        (hdu(SMALL).replace(b"NAXIS  ", b"NAXES  "), "LACKS_CARD", 0),
        (hdu(SMALL).replace(b"-32", b"-31"), "BITPIX", 0),
        (hdu(SMALL).replace(b"-32", b"3 2"), "NUMBER", 80),
        (hdu(SMALL, card("PCOUNT", "-1")), "NUMBER", 5 * 80),
        (hdu(SMALL, card("BZERO", "nan")), "NUMBER", 5 * 80),
        (hdu(SMALL, card("BSCALE", "'one'")), "NUMBER", 5 * 80),
        (hdu(SMALL, card("BLANK", "9223372036854775808")), "NUMBER", 5 * 80),
        (hdu(SMALL[None]), "AXES", 0),
        (hdu(SMALL[0]), "AXES", 0),
        (hdu(SMALL, axes=12), "AXES", 0),
        (hdu(SMALL) + extension(SMALL[0], "PSF"), "AXES", 2 * 2880),
        (hdu(np.zeros(0, np.float32)), "NO_IMAGE", -1),
        (hdu(SMALL, axes=3), "NO_IMAGE", -1),  # no NAXIS3: no data
        (hdu(SMALL) + extension(SMALL.T, "VAR"), "SHAPE", -1),
        (hdu(SMALL) + extension(SMALL, "UNCERT", card("UTYPE", "'Unknown'")), "UNCERTAINTY", 2 * 2880),
        (hdu(SMALL).replace(b"                   3", b" 1000000000000000000"), "NUMBER", 3 * 80),
        (hdu(SMALL, card("NAXIS1", "3")), "REPEATED", 5 * 80),
        (hdu(SMALL, card("BZERO", "1"), card("BZERO", "1")), "REPEATED", 6 * 80),
        (hdu(SMALL).replace(b"                   3", b"           250000000"), "TRUNCATED", 2 * 2880),
    ],
)
def test_a_bad_file_has_a_reason_and_costs_itself_alone(file: bytes, why: str, byte: int) -> None:
    assert refused(file) == (why, byte)
    assert refused(gzip.compress(file)) == (why, byte)


def test_gzip_that_is_fine_though_unusual() -> None:
    file = ztf_like(NUMBERS)
    several = gzip.compress(file[:2880]) + gzip.compress(file[2880:9000]) + gzip.compress(file[9000:])
    for payload in (
        several,
        gzip.compress(file) + bytes(7),
        gzip.compress(file, 0),
        gzip.compress(file) + gzip.compress(b""),
    ):
        assert same(one(payload).pixels.image(1), by_astropy(file)[0])


def test_gzip_that_is_bad() -> None:
    whole = gzip.compress(ztf_like(NUMBERS), mtime=0)
    wrong_check = whole[:-8] + bytes(4) + whole[-4:]
    lies = whole[:-4] + struct.pack("<I", 1 << 20)
    assert refused(wrong_check) == ("CHECKSUM", -1)
    assert refused(lies) == ("CHECKSUM", -1)
    for cut in (2, 3, 10, 17, 18, 100, len(whole) - 9, len(whole) - 1):
        assert refused(whole[:cut]) == ("GZIP", -1)
    assert refused(whole + b"more") == ("GZIP", -1)
    assert refused(whole[:40] + b"\xff" * 40 + whole[80:])[0] in ("GZIP", "CHECKSUM")
    assert refused(gzip.compress(b"") * 65) == ("GZIP", -1)


def test_a_bomb_does_not_go_off() -> None:
    most = 50_000
    deflater = zlib.compressobj(wbits=31)
    bomb = b"".join(deflater.compress(bytes(1 << 20)) for _ in range(64)) + deflater.flush()
    assert refused(bomb, most=most) == ("TOO_LARGE", -1)
    assert refused(bomb[:-4] + struct.pack("<I", 100), most=most) == ("TOO_LARGE", -1)
    file = rubin_like(NUMBERS)
    assert one(gzip.compress(file), most=len(file)).status[1] == CutoutStatus.GOOD
    assert refused(gzip.compress(file + b"x"), most=len(file)) == ("TOO_LARGE", -1)


@pytest.mark.parametrize(("text", "value"), [("1.5", 1.5), ("-2D3 / x", -2000.0), ("  7", 7.0), (".5", 0.5)])
def test_numbers_of_cards(text: str, value: float) -> None:
    assert number(card("BZERO", text)) == value


def test_what_is_no_number() -> None:
    assert [number(card("BZERO", text)) for text in ("nan", "inf", "1_0", "'1'", "T", "(1, 2)", "1 2")] == [None] * 7
    assert number(b"BZERO   =".ljust(80)) is None


SCHEMA = {
    "type": "record",
    "name": "Alert",
    "fields": [
        {"name": "before", "type": "string"},
        {"name": "stamp", "type": ["null", "bytes"]},
        {"name": "other", "type": {"type": "record", "name": "Cutout", "fields": [{"name": "data", "type": "bytes"}]}},
    ],
}


def test_cutouts_where_they_stand_in_their_messages() -> None:
    files = [ztf_like(NUMBERS, 48), rubin_like(NUMBERS), b"broken"]
    zipped = gzip.compress(files[0])
    records = [
        {"before": "a" * i, "stamp": stamp, "other": {"data": other}}
        for i, (stamp, other) in enumerate([(zipped, b""), (None, files[1]), (files[1], files[2]), (b"", files[0])])
    ]
    payloads = []
    for record in records:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, SCHEMA, record)
        payloads.append(out.getvalue())
    wants = [
        Want("stamp", "bytes"),
        Want("other.data", "bytes"),
        Want("none", "bytes", default=files[1].decode("latin1")),
    ]
    source = avro.buffers(payloads)
    columns = avro.compile_schema(SCHEMA, wants[:2]).run(source, 0).columns
    stamp, other = (cutouts.decode(source, columns[want.path]) for want in wants[:2])  # type: ignore[arg-type]
    names = [[CutoutStatus(code).name for code in found.status] for found in (stamp, other)]
    assert names == [["GOOD", "ABSENT", "GOOD", "ABSENT"], ["ABSENT", "GOOD", "NOT_FITS", "GOOD"]]
    assert stamp.pixels.height.tolist() == [48, 0, 30, 0]
    assert stamp.unit.tolist() == [b"DN", b"", b"nJy", b""]
    assert same(stamp.pixels.image(0), by_astropy(files[0])[0])
    assert same(stamp.variance.image(2), by_astropy(files[1])[1])
    assert same(other.pixels.image(3), by_astropy(files[0])[0])
    assert other.why(2) == "no FITS file: its first card is not SIMPLE = T; byte 0 of the file"
    lacking = cutouts.decode(source, avro.Spans(np.full(4, -1), np.full(4, len(files[1])), files[1]))
    assert lacking.status.tolist() == [CutoutStatus.GOOD] * 4
    assert same(lacking.psf.image(3), by_astropy(files[1])[2])


def test_no_cutouts_at_all() -> None:
    assert len(cutouts.decode_bytes([]).status) == 0
    found = cutouts.decode_bytes([None, b""])
    assert found.status.tolist() == [CutoutStatus.ABSENT] * 2
    assert found.why(0) == "the alert has no such cutout"


def test_more_gzips_than_are_held_at_once() -> None:
    files = [ztf_like(NUMBERS, 3 + i % 5, 4 + i % 3) for i in range(600)]
    found = cutouts.decode_bytes([gzip.compress(file, 1) if i % 7 else file for i, file in enumerate(files)])
    assert all(same(found.pixels.image(i), by_astropy(file)[0]) for i, file in enumerate(files))


@pytest.mark.parametrize("seed", range(4))
def test_mutations_are_refused_or_read_as_astropy_does(seed: int) -> None:
    rng, numbers = random.Random(seed), np.random.default_rng(seed)
    small = extension(np.arange(12, dtype=np.int16).reshape(3, 4), "PSF", card("BSCALE", "2.5"), card("BZERO", "1"))
    bases = [ztf_like(numbers, 5, 7), rubin_like(numbers, 4, 5), hdu(SMALL) + small]
    broken = [mutated(rng.choice(bases), rng) for _ in range(400)]
    again = [mutated(gzip.compress(rng.choice(bases)), rng) for _ in range(200)]
    found = cutouts.decode_bytes([piece for file in broken + again for piece in (bases[1], file)])
    assert (found.status[::2] == CutoutStatus.GOOD).all()
    compared = 0
    for i, file in enumerate(broken):
        if found.status[2 * i + 1] == CutoutStatus.GOOD:
            try:
                expected = by_astropy(file)
            except Exception:  # whatever astropy raises, it does not read this one
                continue
            if expected[0] is not None:
                assert same(found.pixels.image(2 * i + 1), expected[0]), file[:800]
                compared += 1
    assert compared > 50
    assert len(np.unique(found.status)) > 5


def test_nothing_is_read_beyond_a_file() -> None:
    code = [sys.executable, "-m", "tests.cutouts_guarded", "1000", "3"]
    done = subprocess.run(code, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    assert (done.returncode, done.stdout) == (0, "unharmed\n"), done.stderr


NAMES = ("cutoutScience", "cutoutTemplate", "cutoutDifference")


def real_cutouts(folder: str) -> list[bytes]:
    """Every cutout of every packet in a folder."""
    payloads = [file.read_bytes() for file in sorted((DATA / folder).glob("*.avro"))]
    containers = [payload for payload in payloads if payload.startswith(b"Obj\x01")]
    runs = []
    for path in ("{}", "{}.stampData", "value.{}"):  # a container that has it as something else is left
        wants = [Want(path.format(name), "bytes", default=None) for name in NAMES]
        some, _ = Containers(wants, 1 << 28, 10_000).read(containers)
        runs += [(part.program, part.buffers, part.start, part.exact) for part in some]
    for payload in payloads:
        if folder == "lsst_real" and payload.startswith(b"\0"):
            major, minor = divmod(struct.unpack(">I", payload[1:5])[0], 100)
            name = f"{major}/{minor}/lsst.v{major}_{minor}.alert.avsc"
            schema = fastavro.schema.load_schema(str(DATA / "schemas" / "lsst" / name))
            program = avro.compile_schema(schema, [Want(name, "bytes") for name in NAMES])
            runs.append((program, avro.buffers([payload]), 5, None))
    found: list[bytes] = []
    for program, source, start, exact in runs:
        decoded = program.run(source, start, exact)
        for column in decoded.columns.values():
            found += [b for b in avro.blobs(column, source, decoded.status == 0).to_pylist() if b]
    return found


@needs_data
@pytest.mark.parametrize("folder", ["ztf_real", "lsst_real", "other_surveys"])
def test_every_real_cutout_is_what_astropy_reads(folder: str) -> None:
    files = real_cutouts(folder)
    assert len(files) >= 3
    found = cutouts.decode_bytes(files)
    for i, payload in enumerate(files):
        file = gzip.decompress(payload) if payload.startswith(b"\x1f\x8b") else payload
        if file.startswith(b"\xff\xd8"):  # JPEG, in some
            assert found.status[i] == CutoutStatus.NOT_FITS
            continue
        assert found.status[i] == CutoutStatus.GOOD, found.why(i)
        for plane, expected in zip(found[:3], by_astropy(file), strict=True):
            assert same(plane.image(i), expected)
    assert (found.status == CutoutStatus.GOOD).sum() >= 3
    assert set(found.unit[found.status == 0].tolist()) <= {b"DN", b"nJy", b""}
