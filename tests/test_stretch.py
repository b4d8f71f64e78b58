"""Images for a network against a few lines of NumPy: cut and filled up about the object, masked, arcsinh-scaled."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from models.images import stretch
from models.images.stretch import stretched
from schemas import cutouts
from schemas.avro import Containers, Want
from schemas.cutouts import CutoutStatus, Planes

DATA = Path(os.environ.get("SLIPHER_TEST_DATA", "/nowhere")) / "alerts" / "ztf_real"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="SLIPHER_TEST_DATA names no folder with ZTF's alerts")
ANY = st.floats(width=32, allow_nan=True, allow_infinity=True)


LARGEST = float(np.finfo(np.float32).max)  # a ratio beyond is taken for this


def planes(images: list[np.ndarray]) -> Planes:
    """Images one after the other, with a gap before each that nobody may read."""
    gap = np.full(3, 1e30, np.float32)
    parts = [part for image in images for part in (gap, image.astype(np.float32).ravel())]
    ends = np.cumsum([len(part) for part in parts])
    return Planes(
        np.concatenate([*parts, gap]),
        ends[::2].astype(np.int64),
        np.array([image.shape[0] for image in images], np.int32),
        np.array([image.shape[1] for image in images], np.int32),
    )


def naive(image: np.ndarray, size: int, softening: float, noise: np.ndarray | None, centre: Any) -> tuple[Any, int]:
    out = np.zeros((size, size))
    masked = size * size
    row, column = (image.shape[0] // 2, image.shape[1] // 2) if centre is None else centre
    for y in range(size):
        for x in range(size):
            v, u = y + row - size // 2, x + column - size // 2
            if not (0 <= v < image.shape[0] and 0 <= u < image.shape[1]) or not np.isfinite(image[v, u]):
                continue
            if noise is not None and not (np.isfinite(noise[v, u]) and noise[v, u] > 0):
                continue
            out[y, x] = np.arcsinh(np.clip(float(image[v, u]) / softening, -LARGEST, LARGEST))
            masked -= 1
    return out, masked


@st.composite
def objects(draw: st.DrawFn) -> Any:
    n, bands, size = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 12))
    shapes = [draw(st.tuples(st.integers(0, 11), st.integers(0, 11))) for _ in range(n)]
    shapes = [shape if 0 not in shape else (0, 0) for shape in shapes]

    def images() -> list[list[np.ndarray]]:
        return [[draw(hnp.arrays(np.float32, shape, elements=ANY)) for shape in shapes] for _ in range(bands)]

    softening = draw(hnp.arrays(np.float32, (n, bands), elements=st.floats(2**-10, 1024, width=32)))
    noise = images() if draw(st.booleans()) else None
    if noise:
        for band in noise:
            band[0] = band[0] if draw(st.booleans()) else np.zeros((0, 0), np.float32)
    centre = draw(hnp.arrays(np.int64, (n, 2), elements=st.integers(-9, 20))) if draw(st.booleans()) else None
    return images(), size, softening, noise, centre


@given(objects())
@settings(max_examples=200, deadline=None)
def test_kernel_is_its_naive_twin(given: Any) -> None:
    images, size, softening, noise, centre = given
    variance = None if noise is None else [planes(band) for band in noise]
    found = stretched([planes(band) for band in images], size, softening, variance, centre)
    assert found.images.shape == (len(softening), len(images), size, size)
    assert found.images.dtype == np.float32
    for b, band in enumerate(images):
        for i, image in enumerate(band):
            other = noise[b][i] if noise and noise[b][i].size else None
            about = None if centre is None else centre[i]
            expected, masked = naive(image, size, float(softening[i, b]), other, about)
            assert found.masked[i, b] == masked
            np.testing.assert_allclose(found.images[i, b], expected, rtol=1e-6, atol=1e-37)


def test_arcsinh_of_every_size_of_number() -> None:
    rng = np.random.default_rng(3)
    x = (10 ** rng.uniform(-37, 38.5, 200_000)).astype(np.float32) * rng.choice([-1, 1], 200_000).astype(np.float32)
    edges = np.array([0, -0.0, 2**24 - 1, 2**24, 2**24 + 2, np.finfo(np.float32).max, 0.36, 0.37, 1], np.float32)
    x = np.concatenate([x, edges, np.linspace(-3, 3, 100_001, dtype=np.float32)])
    found = stretched([planes([x[None, :]])], 1, 1.0, centre=[[0, len(x) // 2]]).images  # through the door: one pixel
    assert found[0, 0, 0, 0] == pytest.approx(np.arcsinh(float(x[len(x) // 2])), rel=5e-7)
    out = x.copy()
    stretch._scale(out, np.float32(1.0))
    expected = np.arcsinh(x.astype(np.float64))
    assert (np.abs(out - expected) <= 5e-7 * np.abs(expected)).all()
    assert (np.signbit(out) == np.signbit(x)).all()


def test_the_object_is_in_the_middle() -> None:
    """Of stamps of any size, and of those that a chip's edge clipped where the caller says where it is."""
    for height, width, size in ((63, 63, 32), (63, 63, 64), (30, 30, 32), (30, 30, 31), (31, 30, 8)):
        image = np.zeros((height, width), np.float32)
        image[height // 2, width // 2] = 7
        found = stretched([planes([image])], size, 1.0).images[0, 0]
        assert np.unravel_index(found.argmax(), found.shape) == (size // 2, size // 2)
    clipped = np.zeros((48, 63), np.float32)
    clipped[16, 31] = 7  # ypos = 16.5: rows below the chip are missing
    found = stretched([planes([clipped])], 32, 1.0, centre=[[min(31, round(16.5 - 1)), 31]])
    assert np.unravel_index(found.images[0, 0].argmax(), (32, 32)) == (16, 16)
    assert found.masked.tolist() == [[0]]


@needs_data
def test_where_the_object_is_in_clipped_cutouts_of_ztf() -> None:
    """What differs from the template is brightest where `stretched` says that the object is: at most a pixel away."""
    wants = [Want("cutoutDifference.stampData", "bytes"), Want("candidate.xpos", "f8"), Want("candidate.ypos", "f8")]
    seen = 0
    for part in Containers(wants, 1 << 28, 10_000).read([f.read_bytes() for f in sorted(DATA.glob("*.avro"))])[0]:
        columns = part.program.run(part.buffers, part.start, part.exact).columns
        stamps, x, y = (columns[want.path] for want in wants)
        found = cutouts.decode(part.buffers, stamps)  # type: ignore[arg-type]
        size = np.minimum(found.pixels.height, found.pixels.width)
        clipped = np.flatnonzero((found.status == CutoutStatus.GOOD) & (size < 63))
        centre = np.minimum(31, np.round(np.stack([y, x], 1) - 1)).astype(np.int64)  # type: ignore[list-item]
        images = stretched([found.pixels], 11, 1.0, centre=centre).images[:, 0]
        for i in clipped.tolist():
            row, column = np.unravel_index(np.abs(images[i]).argmax(), (11, 11))
            assert max(abs(row - 5), abs(column - 5)) <= 1
            seen += 1
    assert seen > 0


def test_an_object_without_a_cutout_is_all_masked() -> None:
    found = stretched([planes([np.zeros((0, 0)), np.ones((3, 3))])], 3, 1.0)
    assert found.masked.tolist() == [[9], [0]]
    assert not found.images[0].any()


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"bands": []}, "at least one"),
        ({"size": 0}, "at least one"),
        ({"softening": [1.0, 2.0, 3.0]}, "softenings of shape"),
        ({"softening": 0.0}, "not positive and finite"),
        ({"softening": np.inf}, "not positive and finite"),
        ({"variance": []}, "variances of 0 bands"),
        ({"variance": [planes([np.ones((2, 2))] * 2)] * 2}, "other shapes"),
        ({"bands": [planes([np.ones((2, 2))]), planes([np.ones((2, 2))] * 2)]}, "bands of 1 and of 2"),
        ({"centre": [[1, 1]]}, "centres of shape"),
    ],
)
def test_what_does_not_fit_is_said(how: dict[str, Any], sentence: str) -> None:
    two = planes([np.ones((2, 3))] * 2)
    with pytest.raises(ValueError, match=sentence):
        stretched(**{"bands": [two, two], "size": 4, "softening": 1.0, **how})
