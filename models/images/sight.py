"""What lean networks see in stamps, on a CPU: their convolutions, by kernels over sixteen stamps abreast."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import llvmlite.binding
import numba
import numpy as np

from models.forest.lanes import WIDTH
from models.images.abreast import Block, Layer, inception, means, pixels, stem, stretched_in
from schemas.batch import Float32


def vectors() -> bool:
    """Whether kernels are compiled for the registers that these are written for; without them, torch's convolutions are faster.

    They are compiled for this machine, unless ``NUMBA_CPU_NAME`` and ``NUMBA_CPU_FEATURES`` say otherwise.
    """
    name, features = numba.config.CPU_NAME, numba.config.CPU_FEATURES  # type: ignore[attr-defined]
    if name in (None, "", "host") and not features:
        return bool(llvmlite.binding.get_host_cpu_features().get("avx512f"))
    return "avx512" in (name or "") or name == "x86-64-v4" or "+avx512f" in (features or "")


class Convolutions(NamedTuple):
    """Those of a lean network, batch normalisation folded.

    Attributes
    ----------
    stem, shrink
        The first, and by which its image is shrunk.
    blocks, factors
        The inception blocks, and by which what each makes is shrunk.
    channels
        Of the last block.
    """

    stem: Layer
    shrink: int
    blocks: list[Block]
    factors: list[int]
    channels: int


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
        Of the same bands and sizes.
    """

    def __init__(self, networks: Sequence[Convolutions]) -> None:
        self._networks = list(networks)
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


def _spaces(net: Convolutions, size: int) -> list[_Space]:
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
