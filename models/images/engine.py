"""What evaluates image networks: one contract, several ways, and the choice between them."""

import importlib.util
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from models.bundle import Bundle
from models.images.architecture import Architecture, network
from schemas.batch import Float32
from schemas.errors import SlipherError, UserError

DEVICES = ("auto", "cuda", "cpu", "onnx", "openvino")


class DeviceLost(SlipherError):
    """A device that answers no more. No trouble that passes: within this process it does not come back."""

    exit_code = 75


class Engine(Protocol):
    """Networks on a device.

    Against the networks in float32 on a CPU, distribution functions agree to 1e-4 in float32 and to 2e-3 in float16. A row does
    not depend on the rows beside it but for rounding: libraries choose other sums for other batches, our own kernels do not.
    """

    @property
    def name(self) -> str:
        """Such as ``torch cuda float16``."""
        ...

    @property
    def takes(self) -> np.dtype[Any]:
        """What stamps are best given as: float16 where the device computes in no more."""
        ...

    @property
    def batch(self) -> int:
        """Stamps that it works on at once: fewer leave a part of it idle, more are done one such batch after the other."""
        ...

    def probabilities(self, stamps: np.ndarray, columns: Float32) -> Float32:
        """Mean over the networks of the probability of each point of the grid.

        Parameters
        ----------
        stamps
            In units of the softening, not stretched, float16 or float32[n, B, S, S].
        columns
            Standardised, those that the networks see, float32[n, F].

        Returns
        -------
        Float32
            float32[n, G], sum 1.
        """
        ...


class Chosen(NamedTuple):
    """An engine, and why this one."""

    engine: Engine
    why: str


def networks(bundle: Bundle) -> list[Any]:
    """The networks of a bundle as torch modules in evaluation mode, on the CPU.

    Raises
    ------
    schemas.errors.UserError
        If torch is missing, or the tensors are not those of the card's architecture.
    """
    architecture = Architecture(**bundle.card["architecture"])
    found = []
    for k in range(bundle.card["networks"]):
        net = network(architecture)
        import torch

        state = {name: torch.from_numpy(tensor.copy()) for name, tensor in _tensors(bundle, k).items()}
        try:
            net.load_state_dict(state)
        except RuntimeError as error:
            raise _not_whole(bundle) from error
        found.append(net.eval().requires_grad_(False))
    return found


def choose(bundle: Bundle, device: str = "auto", batch: int | None = None) -> Chosen:
    """The engine for `device`, and why.

    ``cpu`` is kernels of our own where they are the faster way, else torch. ``auto`` is a CUDA GPU where torch sees one, else
    what ``cpu`` is; without torch it is the kernels, else ONNX Runtime, which needs a bundle with graphs in it.

    Raises
    ------
    schemas.errors.UserError
        If the device is not known, or cannot be had.
    """
    if device not in DEVICES:
        raise UserError(f"No device is called {device!r}: there are {', '.join(DEVICES)}.")
    has_torch = importlib.util.find_spec("torch") is not None
    if device == "auto":
        why = "torch is not installed"
        if has_torch:
            import torch

            if torch.cuda.is_available():
                return Chosen(_cuda(bundle, batch), f"torch sees {torch.cuda.get_device_name()}")
            why = "torch was built without CUDA" if torch.version.cuda is None else "torch sees no GPU"
        if _kernels_are_best(bundle):
            return Chosen(_kernels(bundle, batch), f"{why}: kernels of our own on the CPU")
        if has_torch:
            return Chosen(_torch(bundle, batch), f"{why}: torch on the CPU")
        return Chosen(_onnx(bundle), f"{why}: ONNX Runtime on the CPU")
    if device == "onnx":
        return Chosen(_onnx(bundle), "asked for")
    if device == "openvino":
        from models.images.openvino_engine import OpenVinoEngine

        return Chosen(OpenVinoEngine(_graphs(bundle)), "asked for")
    if device == "cpu" and _kernels_are_best(bundle):
        return Chosen(_kernels(bundle, batch), "asked for")
    if not has_torch:
        raise UserError(f"The device {device} needs torch: pip install 'slipher[images]', or take --device onnx.")
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise UserError("torch sees no CUDA GPU here: take --device cpu, or auto.")
        return Chosen(_cuda(bundle, batch), "asked for")
    return Chosen(_torch(bundle, batch), "asked for")


def one_thread(engine: Engine) -> None:
    """Have an engine on a CPU use one thread: for a process that shares its machine with others like it, one a core."""
    from models.images.kernels_engine import KernelEngine

    if isinstance(engine, KernelEngine):
        engine.threads = 1
    if "torch" in sys.modules:  # it is not loaded only to be told
        import torch

        torch.set_num_threads(1)


def _kernels_are_best(bundle: Bundle) -> bool:
    """Lean networks on a core with wide vectors; those of magnitudes alone, which have dense layers only, on any."""
    from models.images.sight import vectors

    of = bundle.card.get("architecture", {})
    return bool(of.get("kind") == "lean" and (of.get("sees") == "magnitudes" or vectors()))


def _kernels(bundle: Bundle, batch: int | None) -> Engine:
    from models.images.kernels_engine import BATCH, KernelEngine
    from models.images.lean_shape import shape

    tensors = [_tensors(bundle, k) for k in range(bundle.card["networks"])]
    try:
        return KernelEngine(
            shape(Architecture(**bundle.card["architecture"])), tensors, BATCH if batch is None else batch
        )
    except ValueError as error:
        raise _not_whole(bundle) from error


def _torch(bundle: Bundle, batch: int | None) -> Engine:
    from models.images.torch_engine import BATCH, CpuEngine

    return CpuEngine(networks(bundle), BATCH if batch is None else batch)


def _tensors(bundle: Bundle, k: int) -> dict[str, np.ndarray]:
    """Those of one network, without its number."""
    prefix = f"network.{k}."
    return {name[len(prefix) :]: tensor for name, tensor in bundle.tensors.items() if name.startswith(prefix)}


def _not_whole(bundle: Bundle) -> UserError:
    return UserError(f"The model bundle {bundle.card['sha256'][:8]} does not hold whole networks.")


def _cuda(bundle: Bundle, batch: int | None) -> Engine:
    from models.images.cuda_engine import CudaEngine

    size = bundle.card["architecture"]
    shape = (size["bands"], size["size"], size["size"])
    more: dict[str, Any] = {} if batch is None else {"batch": batch}
    compiled = importlib.util.find_spec("triton") is not None  # what torch.compile writes its kernels in
    return CudaEngine(networks(bundle), shape, size["points"], compiled=compiled, **more)


def _onnx(bundle: Bundle) -> Engine:
    from models.images.onnx_engine import OnnxEngine

    return OnnxEngine(_graphs(bundle))


def _graphs(bundle: Bundle) -> Sequence[bytes]:
    graphs = [bundle.tensors[name].tobytes() for name in sorted(bundle.tensors) if name.startswith("onnx.")]
    if not graphs:
        raise UserError(f"The model bundle {bundle.card['sha256'][:8]} holds no ONNX graphs: it needs torch.")
    return graphs
