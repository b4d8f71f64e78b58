"""Image networks: stamps a second by engine, precision and batch; on a GPU beside the limits of copy and arithmetic.

Weights are random, stamps are noise with a bright middle: the time of a network does not depend on what it has learnt. What comes
out of every engine is checked against float32 on the CPU first.
"""

import gc
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import images_worker
from benchmarks.report import Result, compared, middle
from models.grid import linear
from models.images.architecture import Architecture, columns, network
from schemas.batch import Float32, Int32, Stamps

CASES = {
    "lean 5x32x32": ("lean", "mixed", 5, 32),
    "lean 6x64x64": ("lean", "mixed", 6, 64),
    "Pasquet 5x64x64": ("pasquet", "image", 5, 64),
}
POINTS = 301
ENOUGH = 0.4  # seconds that make a measurement


def run(quick: bool) -> list[Result]:
    """All cases of the engines that this machine has."""
    import torch

    torch.set_num_threads(1)
    repeats = 2 if quick else 5
    results = [_preparation(repeats)]
    for name, case in CASES.items():
        if not (quick and name != "lean 5x32x32"):
            results += on_cpu(name, case, repeats)
    results += [learning(name, case, repeats) for name, case in CASES.items() if case[3] == 32]
    results += images_worker.run(quick)
    if torch.cuda.is_available():
        found, about = on_gpu(list(CASES) if not quick else ["lean 5x32x32"], min(repeats, 3))
        for what, value in about.items():
            print(f"{what}: {value:,.3g}" if isinstance(value, float) else f"{what}: {value}")
        return results + found
    print("This machine has no CUDA GPU that torch sees: nothing is said of one.")
    return results


def made(case: tuple[str, str, int, int], n: int, dtype: Any = np.float16) -> tuple[np.ndarray, Float32]:
    """Stamps in units of the softening, and columns."""
    kind, sees, bands, size = case
    of = Architecture(kind, sees, bands, size, POINTS)
    rng = np.random.default_rng(1)
    away = np.hypot(*(np.indices((size, size)) - size / 2))
    some = rng.normal(0, 0.5, (min(n, 512), bands, size, size)) + 50 * np.exp(-away / 3)
    stamps = np.resize(some.astype(dtype), (n, bands, size, size))
    return stamps, rng.normal(0, 1, (n, of.columns.stop - of.columns.start)).astype(np.float32)


def net(case: tuple[str, str, int, int]) -> Any:
    """A network with random weights, its batch normalisation as if it had seen the stamps."""
    import torch

    torch.manual_seed(1)
    one = network(Architecture(*case, POINTS))
    stamps, cols = made(case, 64, np.float32)
    one.train()
    with torch.no_grad():
        for _ in range(20):
            one(torch.from_numpy(stamps), torch.from_numpy(cols))
    return one.eval().requires_grad_(False)


