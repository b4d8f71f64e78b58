"""Lean networks on a CPU by kernels of our own, float32, batch normalisation folded. torch is not needed, nor asked."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from models.forest.lanes import WIDTH
from models.images.abreast import Block, Layer, packed
from models.images.dense import Dense, applied, dense, gelu, softmax
from models.images.lean_shape import LeanShape
from models.images.sight import Convolutions, Sight
from schemas.batch import Float32

BATCH = 64  # stamps at once: a multiple of those that lie abreast
EPSILON = 1e-5  # of batch normalisation, as torch has it
COUNT = "num_batches_tracked"  # what batch normalisation keeps for its training

Tensors = Mapping[str, np.ndarray]


class _Judge(NamedTuple):
    """The dense layers of a network."""

    beside: list[Dense]
    head: list[Dense]


class KernelEngine:
    """An `Engine`. A galaxy's answer is the same to the last bit in every batch.

    Parameters
    ----------
    shape
        Of the networks.
    networks
        Of each its tensors, by `LeanShape.tensors`' names.
    batch
        Stamps at once.
    threads
        That share the stamps; None = one for each core that this process may use.

    Raises
    ------
    ValueError
        If tensors are missing, are not of the network's shape, or belong to none of its layers.
    """

    takes = np.dtype(np.float32)
    name = "kernels cpu float32"

    def __init__(
        self, shape: LeanShape, networks: Sequence[Tensors], batch: int = BATCH, threads: int | None = None
    ) -> None:
        for tensors in networks:
            _check(shape, tensors)
        self.batch = batch
        self.threads = len(os.sched_getaffinity(0)) if threads is None else threads
        self._shape = shape
        self._sight = Sight([_convolutions(shape, tensors) for tensors in networks]) if shape.bands else None
        self._judges = [_judge(shape, tensors) for tensors in networks]

    def probabilities(self, stamps: np.ndarray, columns: Float32) -> Float32:
        """See `models.images.engine.Engine`."""
        n = len(columns)
        out = np.empty((n, self._shape.points), np.float32)
        unseen = [np.empty((n, 0), np.float32)] * len(self._judges)
        seen = unseen if self._sight is None else self._sight.features(stamps, self.threads)
        for first in range(0, n, WIDTH):
            rows = slice(first, first + WIDTH)
            beside = _abreast(columns[rows])
            judged = [
                _judged(judge, _abreast(one[rows]), beside) for judge, one in zip(self._judges, seen, strict=True)
            ]
            mean = sum(judged[1:], judged[0]) / np.float32(len(judged))
            out[rows] = mean.T[: n - first]
        return out


def _check(shape: LeanShape, tensors: Tensors) -> None:
    wanted = shape.tensors()
    given = {name: tensor.shape for name, tensor in tensors.items() if not name.endswith(COUNT)}
    if wanted != given:
        wrong = sorted(name for name in wanted.keys() | given.keys() if wanted.get(name) != given.get(name))
        raise ValueError(f"{wrong[0]} is {given.get(wrong[0])}, and should be {wanted.get(wrong[0])}")


def _convolutions(shape: LeanShape, tensors: Tensors) -> Convolutions:
    def block(k: int) -> Block:
        enter, three, five_a, five_b = (
            _folded(tensors, f"blocks.{k}.{part}") for part in ("enter", "three", "five_a", "five_b")
        )
        return Block(enter, three, five_a, five_b, shape.blocks[k].parts)

    return Convolutions(
        _folded(tensors, "stem"),
        shape.shrink,
        [block(k) for k in range(len(shape.blocks))],
        [one.factor for one in shape.blocks],
        shape.blocks[-1].outputs,
    )


def _folded(tensors: Tensors, name: str) -> Layer:
    """A convolution with what batch normalisation does to it, by the statistics of its training."""
    weight, slope = tensors[f"{name}.convolution.weight"], tensors[f"{name}.activate.weight"]
    scale, shift, mean, variance = (
        tensors[f"{name}.normalise.{one}"].astype(np.float64)
        for one in ("weight", "bias", "running_mean", "running_var")
    )
    scale /= np.sqrt(variance + EPSILON)
    return Layer(
        packed((weight * scale[:, None, None, None]).astype(np.float32)),
        (shift - mean * scale).astype(np.float32),
        np.array(slope, np.float32, order="C"),  # a copy may be written to, as kernels want it
        weight.shape[1],
        weight.shape[2],
    )


def _judge(shape: LeanShape, tensors: Tensors) -> _Judge:
    def layers(*names: str) -> list[Dense]:
        return [dense(tensors[f"{name}.weight"], tensors[f"{name}.bias"]) for name in names]

    return _Judge(layers("beside.0", "beside.2") if shape.features else [], layers("head.0", "head.3", "head.6"))


def _abreast(rows: np.ndarray) -> Float32:
    """Up to sixteen rows of K numbers as float32[K, 16], zeroes where there is none."""
    out = np.zeros((rows.shape[1], WIDTH), np.float32)
    out[:, : len(rows)] = rows.T
    return out


def _judged(judge: _Judge, seen: Float32, beside: Float32) -> Any:
    for layer in judge.beside:
        beside = gelu(applied(layer, beside))
    x = np.concatenate([seen, beside]) if judge.beside else seen
    for layer in judge.head[:-1]:
        x = gelu(applied(layer, x))
    return softmax(applied(judge.head[-1], x))
