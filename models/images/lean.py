"""The lean network: few, thin inception blocks over the stamps, a small one over magnitudes, and one head for both.

In the spirit of Henghes et al. 2022 (MNRAS 512, 1696), images and magnitudes in one network, with what has been learnt since: a
block's four 1 x 1 convolutions are one, a 5 x 5 is two 3 x 3, batch normalisation folds away at inference, and a mean over the
image stands where Pasquet's network has its dense layers of millions of weights.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.images.prelu import Prelu

WIDTHS = (32, 40, 48, 56, 64)
STEM = 32
HIDDEN = 256
BESIDE = 64  # width of the layers over magnitudes
DROPOUT = 0.2
HALVED = (1, 3)  # blocks after which the image is half as wide
LARGE = 40  # stamps wider than this are halved once more before the first block


def _eights(channels: float) -> int:
    """Channels in eights: what tensor cores and vector units take whole."""
    return int(channels / 8 + 0.5) * 8


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

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        narrow, half, thin = _eights(0.75 * width), _eights(0.5 * width), _eights(0.375 * width)
        self.parts = (width, narrow, thin, half)
        self.enter = Convolution(inputs, sum(self.parts), 1)
        self.three = Convolution(narrow, width, 3)
        self.five_a, self.five_b = Convolution(thin, half, 3), Convolution(half, width, 3)
        self.outputs = 3 * width + half

    def forward(self, x: Tensor) -> Tensor:
        """Of [n, inputs, S, S] makes [n, outputs, S, S]."""
        one, three, five, mean = torch.split(self.enter(x), self.parts, 1)
        around = functional.avg_pool2d(mean, 3, 1, 1, count_include_pad=False)
        return torch.cat([one, self.three(three), self.five_b(self.five_a(five)), around], 1)


class Lean(nn.Module):
    """Logits of the redshift grid's points from stamps and features.

    Parameters
    ----------
    bands, size
        Of the stamps; 0 bands = a network of features alone.
    features
        Columns beside the stamps; 0 = stamps alone.
    points
        Of the redshift grid.
    """

    def __init__(self, bands: int, size: int, features: int, points: int) -> None:
        super().__init__()
        self.large = size > LARGE
        self.shrink = 4 if self.large else 2  # after the stem
        inner = 0
        if bands:
            self.stem = Convolution(bands, STEM, 5 if self.large else 3)
            blocks, inner = [], STEM
            for width in WIDTHS:
                blocks.append(Inception(inner, width))
                inner = blocks[-1].outputs
            self.blocks = nn.ModuleList(blocks)
        self.bands, self.features = bands, features
        if features:
            self.beside = nn.Sequential(
                nn.Linear(features, BESIDE), nn.GELU("tanh"), nn.Linear(BESIDE, BESIDE), nn.GELU("tanh")
            )
            inner += BESIDE
        self.head = nn.Sequential(
            nn.Linear(inner, HIDDEN),
            nn.GELU("tanh"),
            nn.Dropout(DROPOUT),
            nn.Linear(HIDDEN, HIDDEN),
            nn.GELU("tanh"),
            nn.Dropout(DROPOUT),
            nn.Linear(HIDDEN, points),
        )

    def forward(self, stamps: Tensor, features: Tensor) -> Tensor:
        """Logits [n, points] of stamps [n, B, S, S] in units of the softening, not yet stretched, and features [n, F]."""
        return self.judge(self._look(torch.asinh(stamps)) if self.bands else None, features)

    def judge(self, sight: Tensor | None, features: Tensor) -> Tensor:
        """Logits [n, points] of what was seen in the stamps [n, C], means over the last block, and of features [n, F]."""
        seen = [] if sight is None else [sight]
        if self.features:
            seen.append(self.beside(features))
        return self.head(torch.cat(seen, 1) if len(seen) > 1 else seen[0])

    def _look(self, x: Tensor) -> Tensor:
        x = functional.avg_pool2d(self.stem(x), self.shrink)
        for k, block in enumerate(self.blocks):
            x = block(x)
            if k in HALVED:
                x = functional.avg_pool2d(x, 2)
        return x.mean((2, 3))


def folded(net: nn.Module) -> nn.Module:
    """A copy for inference, every batch normalisation folded into its convolution, stored channels last."""
    net = copy.deepcopy(net).eval()
    for part in net.modules():
        if isinstance(part, Convolution):
            part.convolution = nn.utils.fusion.fuse_conv_bn_eval(part.convolution, part.normalise)
            part.normalise = nn.Identity()
    return net.to(memory_format=torch.channels_last).requires_grad_(False)
