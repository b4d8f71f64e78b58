"""Networks by OpenVINO on the CPU: the graphs of the bundle, float32, without torch; faster than ONNX Runtime on Intel cores."""

import threading
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np

from schemas.batch import Float32
from schemas.errors import UserError

BATCH = 64


class OpenVinoEngine:
    """An `Engine`; threads wait for each other.

    Raises
    ------
    schemas.errors.UserError
        If OpenVINO is not installed, or a graph is none.
    """

    takes = np.dtype(np.float32)
    name = "openvino cpu float32"

    def __init__(self, graphs: Sequence[bytes], threads: int = 1, batch: int = BATCH) -> None:
        try:
            import openvino
        except ModuleNotFoundError as error:
            raise UserError(
                "The device openvino needs OpenVINO: pip install openvino, or take --device auto."
            ) from error
        core = openvino.Core()
        # Left to itself it computes in bfloat16 where it can, which sharp PDFs do not bear.
        how: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
        try:
            self._models = [core.compile_model(core.read_model(BytesIO(graph)), "CPU", how) for graph in graphs]
        except RuntimeError as error:
            raise UserError(f"The model bundle's ONNX graph cannot be read: {str(error).splitlines()[0]}.") from error
        self.batch = batch
        self._turn = threading.Lock()  # a model has one request, which is busy

    def probabilities(self, stamps: np.ndarray, columns: Float32) -> Float32:
        """See `models.images.engine.Engine`."""
        points = int(self._models[0].outputs[0].partial_shape[1].get_length())
        out = np.zeros((len(columns), points), np.float32)
        for first in range(0, len(columns), self.batch):
            rows = slice(first, first + self.batch)
            given = {
                "stamps": np.ascontiguousarray(stamps[rows], np.float32),
                "columns": np.ascontiguousarray(columns[rows]),
            }
            for model in self._models:
                wanted = {name: given[name] for port in model.inputs for name in port.names if name in given}
                with self._turn:
                    out[rows] += model(wanted)[0]
        return out / np.float32(len(self._models))
