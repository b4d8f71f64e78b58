"""What lean networks see in stamps, on a CPU: their convolutions, by kernels over sixteen stamps abreast."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import llvmlite.binding
import numpy as np

from models.forest.lanes import WIDTH
from models.images.abreast import Block, Layer, inception, means, packed, pixels, stem, stretched_in
from schemas.batch import Float32


def vectors() -> bool:
    """Whether this machine has the registers that the kernels are written for; without them, torch's convolutions are faster."""
    return bool(llvmlite.binding.get_host_cpu_features().get("avx512f"))


class _Network(NamedTuple):
    stem: Layer
    shrink: int  # after the stem
    blocks: list[Block]
    factors: list[int]  # by which each block's output is shrunk
    channels: int  # of the last block


class _Space(NamedTuple):
    """Room for what a block, or the stem, makes of sixteen stamps: see `models.images.abreast.inception`."""

    inside: Float32
    middle: Float32
    strip: Float32
    out: Float32


class _Room(NamedTuple):
    shape: tuple[int, ...]  # bands and sides of the stamps
    stretched: Float32
    spaces: list[list[_Space]]  # of each network its stem's and its blocks'


class Sight:
    """What networks see in stamps. Threads may ask at once: each is lent a room of its own.

    Parameters
    ----------
    networks
        `models.images.lean.Lean` of the same bands that see stamps, batch normalisation folded.

    Raises
    ------
    ValueError
        If there is no kernel for a layer.
    """

    def __init__(self, networks: Sequence[Any]) -> None:
        self._networks = [_network(net) for net in networks]
        self._margin = self._networks[0].stem.kernel // 2
        self._spare: list[_Room] = []

    def features(self, stamps: np.ndarray, threads: int = 1) -> list[Float32]:
        """Means over the image of each channel of the last block.

        Parameters
        ----------
        stamps
            In units of the softening, not stretched, finite, float16 or float32[n, B, S, S].
        threads
            That share the stamps.

        Returns
        -------
        list of Float32
            Of each network float32[n, C].
        """
        out = [np.empty((len(stamps), net.channels), np.float32) for net in self._networks]
        firsts = range(0, len(stamps), WIDTH)
        if threads == 1 or len(firsts) < 2:
            for first in firsts:
                self._look(stamps, first, out)
        else:
            with ThreadPoolExecutor(min(threads, len(firsts))) as pool:
                list(pool.map(lambda first: self._look(stamps, first, out), firsts))
        return out

    def _look(self, stamps: np.ndarray, first: int, out: list[Float32]) -> None:
        """At sixteen stamps, or what is left."""
        some = np.array(
            stamps[first : first + WIDTH], np.float32, order="C"
        )  # a copy may be written to, as kernels want it
        room = self._room(some.shape[1:])
        stretched_in(some, room.stretched, self._margin)
        for net, spaces, found in zip(self._networks, room.spaces, out, strict=True):
            x = spaces[0].out
            stem(room.stretched, net.stem, x, net.shrink, spaces[0].strip)
            for block, factor, space in zip(net.blocks, net.factors, spaces[1:], strict=True):
                inception(x, block, space.inside, space.middle, space.out, factor, space.strip)
                x = space.out
            means(x, found[first : first + WIDTH])
        self._spare.append(room)

    def _room(self, shape: tuple[int, ...]) -> _Room:
        try:
            room = self._spare.pop()
        except IndexError:  # all are lent
            pass
        else:
            if room.shape == shape:
                return room
        bands, size, _ = shape
        return _Room(shape, pixels(size, size, bands, self._margin), [_spaces(net, size) for net in self._networks])


def _network(net: Any) -> _Network:
    from models.images.lean import HALVED

    blocks = [
        Block(_layer(part.enter), _layer(part.three), _layer(part.five_a), _layer(part.five_b), part.parts)
        for part in net.blocks
    ]
    factors = [2 if k in HALVED else 1 for k in range(len(blocks))]
    return _Network(_layer(net.stem), net.shrink, blocks, factors, net.blocks[-1].outputs)


def _layer(part: Any) -> Layer:
    """Of a folded `models.images.lean.Convolution`."""
    of = part.convolution
    side = of.kernel_size[0]
    if (of.kernel_size, of.padding, of.stride, of.dilation, of.groups) != (
        (side, side),
        (side // 2, side // 2),
        (1, 1),
        (1, 1),
        1,
    ):
        raise ValueError(f"no kernel for {of}")
    weight, bias, slope = (
        np.array(one.detach().numpy(), np.float32, order="C") for one in (of.weight, of.bias, part.activate.weight)
    )
    return Layer(packed(weight), bias, slope, of.in_channels, side)


def _spaces(net: _Network, size: int) -> list[_Space]:
    side, channels = size // net.shrink, len(net.stem.bias)
    none = pixels(0, 0, 0, 0)
    spaces = [_Space(none, none, pixels(net.shrink, size, channels, 0), pixels(side, side, channels, 1))]
    for block, factor in zip(net.blocks, net.factors, strict=True):
        width, narrow, thin, half = block.parts
        spaces.append(
            _Space(
                pixels(side, side, narrow + thin + half, 1),
                pixels(side, side, half, 1),
                pixels(factor, side, max(width, half), 0),
                pixels(side // factor, side // factor, 3 * width + half, 1),
            )
        )
        side //= factor
    return spaces
