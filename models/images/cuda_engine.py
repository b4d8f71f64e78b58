"""Networks by torch on a CUDA GPU: folded, channels last, in half precision, stretched on the device.

Two slots take turns. Each has pinned buffers on the host, buffers on the device, a stream, and a CUDA graph of the whole work for
its batch: so the copy of one overlaps with the work of the other, and a batch is three calls. When memory runs out the batch is
halved.
"""

import gc
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from models.images.engine import DeviceLost
from models.images.lean import folded
from schemas.batch import Float32
from schemas.errors import TroubleError

BATCH = 2048
SMALLEST = 16  # a batch that does not fit either is no lack of memory of this worker's making
PRECISIONS = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


class CudaEngine:
    """An `Engine`; threads wait for each other.

    Parameters
    ----------
    networks
        In evaluation mode, on the CPU.
    shape, points
        Of a galaxy's stamps, (B, S, S); of the redshift grid.
    batch
        Stamps at once.
    precision
        ``float16``, ``bfloat16`` or ``float32`` (without tf32).
    graphs
        Whether a batch is one CUDA graph.
    compiled
        Whether torch.compile fuses what stands between the convolutions: half a minute at the first batch.

    Raises
    ------
    schemas.errors.TroubleError
        If even the smallest batch does not fit: others use the memory.
    models.images.engine.DeviceLost
        If the GPU fails.
    """

    def __init__(
        self,
        networks: Sequence[Any],
        shape: tuple[int, int, int],
        points: int,
        batch: int = BATCH,
        precision: str = "float16",
        graphs: bool = True,
        compiled: bool = False,
    ) -> None:
        self._dtype = PRECISIONS[precision]
        self._precision, self._shape, self._points, self._graphs = precision, shape, points, graphs
        torch.backends.cudnn.benchmark = True
        self._networks = [folded(net).to("cuda", self._dtype, memory_format=torch.channels_last) for net in networks]
        self._compiled = compiled
        if compiled:
            torch._dynamo.config.suppress_errors = True  # what cannot be compiled runs as it is
            self._networks = [torch.compile(net, dynamic=False) for net in self._networks]
        self.batch = batch
        self._columns = 0  # known with the first galaxies
        self._slots: list[_Slot] = []
        self._turn = threading.Lock()

    @property
    def name(self) -> str:
        """Device and precision."""
        return f"torch cuda {self._precision}{', compiled' if self._compiled else ''}"

    @property
    def takes(self) -> np.dtype[Any]:
        """See `models.images.engine.Engine`."""
        return np.dtype(np.float32 if self._precision == "float32" else np.float16)

    def probabilities(self, stamps: np.ndarray, columns: Float32) -> Float32:
        """See `models.images.engine.Engine`."""
        with self._turn:
            return self._all(stamps, columns)

    def _all(self, stamps: np.ndarray, columns: Float32) -> Float32:
        out = np.empty((len(columns), self._points), np.float32)
        done = 0
        while done < len(columns):
            try:
                self._columns = columns.shape[1]
                self._make_slots(self._columns)
                done = self._run(stamps, columns, out, done)
            except torch.cuda.OutOfMemoryError as error:
                self._halve(error)
            except RuntimeError as error:
                if isinstance(error.__context__, torch.cuda.OutOfMemoryError):  # within a graph that was being captured
                    self._halve(error)
                    continue
                raise DeviceLost(
                    f"The GPU failed: {(str(error) or type(error).__name__).splitlines()[0]}. What was not durable is read "
                    "again at the next start."
                ) from error
        return out

    def resident(self, times: int, repeats: int) -> list[float]:
        """Stamps a second of the work alone, on what lies on the device: what the copies cost is what is missing from it."""
        self._make_slots(self._columns)
        slot, found = self._slots[0], []
        for _ in range(repeats):
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            slot.again(times, begin, end)
            found.append(times * self.batch / (begin.elapsed_time(end) / 1e3))
        return found

    def _run(self, stamps: np.ndarray, columns: Float32, out: Float32, done: int) -> int:
        waiting: list[tuple[_Slot, slice]] = []
        for number, first in enumerate(range(done, len(columns), self.batch)):
            slot = self._slots[number % len(self._slots)]
            if len(waiting) == len(self._slots):
                done = _collect(*waiting.pop(0), out)
            rows = slice(first, min(first + self.batch, len(columns)))
            slot.start(stamps[rows], columns[rows])
            waiting.append((slot, rows))
        for one in waiting:
            done = _collect(*one, out)
        return done

    def _halve(self, error: Exception) -> None:
        if self.batch // 2 < SMALLEST:
            raise TroubleError(
                f"The GPU has no memory for {self.batch} stamps: {str(error).splitlines()[0]}."
            ) from error
        self._slots = []
        gc.collect()  # a slot and its graph hold each other, and the memory of both
        torch.cuda.empty_cache()
        self.batch //= 2

    def _make_slots(self, n_columns: int) -> None:
        if not self._slots:
            if self._precision == "float32":
                torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
            half = torch.float32 if self._precision == "float32" else torch.float16
            self._slots = [
                _Slot(self.forward, (self.batch, *self._shape), n_columns, self._points, half, self._graphs)
                for _ in range(2)
            ]

    def forward(self, stamps: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """Probabilities in float32 of tensors on the device."""
        x = stamps.to(self._dtype).contiguous(memory_format=torch.channels_last)
        a = columns.to(self._dtype)
        found = [torch.softmax(net(x, a).float(), 1) for net in self._networks]
        return torch.stack(found).mean(0) if len(found) > 1 else found[0]


class _Slot:
    """Buffers, stream and graph of one batch under way."""

    def __init__(
        self, work: Any, shape: tuple[int, ...], n_columns: int, points: int, dtype: torch.dtype, graphs: bool
    ) -> None:
        n = shape[0]
        self._work = work
        self._host = torch.zeros(shape, dtype=dtype, pin_memory=True), torch.zeros((n, n_columns), pin_memory=True)
        self._device = tuple(torch.zeros_like(one, device="cuda") for one in self._host)
        self._found = torch.zeros((n, points), device="cuda")
        self.answer = torch.zeros((n, points), pin_memory=True)
        self._stream = torch.cuda.Stream()
        self.finished = torch.cuda.Event()
        self._graph: Any = None
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream), torch.inference_mode():
            for _ in range(3):  # libraries choose their ways before a graph is captured
                self._found.copy_(work(*self._device))
        self._stream.synchronize()
        if graphs:
            self._graph = torch.cuda.CUDAGraph()
            with torch.inference_mode(), torch.cuda.graph(self._graph, stream=self._stream):
                self._found.copy_(work(*self._device))

    def start(self, stamps: np.ndarray, columns: Float32) -> None:
        """Copy in, work, copy out; returns at once."""
        n = len(columns)
        self._host[0][:n].copy_(torch.from_numpy(stamps))
        self._host[1][:n].copy_(torch.from_numpy(columns))
        with torch.cuda.stream(self._stream), torch.inference_mode():
            for here, there in zip(self._host, self._device, strict=True):
                there[:n].copy_(here[:n], non_blocking=True)
            if self._graph is not None:
                self._graph.replay()
            else:
                self._found.copy_(self._work(*self._device))
            self.answer[:n].copy_(self._found[:n], non_blocking=True)
            self.finished.record(self._stream)

    def again(self, times: int, begin: Any, end: Any) -> None:
        """The work alone, `times` over, between two events."""
        with torch.cuda.stream(self._stream), torch.inference_mode():
            begin.record(self._stream)
            for _ in range(times):
                if self._graph is not None:
                    self._graph.replay()
                else:
                    self._found.copy_(self._work(*self._device))
            end.record(self._stream)
        end.synchronize()


def _collect(slot: _Slot, rows: slice, out: Float32) -> int:
    slot.finished.synchronize()
    out[rows] = slot.answer[: rows.stop - rows.start].numpy()
    return int(rows.stop)