def rate(
    work: Callable[[], Any], rows: int, repeats: int, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Rows a second, `repeats` times, after one call that does not count."""
    work()
    found = []
    for _ in range(repeats):
        calls, first = 0, clock()
        while clock() - first < ENOUGH:
            work()
            calls += 1
        found.append(calls * rows / (clock() - first))
    return found


def _result(case: str, rates: list[float], unit: str, peers: dict[str, float] | None = None) -> Result:
    value, spread = middle(rates)
    return Result(case, value, unit, peers or {}, spread)


def _preparation(repeats: int) -> Result:
    """Cost of what a worker does to raw stamps, of CPU time: bytes of 5 bands to float32 in units of the softening, masked."""
    import pyarrow as pa

    from models.images.inputs import cut

    n, size = 512, 32
    pixels = np.random.default_rng(1).normal(0, 9, (n, 5, size, size)).astype("<f4")
    blobs = pa.array([one.tobytes() for one in pixels], pa.large_binary())
    noise = pa.array([np.full(5 * size * size, 81, "<f4").tobytes()] * n, pa.large_binary())
    side: Int32 = np.full(n, size, np.int32)
    stamps = Stamps(side, side, np.full(n, 0.2, np.float32), blobs, noise)
    softening = np.full(5, 18.0, np.float32)
    rates = rate(lambda: cut(stamps, 5, size, softening), n, repeats, time.thread_time)
    value, spread = middle([1e6 / one for one in rates])
    return Result("prepare 5x32x32 with variance", value, "us/stamp", spread=spread, higher_is_better=False)


def on_cpu(name: str, case: tuple[str, str, int, int], repeats: int) -> list[Result]:
    """One thread, CPU time: ours, torch folded and as it comes, ONNX Runtime, OpenVINO, in turn."""
    import torch

    from models.images.kernels_engine import KernelEngine
    from models.images.lean_shape import shape
    from models.images.torch_engine import CpuEngine

    one, batch = net(case), 64
    stamps, cols = made(case, 2 * batch, np.float32)
    engine: Any = CpuEngine([one])
    folded = engine
    if case[0] == "lean":
        tensors = {name: tensor.numpy() for name, tensor in one.state_dict().items()}
        engine = KernelEngine(shape(Architecture(*case, POINTS)), [tensors], threads=1)
    x, a = torch.from_numpy(stamps), torch.from_numpy(cols)

    @torch.inference_mode()
    def plain() -> Any:
        return [torch.softmax(one(x[k : k + batch].contiguous(), a[k : k + batch]), 1) for k in (0, batch)]

    works: dict[str, Callable[[], Any]] = {
        "slipher": lambda: engine.probabilities(stamps, cols),
        "torch folded": lambda: folded.probabilities(stamps, cols),
        "inference_mode": plain,
    }
    try:
        from models.images.onnx_engine import OnnxEngine, exported

        session = OnnxEngine([exported(one, Architecture(*case, POINTS).card())])
        works["ONNX Runtime"] = lambda: session.probabilities(stamps, cols)
    except Exception as error:  # a peer that is not there is no failure of ours
        print(f"no ONNX Runtime: {str(error).splitlines()[0]}")
    try:
        from models.images.openvino_engine import OpenVinoEngine

        other = OpenVinoEngine([exported(one, Architecture(*case, POINTS).card())])
        works["OpenVINO"] = lambda: other.probabilities(stamps, cols)
    except Exception as error:
        print(f"no OpenVINO: {str(error).splitlines()[0]}")
    rates: dict[str, list[float]] = {who: [] for who in works}
    for _ in range(repeats):  # in turn: what else the machine does is the same for all
        for who, work in works.items():
            rates[who] += rate(work, len(cols), 1, time.process_time)
    told = {who: middle(found)[0] for who, found in rates.items() if who != "slipher"}
    return [_result(f"{name}, one CPU thread, batch {batch}", rates["slipher"], "stamps/s", told)]


def learning(name: str, case: tuple[str, str, int, int], repeats: int) -> Result:
    """One thread in training, in the precision that it takes by itself beside the others; CPU time."""
    from models.images.settings import ImageSettings
    from models.images.train import Examples, precision, train

    of = Architecture(*case, POINTS)
    stamps, cols = made(case, 512)
    examples = Examples(stamps, cols, np.random.default_rng(2).uniform(0, 1, len(cols)))
    falls = np.zeros((case[2], cols.shape[1]), np.float32)
    rates: dict[str, list[float]] = {"bfloat16": [], "float32": []}
    for _ in range(repeats):
        for kind, found in rates.items():
            settings = ImageSettings(epochs=100, seconds=10 * ENOUGH, checks=1, precision=kind)
            done = train(
                of, examples, examples.of(np.arange(8)), falls, linear(1.0, POINTS), settings, clock=time.process_time
            )
            found.append(done.steps * settings.batch / done.seconds)
    own = str(precision("cpu")).removeprefix("torch.")
    return compared(f"{name}, training on one CPU thread, {own}", "stamps/s", rates, own)


def on_gpu(
    names: list[str], repeats: int, batches: tuple[int, ...] = (256, 1024, 4096, 8192)
) -> tuple[list[Result], dict[str, Any]]:
    """The CUDA engine by precision and batch, beside the limits of the device; and what it agrees to."""
    import torch

    from models.images.cuda_engine import CudaEngine
    from models.images.torch_engine import CpuEngine

    about: dict[str, Any] = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, **limits()}
    results = []
    for name in names:
        case = CASES[name]
        one = net(case)
        work = operations(one, case)
        size = case[2] * case[3] ** 2
        bytes_in = 2 * size + 4 * columns(case[2])
        copy_limit, work_limit = about["to_device"] / bytes_in, about["float16"] / work
        about[f"{name}: FLOP a stamp"] = work
        about[f"{name}: copy limit, stamps/s"], about[f"{name}: arithmetic limit, stamps/s"] = copy_limit, work_limit
        few, cols_few = made(case, 256)
        few += np.random.default_rng(3).normal(0, 1, few.shape).astype(np.float16)
        want = CpuEngine([one]).probabilities(few, cols_few)
        for precision in ("float16", "bfloat16", "float32"):
            found = CudaEngine([one], few.shape[1:], POINTS, 256, precision).probabilities(few, cols_few)
            about[f"{name}: CDF, {precision} against the CPU"] = float(np.abs(np.cumsum(found - want, 1)).max())
        plain = [("float16", batch, True, False) for batch in batches]
        others = [("bfloat16", 4096, True, False), ("float32", 4096, True, False), ("float16", 4096, False, False)]
        compiled = [("float16", 4096, True, True)]
        for precision, batch, graphs, fused in plain + others + compiled:
            engine = CudaEngine([one], few.shape[1:], POINTS, batch, precision, graphs, fused)
            n = max(8 * batch, 16384)
            stamps, cols = made(case, n)
            rates = rate(lambda e=engine, s=stamps, c=cols: e.probabilities(s, c), n, repeats)  # type: ignore[misc]
            peers = {
                "no copies": middle(engine.resident(20, repeats))[0],
                "copy limit": copy_limit,
                "arithmetic limit": work_limit,
            }
            how = "" if graphs else ", no graphs"
            results.append(_result(f"{name}, {engine.name}, batch {batch}{how}", rates, "stamps/s", peers))
            del engine
            gc.collect()  # a slot and its graph hold each other: their memory is the device's
            torch.cuda.empty_cache()
    return results, about


def limits() -> dict[str, float]:
    """Of this GPU, measured: bytes a second from pinned memory and within the device, operations a second in matrix products."""
    import torch

    def seconds(work: Callable[[], Any], times: int = 10) -> float:
        work()
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        found = []
        for _ in range(times):
            begin.record()
            work()
            end.record()
            end.synchronize()
            found.append(begin.elapsed_time(end) / 1e3)
        return float(np.median(found))

    host = torch.empty(1 << 28, dtype=torch.uint8, pin_memory=True)
    there, other = (
        torch.empty(1 << 28, dtype=torch.uint8, device="cuda"),
        torch.empty(1 << 31, dtype=torch.uint8, device="cuda"),
    )
    out = {"to_device": len(host) / seconds(lambda: there.copy_(host, non_blocking=True))}
    out["within"] = 2 * len(other) / 2 / seconds(lambda: other[: 1 << 30].copy_(other[1 << 30 :]))
    for name, dtype in (("float16", torch.float16), ("bfloat16", torch.bfloat16)):
        a, b = (torch.randn(8192, 8192, device="cuda", dtype=dtype) for _ in range(2))
        out[name] = 2 * 8192**3 / seconds(lambda a=a, b=b: a @ b)  # type: ignore[misc]
    return out


def operations(one: Any, case: tuple[str, str, int, int]) -> float:
    """Floating-point operations of one stamp, two a multiply-add."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    stamps, cols = made(case, 1, np.float32)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        one(torch.from_numpy(stamps), torch.from_numpy(cols))
    return float(counter.get_total_flops())
