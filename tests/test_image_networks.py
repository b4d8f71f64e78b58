"""Image networks: that they learn, go on from a checkpoint, and say the same on every engine. These tests need torch."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: image networks are not tested here (make tools)")

import models.images.train as training  # noqa: E402
from models import bundle as bundles  # noqa: E402 - what needs torch comes after the question whether it is there
from models import estimator, metrics  # noqa: E402
from models import grid as grids  # noqa: E402
from models.bundle import Bundle  # noqa: E402
from models.images import checkpoint, engine, fit, inputs, sight  # noqa: E402
from models.images.architecture import Architecture, network  # noqa: E402
from models.images.estimator import ImageEstimator  # noqa: E402
from models.images.gallery import Gallery  # noqa: E402
from models.images.kernels_engine import KernelEngine  # noqa: E402
from models.images.lean import folded  # noqa: E402
from models.images.lean_shape import shape  # noqa: E402
from models.images.prelu import Prelu  # noqa: E402
from models.images.settings import ImageSettings  # noqa: E402
from models.images.train import Examples, train  # noqa: E402
from schemas.bands import band_set  # noqa: E402
from schemas.batch import Stamps  # noqa: E402
from schemas.errors import UserError  # noqa: E402
from schemas.flags import Flag  # noqa: E402
from tests.image_bundle import random_bundle, telling  # noqa: E402
from tests.made_galaxies import changed, galaxies  # noqa: E402

pytestmark = pytest.mark.timeout(300)  # the first test trains networks: half a minute where nothing else runs
BANDS = band_set("euclid")
SIZE, POINTS = 16, 41
needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="torch sees no CUDA GPU: the CUDA paths are not tested here"
)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def gallery(n: int, seed: int) -> Gallery:
    """Galaxies whose colours and sizes tell their redshift, with noise."""
    rng = np.random.default_rng(seed)
    z, total, stamps = telling(rng, n, SIZE)
    flux = (total + rng.normal(0, 100, total.shape)).astype(np.float32)
    return Gallery(
        stamps,
        np.full_like(stamps, 9.0),
        flux,
        np.full_like(flux, 100.0),
        np.ones((n, 4), np.uint8),
        rng.uniform(0, 0.1, n).astype(np.float32),
        z,
    )


@pytest.fixture(scope="module")
def trained() -> Bundle:
    settings = ImageSettings(epochs=8, batch=24, checks=6, seed=2)
    return fit.fit(gallery(240, 1), BANDS, nets=2, settings=settings, z_max=1.0, points=POINTS)


def as_galaxies(given: Gallery) -> object:
    """The same as messages have it."""
    n = len(given.z)
    side = np.full(n, SIZE, np.int32)
    stamps = Stamps(
        side,
        side,
        np.full(n, 0.1, np.float32),
        pa.array([one.tobytes() for one in given.stamps], pa.large_binary()),
        pa.array([one.tobytes() for one in given.variance], pa.large_binary()),  # type: ignore[union-attr]
    )
    return changed(
        galaxies(n, "euclid"),
        flux=given.flux,
        flux_err=given.flux_err,
        band_state=given.band_state,
        ebv=given.ebv,
        stamps=stamps,
    )


def test_networks_learn(trained: Bundle) -> None:
    unseen = gallery(150, 9)
    model = ImageEstimator(trained, "cpu")
    found = model.estimate(as_galaxies(unseen))  # type: ignore[arg-type]
    guess = metrics.trainz(gallery(240, 1).z, model.grid)
    crps = metrics.pdf_scores(found.pdf, model.grid, unseen.z)[1].mean()
    blind = metrics.pdf_scores(np.broadcast_to(guess, found.pdf.shape), model.grid, unseen.z)[1].mean()
    assert crps < 0.7 * blind
    np.testing.assert_allclose(found.pdf @ grids.trapezoid(model.grid), 1.0, rtol=1e-4)
    curve = [check[3] for check in trained.card["training"]["checks"][0]]
    assert min(curve) < curve[0]


def test_a_bundle_is_safetensors_and_comes_back_the_same(trained: Bundle, tmp_path: Path) -> None:
    bundles.write(trained, tmp_path / "images.slipher")
    again = estimator.load(tmp_path / "images.slipher")
    assert again.kind == "images"
    assert again.sha256 == trained.card["sha256"]
    some = as_galaxies(gallery(20, 4))
    np.testing.assert_array_equal(
        again.estimate(some).pdf,  # type: ignore[arg-type]
        ImageEstimator(trained).estimate(some).pdf,  # type: ignore[arg-type]
    )


def test_rows_without_stamps_or_with_bad_ones_are_rows_with_a_flag(trained: Bundle) -> None:
    some = as_galaxies(gallery(6, 5))
    pixels = some.stamps.pixels.to_pylist()  # type: ignore[attr-defined]
    pixels[1], pixels[2] = None, pixels[2][:-4]
    pixels[3] = np.full((4, SIZE, SIZE), np.nan, "<f4").tobytes()
    stamps = some.stamps._replace(pixels=pa.array(pixels, pa.large_binary()))  # type: ignore[attr-defined]
    state = np.ones((6, 4), np.uint8)
    state[4] = 0
    some = changed(some, stamps=stamps, band_state=state)  # type: ignore[arg-type]
    found = ImageEstimator(trained, "cpu").estimate(some)
    np.testing.assert_array_equal(np.isnan(found.pdf[:, 0]), [False, True, True, True, True, False])
    assert found.flags[1] & Flag.NO_STAMP
    assert found.flags[2] & Flag.BAD_STAMP
    assert found.flags[3] & Flag.BAD_STAMP
    assert found.flags[4] & Flag.NO_PHOTOMETRY
    assert not found.flags[0] & (Flag.NO_STAMP | Flag.BAD_STAMP)
    assert (found.band_mask == [15, 0, 0, 0, 0, 15]).all()
    bare = ImageEstimator(trained, "cpu").estimate(changed(some, stamps=None))
    assert (bare.flags & Flag.NO_STAMP).all()


def test_a_missing_band_is_no_trouble(trained: Bundle) -> None:
    given = gallery(100, 6)
    state = given.band_state.copy()
    state[:, 2] = 0
    lacking = given._replace(band_state=state)
    model = ImageEstimator(trained, "cpu")
    found = model.estimate(as_galaxies(lacking))  # type: ignore[arg-type]
    assert np.isfinite(found.pdf).all()
    crps = metrics.pdf_scores(found.pdf, model.grid, given.z)[1].mean()
    blind = metrics.pdf_scores(np.full_like(found.pdf, 1.0), model.grid, given.z)[1].mean()
    assert crps < blind


def test_the_messages_and_the_training_set_are_prepared_alike(trained: Bundle) -> None:
    given = gallery(30, 7)
    model = ImageEstimator(trained, "cpu")
    np.testing.assert_allclose(
        model.estimate(as_galaxies(given)).pdf,  # type: ignore[arg-type]
        model.pdfs(given)[1],
        rtol=0.01,  # the training set is float16
        atol=0.01,
    )


@pytest.mark.parametrize(
    ("kind", "sees"), [("lean", "mixed"), ("lean", "image"), ("lean", "magnitudes"), ("pasquet", "image")]
)
def test_a_folded_network_says_the_same(kind: str, sees: str) -> None:
    of = Architecture(kind, sees, 4, SIZE, POINTS)
    torch.manual_seed(3)
    net = network(of)
    stamps = torch.randn(16, 4, SIZE, SIZE) * 20
    beside = torch.randn(16, of.columns.stop - of.columns.start)
    net.train()
    with torch.no_grad():
        for _ in range(5):
            net(stamps, beside)
        net.eval()
        want, found = (torch.softmax(one(stamps, beside), 1) for one in (net, folded(net)))
    assert found.shape == (16, POINTS)
    assert (found - want).cumsum(1).abs().max() < 1e-4
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in folded(net).modules())


def test_the_reference_has_the_weights_that_were_published() -> None:
    """27.4 million, as the paper's section 3 counts them for 64 x 64 x 5 and 180 bins; ours is within a percent."""
    net = network(Architecture("pasquet", "image", 5, 64, 180))
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(27_391_464, rel=0.01)


