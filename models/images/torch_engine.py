"""Networks by torch on the CPU: batch normalisation folded, float32; what lean ones see in stamps by kernels of our own."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from models.images.lean import Lean, folded
from models.images.sight import Sight, vectors
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
    kernels
        Whether lean networks are evaluated by the kernels of `models.images.abreast`; by default where they are the faster way.
    """

    def __init__(self, networks: Sequence[Any], batch: int = BATCH, kernels: bool | None = None) -> None:
        self._networks = [folded(net) for net in networks]
        self.batch = batch
        able = all(isinstance(net, Lean) and net.bands for net in self._networks)
        self._sight = Sight(self._networks) if able and (vectors() if kernels is None else kernels) else None

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
        seen = None if self._sight is None else self._sight.features(stamps, torch.get_num_threads())
        parts = []
        for first in range(0, len(columns), self.batch):
            rows = slice(first, first + self.batch)
            a = torch.from_numpy(np.ascontiguousarray(columns[rows]))
            if seen is None:
                x = torch.from_numpy(np.ascontiguousarray(stamps[rows], np.float32))
                x = x.contiguous(memory_format=torch.channels_last)
                logits = [net(x, a) for net in self._networks]
            else:
                logits = [
                    net.judge(torch.from_numpy(one[rows]), a) for net, one in zip(self._networks, seen, strict=True)
                ]
            total = sum(torch.softmax(one, 1) for one in logits)
            parts.append((total / len(self._networks)).numpy())
        return np.concatenate(parts) if parts else np.empty((0, self._points()), np.float32)

    def _points(self) -> int:
        return int(self._networks[0].head[-1].out_features)
