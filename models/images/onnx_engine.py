"""Networks by ONNX Runtime on the CPU: for workers without torch. The graphs lie in the bundle, made when it was sealed."""

import logging
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from models.bundle import Bundle, seal
from schemas.batch import Float32
from schemas.errors import UserError

BATCH = 64
OPSET = 18


class OnnxEngine:
    """An `Engine`.

    Raises
    ------
    schemas.errors.UserError
        If ONNX Runtime is not installed, or a graph is none.
    """

    def __init__(self, graphs: Sequence[bytes], threads: int = 1, batch: int = BATCH) -> None:
        try:
            import onnxruntime
        except ModuleNotFoundError as error:
            raise UserError("Neither torch nor onnxruntime is installed: pip install 'slipher[images-cpu]'.") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self._sessions = [
                onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"]) for graph in graphs
            ]
        except Exception as error:  # its errors have no common base that is exported
            raise UserError(f"The model bundle's ONNX graph cannot be read: {error}.") from error
        self.batch = batch
        self._names = [node.name for node in self._sessions[0].get_inputs()]

    @property
    def name(self) -> str:
        """Device and precision."""
        return "onnxruntime cpu float32"

    @property
    def takes(self) -> np.dtype[Any]:
        """See `models.images.engine.Engine`."""
        return np.dtype(np.float32)

    def probabilities(self, stamps: np.ndarray, columns: Float32) -> Float32:
        """See `models.images.engine.Engine`."""
        parts = []
        for first in range(0, len(columns), self.batch):
            rows = slice(first, first + self.batch)
            given = {"stamps": np.ascontiguousarray(stamps[rows], np.float32), "columns": columns[rows]}
            wanted = {name: given[name] for name in self._names}
            parts.append(sum(session.run(None, wanted)[0] for session in self._sessions) / len(self._sessions))
        if not parts:
            return np.empty((0, int(self._sessions[0].get_outputs()[0].shape[1])), np.float32)
        return np.concatenate(parts).astype(np.float32)


def with_graphs(bundle: Bundle) -> Bundle:
    """The bundle with an ONNX graph of each network beside its weights, sealed again.

    Raises
    ------
    schemas.errors.UserError
        If torch or its exporter to ONNX is not installed.
    """
    from models.images.engine import networks

    tensors = dict(bundle.tensors)
    for k, net in enumerate(networks(bundle)):
        tensors[f"onnx.{k:02d}"] = np.frombuffer(exported(net, bundle.card["architecture"]), np.uint8)
    return seal({key: value for key, value in bundle.card.items() if key != "sha256"}, tensors)


def exported(net: Any, architecture: dict[str, Any]) -> bytes:
    """The ONNX graph of a network that ends in probabilities, batch normalisation folded."""
    import torch

    from models.images.architecture import Architecture
    from models.images.lean import folded

    of = Architecture(**architecture)

    class Ending(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = folded(net)

        def forward(self, stamps: Any, columns: Any) -> Any:
            return torch.softmax(self.net(stamps, columns), 1)

    n_columns = of.columns.stop - of.columns.start
    example = (torch.zeros(2, of.bands, of.size, of.size), torch.zeros(2, n_columns))
    some = torch.export.Dim("n", min=1, max=1 << 16)
    told = logging.getLogger("torch.onnx")  # it tells of libraries that nobody asked for
    before = told.level
    told.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                Ending().eval(),
                example,
                input_names=["stamps", "columns"],
                output_names=["probabilities"],
                opset_version=OPSET,
                dynamic_shapes=({0: some}, {0: some}),
                dynamo=True,
                verbose=False,
            )
    except (ModuleNotFoundError, ImportError) as error:
        raise UserError("Graphs for ONNX Runtime need torch's exporter: pip install onnx onnxscript.") from error
    finally:
        told.setLevel(before)
    graph: bytes = program.model_proto.SerializeToString()
    return graph