def test_a_training_goes_on_from_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ended after two epochs and begun again, it ends where one that was never ended ends."""
    of = Architecture("lean", "magnitudes", 4, SIZE, POINTS)
    rng = np.random.default_rng(0)
    z = rng.uniform(0, 1, 200)
    columns = (z[:, None] + rng.normal(0, 0.1, (200, 14))).astype(np.float32)
    examples = Examples(np.zeros((200, 4, SIZE, SIZE), np.float16), columns, z)
    known, held = examples.of(np.arange(150)), examples.of(np.arange(150, 200))
    falls = inputs.depends(4, 0)
    grid = grids.linear(1.0, POINTS)
    settings = ImageSettings(epochs=4, batch=50, checks=4)
    whole = train(of, known, held, falls, grid, settings)

    class Ended(Exception):
        pass

    kept, write = [], checkpoint.write

    def write_twice(*words: object) -> None:
        write(*words)  # type: ignore[arg-type]
        kept.append(words)
        if len(kept) == 2:
            raise Ended

    keep = tmp_path / "one.training"
    monkeypatch.setattr(training, "CHECKPOINT_EVERY", -1.0)
    monkeypatch.setattr(checkpoint, "write", write_twice)
    with pytest.raises(Ended):
        train(of, known, held, falls, grid, settings, keep=keep)
    monkeypatch.setattr(checkpoint, "write", write)
    with pytest.raises(UserError, match="another training"):
        train(of, known, held, falls, grid, settings, keep=keep, mark="another table")
    state = checkpoint.read(keep)
    assert state is not None
    assert 0 < state.numbers["step"] < whole.steps
    torch.manual_seed(99)
    again = train(of, known, held, falls, grid, settings, keep=keep)
    assert again.steps == whole.steps
    assert [check.step for check in again.checks] == [check.step for check in whole.checks]
    assert again.crps == pytest.approx(whole.crps, rel=0.2)  # drop-out and noise are drawn anew after the break


def test_more_networks_later_train_only_those_that_are_missing(tmp_path: Path) -> None:
    settings = ImageSettings(epochs=2, batch=50, checks=2)
    told: list[str] = []

    def trained_with(nets: int) -> Bundle:
        told.clear()
        return fit.fit(
            gallery(150, 3),
            BANDS,
            sees="magnitudes",
            nets=nets,
            settings=settings,
            z_max=1.0,
            points=POINTS,
            keep=tmp_path,
            progress=lambda what, _done, check: told.append(what) if check is not None else None,
        )

    one = trained_with(1)
    two = trained_with(2)
    assert set(told) == {"network 2 of 2"}
    for name, tensor in one.tensors.items():
        if name.startswith("network."):
            np.testing.assert_array_equal(two.tensors[name], tensor)
    assert two.card["training"]["steps"][0] == one.card["training"]["steps"][0]


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_of_prelu_are_those_of_torch(dtype: torch.dtype, last: bool) -> None:
    form = torch.channels_last if last else torch.contiguous_format
    dice = torch.Generator().manual_seed(4)
    x, above = (torch.randn((9, 24, 7, 8), generator=dice).to(dtype).contiguous(memory_format=form) for _ in range(2))
    x[0, :, 0, 0] = 0.0
    slope = torch.linspace(-0.5, 1.5, 24)
    own, theirs = Prelu(24), torch.nn.PReLU(24)
    for each in (own, theirs):
        each.weight.data.copy_(slope)
    found, in_float64 = x.clone().requires_grad_(), x.double().requires_grad_()
    result = own(found)
    assert result.dtype == dtype
    result.backward(above)
    theirs.double()(in_float64).backward(above.double())
    assert found.grad is not None
    assert in_float64.grad is not None
    assert torch.equal(found.grad, in_float64.grad.to(torch.float32).to(dtype))  # rounded as torch rounds
    torch.testing.assert_close(own.weight.grad.double(), theirs.weight.grad, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_networks_learn_in_each_precision_and_are_kept_in_float32(precision: str) -> None:
    settings = ImageSettings(epochs=8, batch=24, checks=6, seed=2, precision=precision)
    bundle = fit.fit(gallery(240, 1), BANDS, nets=1, settings=settings, z_max=1.0, points=POINTS)
    curve = [check[3] for check in bundle.card["training"]["checks"][0]]
    assert min(curve) < 0.7 * curve[0]
    assert {v.dtype for name, v in bundle.tensors.items() if "convolution" in name} == {np.dtype(np.float32)}
    assert bundle.card["training"]["precision"] == precision


def test_a_precision_that_there_is_not_is_refused() -> None:
    with pytest.raises(UserError, match="float8"):
        ImageSettings(precision="float8")


def test_seconds_are_those_of_the_clock_that_is_given() -> None:
    ticks = iter(range(1000))
    known = gallery(150, 3)
    settings = ImageSettings(epochs=50, batch=132, seconds=10.5, checks=2)
    bundle = fit.fit(
        known,
        BANDS,
        sees="magnitudes",
        nets=1,
        settings=settings,
        z_max=1.0,
        points=POINTS,
        clock=lambda: float(next(ticks)),
    )
    assert bundle.card["training"]["seconds"] == [11.0]  # a second a step, by this clock
    assert bundle.card["training"]["steps"] == [11]


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match="no checkpoint"):
        checkpoint.read(tmp_path / "x")
    assert checkpoint.read(tmp_path / "y") is None


def test_auto_chooses_and_says_why(trained: Bundle) -> None:
    chosen = engine.choose(trained, "auto")
    if torch.cuda.is_available():
        assert "torch sees" in chosen.why
        assert chosen.engine.name.startswith("torch cuda float16")
    else:
        assert "no GPU" in chosen.why or "without CUDA" in chosen.why
        assert chosen.engine.name == ("kernels cpu float32" if sight.vectors() else "torch cpu float32")
        with pytest.raises(UserError, match="no CUDA GPU"):
            engine.choose(trained, "cuda")


@pytest.mark.parametrize("kernels", [True, False])
def test_tensors_that_are_not_the_networks_are_refused(
    trained: Bundle, kernels: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sight, "vectors", lambda: kernels)
    tensors = dict(trained.tensors)
    tensors.pop("network.1.head.0.weight")
    damaged = bundles.seal({k: v for k, v in trained.card.items() if k != "sha256"}, tensors)
    with pytest.raises(UserError, match="whole networks"):
        ImageEstimator(damaged, "cpu").ready()


def inputs_of(trained: Bundle, n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(8)
    return rng.normal(0, 3, (n, 4, SIZE, SIZE)).astype(np.float32), rng.normal(0, 1, (n, 14)).astype(np.float32)


def plain(trained: Bundle, stamps: np.ndarray, columns: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        found = [
            torch.softmax(net(torch.from_numpy(stamps), torch.from_numpy(columns)), 1)
            for net in engine.networks(trained)
        ]
    return torch.stack(found).mean(0).numpy()


@pytest.fixture(scope="module")
def exported(trained: Bundle) -> Bundle:
    """With its graphs in it."""
    pytest.importorskip("onnxscript", reason="onnxscript is not installed: no graph can be exported here")
    from models.images.onnx_engine import with_graphs

    return with_graphs(trained)


def test_onnx_runtime_agrees(trained: Bundle, exported: Bundle) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: its engine is not tested here")
    stamps, columns = inputs_of(trained, 70)  # a whole batch and a part of one
    chosen = engine.choose(exported, "onnx")
    found = chosen.engine.probabilities(stamps, columns)
    assert np.abs(np.cumsum(found - plain(trained, stamps, columns), 1)).max() < 1e-4
    assert chosen.engine.probabilities(stamps[:0], columns[:0]).shape == (0, POINTS)
    assert ImageEstimator(exported, "onnx").estimate(as_galaxies(gallery(3, 1))).pdf.shape == (3, POINTS)  # type: ignore[arg-type]


def test_openvino_agrees(trained: Bundle, exported: Bundle) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed: its engine is not tested here")
    stamps, columns = inputs_of(trained, 70)
    chosen = engine.choose(exported, "openvino")
    found = chosen.engine.probabilities(stamps, columns)
    assert np.abs(np.cumsum(found - plain(trained, stamps, columns), 1)).max() < 1e-4
    assert chosen.engine.probabilities(stamps[:0], columns[:0]).shape == (0, POINTS)


def made_networks(count: int, sees: str, bands: int, size: int) -> tuple[list[torch.nn.Module], np.ndarray, np.ndarray]:
    """Networks as if trained a little, with slopes of their own for every channel, and what they are asked."""
    of = Architecture("lean", sees, bands, size, POINTS)
    rng, made = np.random.default_rng(size), []
    stamps = rng.normal(rng.normal(0, 3, (37, bands, 1, 1)), 3, (37, bands, size, size)).astype(np.float32)
    beside = rng.normal(0, 1, (37, of.columns.stop - of.columns.start)).astype(np.float32)
    torch.manual_seed(bands)
    for _ in range(count):
        net = network(of).train()
        with torch.no_grad():
            for part in net.modules():
                if isinstance(part, torch.nn.PReLU):
                    part.weight.uniform_(-0.5, 1.5)
            for _ in range(3):
                net(torch.from_numpy(stamps), torch.from_numpy(beside))
            net.head[-1].weight *= 100
        made.append(net.eval())
    return made, stamps, beside


def mean_of(nets: list[torch.nn.Module], stamps: np.ndarray, beside: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        found = [torch.softmax(net(torch.from_numpy(stamps), torch.from_numpy(beside)), 1) for net in nets]
    return torch.stack(found).mean(0).numpy()


@pytest.mark.parametrize(
    ("count", "sees", "bands", "size"),
    [
        (2, "magnitudes", 4, 16),
        (1, "mixed", 5, 32),
        (2, "mixed", 4, 16),
        (1, "image", 1, 19),
        (1, "image", 6, 64),
        (2, "mixed", 3, 43),
    ],
)
def test_kernels_over_stamps_abreast_agree(count: int, sees: str, bands: int, size: int) -> None:
    nets, stamps, beside = made_networks(count, sees, bands, size)
    want = mean_of(nets, stamps, beside)
    assert np.ptp(want, 0).max() > 0.01  # answers differ from stamp to stamp
    one = by_kernels(nets, bands, size, sees)
    for n in (37, 16, 1, 0):
        found = one.probabilities(stamps[:n], beside[:n])
        assert found.shape == (n, POINTS)
        assert np.abs(np.cumsum(found - want[:n], 1)).max(initial=0.0) < 5e-6
    half = one.probabilities(stamps.astype(np.float16), beside)
    assert np.abs(np.cumsum(half - mean_of(nets, stamps.astype(np.float16).astype(np.float32), beside), 1)).max() < 5e-6


def by_kernels(nets: list[torch.nn.Module], bands: int, size: int, sees: str) -> KernelEngine:
    of = Architecture("lean", sees, bands, size, POINTS)
    tensors = [{name: value.numpy() for name, value in net.state_dict().items()} for net in nets]
    return KernelEngine(shape(of), tensors, threads=1)


@pytest.mark.parametrize("sees", ["mixed", "image", "magnitudes"])
def test_the_shape_is_that_of_torch(sees: str) -> None:
    for size in (16, 40, 41):
        of = Architecture("lean", sees, 5, size, POINTS)
        state = network(of).state_dict()
        known = {name: tuple(value.shape) for name, value in state.items() if not name.endswith("num_batches_tracked")}
        assert shape(of).tensors() == known


def test_a_bundle_of_random_tensors_says_the_same_by_torch() -> None:
    bundle = random_bundle(2)
    stamps, columns = inputs_of(bundle, 37)
    want = plain(bundle, stamps, columns)
    one = engine.choose(bundle, "cpu", 16).engine
    assert np.ptp(want, 0).max() > 0.01
    assert np.abs(np.cumsum(one.probabilities(stamps, columns) - want, 1)).max() < 1e-5


def test_torch_on_the_cpu_agrees_in_any_batch(trained: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    stamps, columns = inputs_of(trained, 70)
    want = plain(trained, stamps, columns)
    monkeypatch.setattr(sight, "vectors", lambda: False)
    for batch in (1, 64, None):
        chosen = engine.choose(trained, "cpu", batch).engine
        assert chosen.name == "torch cpu float32"
        assert np.abs(np.cumsum(chosen.probabilities(stamps, columns) - want, 1)).max() < 1e-4
    assert engine.choose(trained, "cpu").engine.probabilities(stamps[:0], columns[:0]).shape == (0, POINTS)


@needs_gpu
@pytest.mark.parametrize(("precision", "most"), [("float32", 1e-4), ("float16", 2e-3), ("bfloat16", 2e-2)])
@pytest.mark.parametrize(("graphs", "compiled"), [(True, False), (False, False), (True, True)])
def test_cuda_agrees(trained: Bundle, precision: str, most: float, graphs: bool, compiled: bool) -> None:
    from models.images.cuda_engine import CudaEngine

    stamps, columns = inputs_of(trained, 300)
    one = CudaEngine(engine.networks(trained), (4, SIZE, SIZE), POINTS, 64, precision, graphs, compiled)
    assert np.abs(np.cumsum(one.probabilities(stamps, columns) - plain(trained, stamps, columns), 1)).max() < most


@needs_gpu
def test_a_full_gpu_halves_the_batch_and_goes_on(trained: Bundle) -> None:
    from models.images.cuda_engine import CudaEngine

    stamps, columns = inputs_of(trained, 300)
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.02)
    try:
        one = CudaEngine(engine.networks(trained), (4, SIZE, SIZE), POINTS, 1 << 17)
        found = one.probabilities(stamps, columns)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert one.batch < 1 << 17
    assert np.abs(np.cumsum(found - plain(trained, stamps, columns), 1)).max() < 2e-3


@needs_gpu
def test_networks_learn_on_a_gpu() -> None:
    settings = ImageSettings(epochs=12, batch=32, seed=2)
    sealed = fit.fit(gallery(400, 1), BANDS, nets=1, settings=settings, z_max=1.0, points=POINTS, device="cuda")
    curve = [check[3] for check in sealed.card["training"]["checks"][0]]
    assert min(curve) < 0.7 * curve[0]
