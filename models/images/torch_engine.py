"""Networks by torch on the CPU: batch normalisation folded, channels last, float32."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from models.images.lean import folded
from schemas.batch import Float32

BATCH = 64  # stamps at once: the fastest on a core, for the sums of a block stay in its cache


class CpuEngine:
    """An `Engine`. Uses as many threads as torch is told (`torch.set_num_threads`): one is best where cores are shared.

    Parameters
    ----------
    networks
        Torch modules in evaluation mode.
    batch
        Stamps at once.
    """

    def __init__(self, networks: Sequence[Any], batch: int = BATCH) -> None:
        self._networks = [folded(net) for net in networks]
        self.batch = batch

    @property
    def name(self) -> str:
        """Device and precision."""
        return "torch cpu float32"

    @property
    def takes(self) -> np.dtype[Any]:
        """See `models.images.engine.Engine`."""
        return np.dtype(np.float32)

    @torch.inference_mode()
    def probabilities(self, stamps: np.ndarray, columns: Float32) -> Float32:
        """See `models.images.engine.Engine`."""
        parts = []
        for first in range(0, len(columns), self.batch):
            rows = slice(first, first + self.batch)
            x = torch.from_numpy(np.ascontiguousarray(stamps[rows], np.float32))
            x = x.contiguous(memory_format=torch.channels_last)
            a = torch.from_numpy(np.ascontiguousarray(columns[rows]))
            total = sum(torch.softmax(net(x, a), 1) for net in self._networks)
            parts.append((total / len(self._networks)).numpy())
        return np.concatenate(parts) if parts else np.empty((0, self._points()), np.float32)

    def _points(self) -> int:
        return int(self._networks[0].head[-1].out_features)
