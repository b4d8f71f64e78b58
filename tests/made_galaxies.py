"""Galaxies and messages for tests: drawn by hypothesis, or many at once from a generator."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from schemas.bands import band_set
from schemas.batch import Galaxies, Messages, Stamps


def messages(payloads: Sequence[bytes | None]) -> Messages:
    """One partition of `payloads`, from offset 0."""
    n = len(payloads)
    return Messages(list(payloads), np.zeros(n, np.int32), np.arange(n), np.zeros(n, np.int64), {0: n})


def galaxies(n: int, survey: str = "lsst", seed: int = 1) -> Galaxies:
    """`n` ordinary galaxies."""
    rng = np.random.default_rng(seed)
    bands = band_set(survey).bands
    shape = (n, len(bands))
    return Galaxies(
        bands=bands,
        survey=pa.array([survey] * n, pa.string()),
        object_id=pa.array([f"object-{i}" for i in range(n)], pa.string()),
        alert_id=pa.array([f"alert-{i}" for i in range(n)], pa.string()),
        ra=rng.uniform(0, 360, n),
        dec=rng.uniform(-90, 90, n),
        mjd=rng.uniform(61000, 61010, n),
        flux=rng.normal(300, 200, shape).astype(np.float32),
        flux_err=rng.uniform(1, 9, shape).astype(np.float32),
        band_state=rng.integers(0, 3, shape).astype(np.uint8),
        ebv=rng.uniform(0, 1, n).astype(np.float32),
        message=np.arange(n),
        row=np.zeros(n, np.int32),
    )


@st.composite
def drawn_galaxies(draw: st.DrawFn, survey: str = "lsst", max_size: int = 6) -> Galaxies:
    """Galaxies with every value the message can hold: NaN, infinities, negative fluxes, any text, with or without stamps."""
    n = draw(st.integers(0, max_size))
    bands = band_set(survey).bands
    shape = (n, len(bands))
    text = st.text(max_size=8)
    names = st.lists(st.text(min_size=1, max_size=12), min_size=n, max_size=n)
    single = hnp.arrays(np.float32, shape, elements=st.floats(width=32))
    stamps = None
    if n and draw(st.booleans()):
        blobs = st.lists(st.none() | st.binary(max_size=80), min_size=n, max_size=n)
        sizes = hnp.arrays(np.int32, n, elements=st.integers(-(2**31), 2**31 - 1))
        pixels = draw(blobs)
        if any(p is not None for p in pixels):
            stamps = Stamps(
                draw(sizes),
                draw(sizes),
                draw(hnp.arrays(np.float32, n, elements=st.floats(width=32))),
                pa.array(pixels, pa.large_binary()),
                pa.array(draw(blobs), pa.large_binary()),
            )
    return Galaxies(
        bands=bands,
        survey=pa.array([survey] * n, pa.string()),
        object_id=pa.array(draw(names), pa.string()),
        alert_id=pa.array(draw(st.lists(text, min_size=n, max_size=n)), pa.string()),
        ra=draw(hnp.arrays(np.float64, n, elements=st.floats(0, 360, exclude_max=True))),
        dec=draw(hnp.arrays(np.float64, n, elements=st.floats(-90, 90))),
        mjd=draw(hnp.arrays(np.float64, n, elements=st.floats())),
        flux=draw(single),
        flux_err=draw(single),
        band_state=draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, 2))),
        ebv=draw(hnp.arrays(np.float32, n, elements=st.floats(width=32))),
        message=np.arange(n),
        row=np.zeros(n, np.int32),
        stamps=stamps,
    )


def assert_same(one: Galaxies, other: Galaxies) -> None:
    """Equal in every value of every galaxy (NaN equals NaN); where the galaxies came from may differ."""
    assert one.bands == other.bands
    for name in ("survey", "object_id", "alert_id"):
        assert getattr(one, name).to_pylist() == getattr(other, name).to_pylist(), name
    for name in ("ra", "dec", "mjd", "flux", "flux_err", "band_state", "ebv"):
        a, b = getattr(one, name), getattr(other, name)
        assert a.dtype == b.dtype, name
        np.testing.assert_array_equal(a, b, name)
    assert (one.stamps is None) == (other.stamps is None)
    if one.stamps is not None and other.stamps is not None:
        for name in ("height", "width", "scale"):
            np.testing.assert_array_equal(getattr(one.stamps, name), getattr(other.stamps, name), name)
        assert one.stamps.pixels.to_pylist() == other.stamps.pixels.to_pylist()
        assert one.stamps.variance.to_pylist() == other.stamps.variance.to_pylist()


def changed(given: Galaxies, **columns: object) -> Galaxies:
    """`given` with whole columns replaced."""
    return replace(given, **columns)


def with_value(given: Galaxies, i: int, **values: object) -> Galaxies:
    """`given` with single values of galaxy `i` replaced."""
    columns: dict[str, object] = {}
    for name, value in values.items():
        column = getattr(given, name)
        if isinstance(column, np.ndarray):
            columns[name] = column.copy()
            columns[name][i] = value  # type: ignore[index]
        else:
            texts = column.to_pylist()
            texts[i] = value
            columns[name] = pa.array(texts, pa.string())
    return changed(given, **columns)
