"""The network of Pasquet et al. 2019 (A&A 621, A26), for any number of bands and pixels: the reference.

Five inception blocks without normalisation, two dense layers of 1,096, E(B-V) beside the image. As published but for two things:
the images are arcsinh-stretched, as the lean network has them, and the bins are the points of the model's redshift grid.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.images.prelu import Prelu

DENSE = 1096


def _convolution(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, padding="same"), Prelu(outputs, init=0.0))


class Block(nn.Module):
    """An inception block: 1 x 1; 3 x 3 and 5 x 5 behind a 1 x 1 of their own; a mean of neighbours behind another."""

    def __init__(self, inputs: int, narrow: int, wide: int, five: bool = True) -> None:
        super().__init__()
        self.one = _convolution(inputs, wide, 1)
        self.to_three, self.three = _convolution(inputs, narrow, 1), _convolution(narrow, wide, 3)
        self.to_mean = _convolution(inputs, narrow, 1)
        self.has_five = five
        if five:
            self.to_five, self.five = _convolution(inputs, narrow, 1), _convolution(narrow, wide, 5)
        self.outputs = wide * (3 if five else 2) + narrow

    def forward(self, x: Tensor) -> Tensor:
        """Of [n, inputs, S, S] makes [n, outputs, S, S]."""
        mean = functional.avg_pool2d(functional.pad(self.to_mean(x), (0, 1, 0, 1)), 2, 1)
        parts = [self.one(x), self.three(self.to_three(x)), mean]
        if self.has_five:
            parts.insert(1, self.five(self.to_five(x)))
        return torch.cat(parts, 1)


class Pasquet(nn.Module):
    """Logits of the redshift grid's points from stamps and features. Parameters as of `models.images.lean_shape.LeanShape`."""

    def __init__(self, bands: int, size: int, features: int, points: int) -> None:
        super().__init__()
        self.first = _convolution(bands, 64, 5)
        blocks, inner = [], 64
        for narrow, wide, five in ((48, 64, True), (64, 92, True), (92, 128, True), (92, 128, True), (92, 128, False)):
            blocks.append(Block(inner, narrow, wide, five))
            inner = blocks[-1].outputs
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Sequential(
            nn.Linear(inner * (size // 8) ** 2 + features, DENSE),
            nn.ReLU(),
            nn.Linear(DENSE, DENSE),
            nn.ReLU(),
            nn.Linear(DENSE, points),
        )

    def forward(self, stamps: Tensor, features: Tensor) -> Tensor:
        """Logits [n, points] of stamps [n, B, S, S] in units of the softening, not yet stretched, and features [n, F]."""
        x = functional.avg_pool2d(self.first(torch.asinh(stamps)), 2)
        x = functional.avg_pool2d(self.blocks[1](self.blocks[0](x)), 2)
        x = functional.avg_pool2d(self.blocks[3](self.blocks[2](x)), 2)
        return self.head(torch.cat([self.blocks[4](x).flatten(1), features], 1))
