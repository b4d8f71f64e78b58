"""The lean network: few, thin inception blocks over the stamps, a small one over magnitudes, and one head for both.

In the spirit of Henghes et al. 2022 (MNRAS 512, 1696), images and magnitudes in one network, with what has been learnt since: a
block's four 1 x 1 convolutions are one, a 5 x 5 is two 3 x 3, batch normalisation folds away at inference, and a mean over the
image stands where Pasquet's network has its dense layers of millions of weights.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.images.lean_shape import BESIDE, HIDDEN, STEM, BlockShape, LeanShape
from models.images.prelu import Prelu

DROPOUT = 0.2


class Convolution(nn.Module):
    """Convolution, batch normalisation, PReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.normalise = nn.BatchNorm2d(outputs)
        self.activate = Prelu(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Of [n, inputs, S, S] makes [n, outputs, S, S]."""
        return self.activate(self.normalise(self.convolution(x)))


class Inception(nn.Module):
    """1 x 1, 3 x 3, 5 x 5 (as two 3 x 3) and a mean of neighbours, side by side."""

    def __init__(self, shape: BlockShape) -> None:
        super().__init__()
        self.parts = shape.parts
        width, narrow, thin, half = self.parts
        self.enter = Convolution(shape.inputs, sum(self.parts), 1)
        self.three = Convolution(narrow, width, 3)
        self.five_a, self.five_b = Convolution(thin, half, 3), Convolution(half, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Of [n, inputs, S, S] makes [n, outputs, S, S]."""
        one, three, five, mean = torch.split(self.enter(x), self.parts, 1)
        around = functional.avg_pool2d(mean, 3, 1, 1, count_include_pad=False)
        return torch.cat([one, self.three(three), self.five_b(self.five_a(five)), around], 1)


class Lean(nn.Module):
    """Logits of the redshift grid's points from stamps and features.

    Parameters
    ----------
    shape
        What it is made of.
    """

    def __init__(self, shape: LeanShape) -> None:
        super().__init__()
        self.shrink = shape.shrink
        if shape.bands:
            self.stem = Convolution(shape.bands, STEM, shape.kernel)
            self.blocks = nn.ModuleList(Inception(block) for block in shape.blocks)
            self.factors = [block.factor for block in shape.blocks]
        self.bands, self.features = shape.bands, shape.features
        if shape.features:
            self.beside = nn.Sequential(
                nn.Linear(shape.features, BESIDE), nn.GELU("tanh"), nn.Linear(BESIDE, BESIDE), nn.GELU("tanh")
            )
        self.head = nn.Sequential(
            nn.Linear(shape.inner, HIDDEN),
            nn.GELU("tanh"),
            nn.Dropout(DROPOUT),
            nn.Linear(HIDDEN, HIDDEN),
            nn.GELU("tanh"),
            nn.Dropout(DROPOUT),
            nn.Linear(HIDDEN, shape.points),
        )

    def forward(self, stamps: Tensor, features: Tensor) -> Tensor:
        """Logits [n, points] of stamps [n, B, S, S] in units of the softening, not yet stretched, and features [n, F]."""
        seen = [self._look(torch.asinh(stamps))] if self.bands else []
        if self.features:
            seen.append(self.beside(features))
        return self.head(torch.cat(seen, 1) if len(seen) > 1 else seen[0])

    def _look(self, x: Tensor) -> Tensor:
        x = functional.avg_pool2d(self.stem(x), self.shrink)
        for block, factor in zip(self.blocks, self.factors, strict=True):
            x = block(x)
            if factor > 1:
                x = functional.avg_pool2d(x, factor)
        return x.mean((2, 3))


def folded(net: nn.Module) -> nn.Module:
    """A copy for inference, every batch normalisation folded into its convolution, stored channels last."""
    net = copy.deepcopy(net).eval()
    for part in net.modules():
        if isinstance(part, Convolution):
            part.convolution = nn.utils.fusion.fuse_conv_bn_eval(part.convolution, part.normalise)
            part.normalise = nn.Identity()
    return net.to(memory_format=torch.channels_last).requires_grad_(False)
