"""Lean networks by kernels, without torch: against a few lines of NumPy in double precision, and what a worker does with them."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from models import bundle as bundles
from models.images import engine, sight
from models.images.architecture import Architecture
from models.images.dense import applied, dense, gelu, softmax
from models.images.kernels_engine import COUNT, KernelEngine
from models.images.lean_shape import LeanShape, shape
from schemas.errors import UserError
from tests.image_bundle import random_bundle, random_tensors

POINTS = 41
Tensors = dict[str, np.ndarray]


def made(
    sees: str, bands: int, size: int, count: int = 1, n: int = 19
) -> tuple[LeanShape, list[Tensors], np.ndarray, np.ndarray]:
    rng, of = np.random.default_rng(size), Architecture("lean", sees, bands, size, POINTS)
    stamps = rng.normal(rng.normal(0, 3, (n, bands, 1, 1)), 3, (n, bands, size, size)).astype(np.float32)
    columns = rng.normal(0, 1, (n, of.columns.stop - of.columns.start)).astype(np.float32)
    return shape(of), [random_tensors(shape(of), rng) for _ in range(count)], stamps, columns


# -- the network, as its definition has it -----------------------------------------------------------------------------


def convolution(x: np.ndarray, tensors: Tensors, name: str) -> np.ndarray:
    """Of [n, C, H, W], with batch normalisation and PReLU."""
    weight = tensors[f"{name}.convolution.weight"].astype(np.float64)
    kernel, half, out = weight.shape[2], weight.shape[2] // 2, 0.0
    wide = np.pad(x, ((0, 0), (0, 0), (half, half), (half, half)))
    for v in range(kernel):
        for u in range(kernel):
            part = wide[:, :, v : v + x.shape[2], u : u + x.shape[3]]
            out = out + np.einsum("nchw,oc->nohw", part, weight[:, :, v, u], optimize=True)
    names = ("normalise.running_mean", "normalise.running_var", "normalise.weight", "normalise.bias", "activate.weight")
    mean, variance, scale, shift, slope = (tensors[f"{name}.{one}"].astype(np.float64)[:, None, None] for one in names)
    out = (out - mean) / np.sqrt(variance + 1e-5) * scale + shift
    return np.where(out > 0, out, slope * out)


def shrunk(x: np.ndarray, factor: int) -> np.ndarray:
    height, width = x.shape[2] // factor, x.shape[3] // factor
    whole = x[:, :, : height * factor, : width * factor]
    return whole.reshape(*x.shape[:2], height, factor, width, factor).mean((3, 5))


def around(x: np.ndarray) -> np.ndarray:
    out = np.empty_like(x)
    for y in range(x.shape[2]):
        for k in range(x.shape[3]):
            out[:, :, y, k] = x[:, :, max(y - 1, 0) : y + 2, max(k - 1, 0) : k + 2].mean((2, 3))
    return out


def layer(x: np.ndarray, tensors: Tensors, name: str) -> np.ndarray:
    return x @ tensors[f"{name}.weight"].T.astype(np.float64) + tensors[f"{name}.bias"]


def naive_gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def naive(of: LeanShape, tensors: Tensors, stamps: np.ndarray, columns: np.ndarray) -> np.ndarray:
    seen = []
    if of.bands:
        x = shrunk(convolution(np.arcsinh(stamps.astype(np.float64)), tensors, "stem"), 4 if of.size > 40 else 2)
        for k in range(5):
            one, three, five, mean = np.split(
                convolution(x, tensors, f"blocks.{k}.enter"), np.cumsum(of.blocks[k].parts)[:3], 1
            )
            three = convolution(three, tensors, f"blocks.{k}.three")
            five = convolution(convolution(five, tensors, f"blocks.{k}.five_a"), tensors, f"blocks.{k}.five_b")
            x = np.concatenate([one, three, five, around(mean)], 1)
            x = shrunk(x, 2) if k in (1, 3) else x
        seen.append(x.mean((2, 3)))
    if of.features:
        beside = naive_gelu(layer(columns.astype(np.float64), tensors, "beside.0"))
        seen.append(naive_gelu(layer(beside, tensors, "beside.2")))
    x = naive_gelu(layer(np.concatenate(seen, 1), tensors, "head.0"))
    x = np.exp(layer(naive_gelu(layer(x, tensors, "head.3")), tensors, "head.6"))
    return x / x.sum(1, keepdims=True)


@pytest.mark.parametrize(
    ("sees", "bands", "size", "count"),
    [("mixed", 4, 16, 2), ("image", 1, 19, 1), ("mixed", 3, 43, 1), ("magnitudes", 5, 16, 2)],
)
def test_kernels_say_what_the_definition_says(sees: str, bands: int, size: int, count: int) -> None:
    of, tensors, stamps, columns = made(sees, bands, size, count)
    want = np.mean([naive(of, one, stamps, columns) for one in tensors], 0)
    assert np.ptp(want, 0).max() > 0.01  # answers differ from galaxy to galaxy
    one = KernelEngine(of, tensors, threads=1)
    for n in (19, 16, 1, 0):
        found = one.probabilities(stamps[:n], columns[:n])
        assert (found.shape, found.dtype) == ((n, POINTS), np.float32)
        assert np.abs(np.cumsum(found - want[:n], 1)).max(initial=0.0) < 1e-5
    halves = stamps.astype(np.float16)
    np.testing.assert_array_equal(
        one.probabilities(halves, columns), one.probabilities(halves.astype(np.float32), columns)
    )


def test_a_galaxy_is_answered_alone() -> None:
    """To the last bit, wherever it lies in a batch, and whatever lay there before."""
    of, tensors, stamps, columns = made("mixed", 2, 20, 2, n=37)
    one = KernelEngine(of, tensors, threads=1)
    whole = one.probabilities(stamps, columns)
    np.testing.assert_array_equal(one.probabilities(stamps[::-1], columns[::-1])[::-1], whole)
    np.testing.assert_array_equal(one.probabilities(stamps[5:6], columns[5:6]), whole[5:6])


def test_in_threads() -> None:
    """Threads of one question, and several questions at once, change nothing."""
    of, tensors, stamps, columns = made("mixed", 4, 16, 2, n=37)
    many = [np.roll(stamps, k, 0) for k in range(6)]
    one, two = (KernelEngine(of, tensors, threads=threads) for threads in (1, 2))
    want = [one.probabilities(some, columns) for some in many]
    with ThreadPoolExecutor(3) as pool:
        for found, expected in zip(pool.map(lambda some: one.probabilities(some, columns), many), want, strict=True):
            np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(two.probabilities(stamps, columns), want[0])


def test_dense_layers_and_what_is_between_them() -> None:
    rng = np.random.default_rng(1)
    x = (10.0 * rng.normal(0, 1, (11, 16))).astype(np.float32)
    for outputs in (1, 8, 13):
        weight, bias = rng.normal(0, 1, (outputs, 11)), rng.normal(0, 1, outputs)
        np.testing.assert_allclose(applied(dense(weight, bias), x), weight @ x + bias[:, None], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(gelu(x), naive_gelu(x.astype(np.float64)), rtol=1e-4, atol=1e-6)
    sharp = softmax(x * np.float32(100.0))  # exp of it alone would be too large
    np.testing.assert_allclose(sharp.sum(0), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(sharp.argmax(0), x.argmax(0))


# -- a bundle ----------------------------------------------------------------------------------------------------------


def changed_bundle(name: str, tensor: np.ndarray | None) -> bundles.Bundle:
    whole = random_bundle(2)
    tensors = {key: value for key, value in whole.tensors.items() if key != name} | (
        {} if tensor is None else {name: tensor}
    )
    return bundles.seal({key: value for key, value in whole.card.items() if key != "sha256"}, tensors)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("network.1.head.0.weight", None),
        ("network.0.blocks.2.three.normalise.running_var", None),
        ("network.0.stem.convolution.weight", np.ones((32, 4, 5, 5), np.float32)),
        ("network.1.head.9.weight", np.ones((3, 3), np.float32)),
    ],
)
def test_tensors_that_are_not_the_networks_are_refused(
    name: str, tensor: np.ndarray | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sight, "vectors", lambda: True)
    with pytest.raises(UserError, match="does not hold whole networks"):
        engine.choose(changed_bundle(name, tensor), "cpu")


def test_what_only_training_counts_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sight, "vectors", lambda: True)
    assert engine.choose(changed_bundle(f"network.0.stem.normalise.{COUNT}", None), "cpu").why == "asked for"


def test_one_thread_is_what_a_worker_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sight, "vectors", lambda: True)
    one = engine.choose(random_bundle(), "cpu").engine
    assert isinstance(one, KernelEngine)
    one.threads = 8
    engine.one_thread(one)
    assert one.threads == 1


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # an import of it fails
from models.images import sight
sight.vectors = lambda: {vectors}
import numpy as np
from pathlib import Path
from models.estimator import load
from schemas.errors import UserError
from streamer.settings import backfill_settings
from streamer.gpus import gpu_of_each
from streamer.workers import kind_of_worker
from tests.image_bundle import with_stamps
try:
    model = load({path!r}, {device!r})
    assert kind_of_worker(backfill_settings(catalog=Path("nowhere"), model=Path({path!r})), model.kind) == "images"
    found = model.estimate(with_stamps(20))
    assert np.isfinite(found.pdf).all()
    print(model.engine.engine.name, "-", model.engine.why)
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("device", "vectors", "said"),
    [
        ("cpu", True, "kernels cpu float32 - asked for"),
        ("auto", True, "kernels cpu float32 - torch is not installed: kernels of our own on the CPU"),
        ("cpu", False, "The device cpu needs torch"),
        ("auto", False, "holds no ONNX graphs: it needs torch"),
    ],
)
def test_without_torch(device: str, vectors: bool, said: str, tmp_path: Path) -> None:
    path = tmp_path / "images.slipher"
    bundles.write(random_bundle(), path)
    code = WITHOUT_TORCH.format(path=str(path), device=device, vectors=vectors)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said in done.stdout


@pytest.mark.parametrize(
    ("name", "features", "wide"),
    [
        ("x86-64-v3", "", False),
        ("x86-64-v4", "", True),
        ("skylake-avx512", None, True),
        (None, "+sse,+avx2", False),
        ("generic", "+avx2,+avx512f", True),
    ],
)
def test_kernels_that_are_compiled_for_others_have_their_registers(
    name: str | None, features: str | None, wide: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("numba.config.CPU_NAME", name)
    monkeypatch.setattr("numba.config.CPU_FEATURES", features)
    assert sight.vectors() == wide
