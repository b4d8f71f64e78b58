"""What a network in training is held against: soft labels on the redshift grid."""

import numpy as np
import torch
from torch import Tensor

from models import grid as grids
from models.images.settings import ImageSettings
from schemas.batch import Float64


class Labels:
    """Soft labels on the grid, and the loss against them."""

    def __init__(self, grid: Float64, settings: ImageSettings, device: torch.device) -> None:
        weights = grids.trapezoid(grid)
        self._grid = torch.from_numpy(grid.astype(np.float32)).to(device)
        self._log_weight = torch.from_numpy(np.log(weights / weights.max()).astype(np.float32)).to(device)
        self._narrowest = 1.5 * grids.step_of(grid)
        self._smear, self._cdf_weight = settings.smear, settings.cdf_weight

    def loss(self, logits: Tensor, z: Tensor) -> Tensor:
        """Mean over a batch: cross-entropy with a Gaussian about the truth, and squared error of the distribution function."""
        z = z[:, None]
        width = (self._smear * (1 + z)).clamp(min=self._narrowest)
        target = torch.softmax(-0.5 * ((self._grid - z) / width) ** 2 + self._log_weight, 1)
        log_p = torch.log_softmax(logits, 1)
        entropy = -(target * log_p).sum(1)
        away = torch.cumsum(log_p.exp() - target, 1)
        return (entropy + self._cdf_weight * (away * away).mean(1)).mean()
