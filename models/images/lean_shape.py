"""What a lean network is made of, in numbers: torch builds it of them, and kernels know its weights by them. Needs no torch."""

from typing import NamedTuple

from models.images.architecture import Architecture

WIDTHS = (32, 40, 48, 56, 64)
STEM = 32
HIDDEN = 256
BESIDE = 64  # width of the layers over magnitudes
HALVED = (1, 3)  # blocks after which the image is half as wide
LARGE = 40  # stamps wider than this are halved once more before the first block

Parts = tuple[int, int, int, int]


class BlockShape(NamedTuple):
    """An inception block.

    Attributes
    ----------
    inputs
        Channels of its image.
    width
        Channels of its 1 x 1, of its 3 x 3 and of its 5 x 5.
    parts
        Channels that its first convolution makes for the 1 x 1, the 3 x 3, the 5 x 5 and the mean.
    factor
        By which what it makes is shrunk.
    """

    inputs: int
    width: int
    parts: Parts
    factor: int

    @property
    def outputs(self) -> int:
        """Channels of what it makes."""
        return 3 * self.width + self.parts[3]


class LeanShape(NamedTuple):
    """A lean network.

    Attributes
    ----------
    bands, size
        Of the stamps; 0 bands = a network of features alone.
    features
        Columns beside the stamps; 0 = stamps alone.
    points
        Of the redshift grid.
    """

    bands: int
    size: int
    features: int
    points: int

    @property
    def kernel(self) -> int:
        """Pixels along a side of the first convolution."""
        return 5 if self.size > LARGE else 3

    @property
    def shrink(self) -> int:
        """By which the image is shrunk after the first convolution."""
        return 4 if self.size > LARGE else 2

    @property
    def blocks(self) -> list[BlockShape]:
        """From the first to the last."""
        found, inputs = [], STEM
        for k, width in enumerate(WIDTHS if self.bands else ()):
            found.append(BlockShape(inputs, width, parts(width), 2 if k in HALVED else 1))
            inputs = found[-1].outputs
        return found

    @property
    def inner(self) -> int:
        """What the head is given: channels of the last block, and what is made of the features."""
        return (self.blocks[-1].outputs if self.bands else 0) + (BESIDE if self.features else 0)

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the weights, by the names that a bundle has for them, without the number of the network."""
        found: dict[str, tuple[int, ...]] = {}
        if self.bands:
            found |= _convolution("stem", self.bands, STEM, self.kernel)
        for k, block in enumerate(self.blocks):
            width, narrow, thin, half = block.parts
            found |= _convolution(f"blocks.{k}.enter", block.inputs, sum(block.parts), 1)
            found |= _convolution(f"blocks.{k}.three", narrow, width, 3)
            found |= _convolution(f"blocks.{k}.five_a", thin, half, 3)
            found |= _convolution(f"blocks.{k}.five_b", half, width, 3)
        if self.features:
            found |= _dense("beside.0", self.features, BESIDE) | _dense("beside.2", BESIDE, BESIDE)
        found |= _dense("head.0", self.inner, HIDDEN) | _dense("head.3", HIDDEN, HIDDEN)
        return found | _dense("head.6", HIDDEN, self.points)


def shape(of: Architecture) -> LeanShape:
    """Of a lean network."""
    features = of.columns.stop - of.columns.start
    return LeanShape(0 if of.sees == "magnitudes" else of.bands, of.size, features, of.points)


def parts(width: int) -> Parts:
    """Channels that the first convolution of a block makes for its 1 x 1, 3 x 3, 5 x 5 and mean."""
    return width, _eights(0.75 * width), _eights(0.375 * width), _eights(0.5 * width)


def _eights(channels: float) -> int:
    """Channels in eights: what tensor cores and vector units take whole."""
    return int(channels / 8 + 0.5) * 8


def _convolution(name: str, inputs: int, outputs: int, kernel: int) -> dict[str, tuple[int, ...]]:
    normalise = ("weight", "bias", "running_mean", "running_var")
    return {
        f"{name}.convolution.weight": (outputs, inputs, kernel, kernel),
        **{f"{name}.normalise.{one}": (outputs,) for one in normalise},
        f"{name}.activate.weight": (outputs,),
    }


def _dense(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}
