"""Trains an image network: soft labels and the distribution function's error, AdamW, averaged weights, early stopping.

On a GPU the whole step (loss, gradients, optimiser) is one CUDA graph, so small networks are not held up by launches; the
training set lies on the device, in float16, and is turned, mirrored and robbed of bands there. Where the hardware has products of
bfloat16 matrices (a GPU, a core with AMX), layers work in it; weights, their average, the loss and held-out PDFs are float32.
"""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from models import grid as grids
from models import metrics
from models.images import checkpoint
from models.images.architecture import Architecture, network
from models.images.labels import Labels
from models.images.settings import ImageSettings
from schemas.batch import Float32, Float64

WARM_UP_STEPS = 4  # before a step is captured: libraries make their choices and their handles in them
CHECKPOINT_EVERY = 20.0  # seconds of training between two checkpoints, at ends of epochs
TELL_EVERY = 0.5  # seconds between two words about how far an epoch is
EVALUATE = 1024  # rows at once
SKY = 0.5  # noise of the sky in units of the stretch's softening: `models.images.inputs.SOFTENING_PER_SIGMA`


class Examples(NamedTuple):
    """What a network learns from or is checked on.

    Attributes
    ----------
    stamps
        In units of the softening, 0 where masked, float16 or float32[n, B, S, S].
    features
        Standardised columns that the network sees, float32[n, F].
    z
        Redshifts, float64[n].
    """

    stamps: np.ndarray
    features: Float32
    z: Float64

    def of(self, rows: np.ndarray) -> "Examples":
        """Those of some rows."""
        return Examples(self.stamps[rows], self.features[rows], self.z[rows])


class Check(NamedTuple):
    """How a training stood."""

    step: int
    seconds: float
    loss: float  # mean since the check before
    crps: float  # of the held-out part, by the averaged weights
    rate: float


class Trained(NamedTuple):
    """A trained network."""

    net: nn.Module  # best averaged weights, evaluation mode, on the CPU
    checks: list[Check]
    crps: float  # of the best check
    steps: int
    seconds: float


def train(
    of: Architecture,
    known: Examples,
    held_out: Examples,
    falls_with: Float32,
    grid: Float64,
    settings: ImageSettings,
    device: str = "cpu",
    keep: Path | None = None,
    tell: Callable[[float, Check | None], None] = lambda _done, _check: None,
    mark: str = "",
    clock: Callable[[], float] = time.perf_counter,
) -> Trained:
    """Train one network.

    Parameters
    ----------
    of
        The network.
    known, held_out
        What it learns from, and what stops it.
    falls_with
        Which of its columns fall with which band, float32[B, F].
    grid
        float64[G].
    settings
        The recipe.
    device
        ``cpu`` or ``cuda``.
    keep
        Where checkpoints go; a training that finds one there goes on from it. After Ctrl-C the last one stands.
    tell
        Called now and then with the part that is done, and after every check with it.
    mark
        Names what is trained on what: a checkpoint of another mark is not gone on from.
    clock
        Seconds, those that `settings.seconds` allows: of the wall, or of the CPU where others work on the same cores.

    Raises
    ------
    schemas.errors.UserError
        If the file at `keep` is no checkpoint, or of another mark.
    """
    course = _Course(of, known, held_out, falls_with, grid, settings, torch.device(device), clock)
    if keep is not None:
        course.restore(checkpoint.read(keep, mark))
    last_kept = -math.inf  # the first epoch's end is kept whenever it comes
    while not course.finished():
        course.epoch(tell)
        if keep is not None and (time.perf_counter() - last_kept > CHECKPOINT_EVERY or course.finished()):
            checkpoint.write(keep, course.state(), mark)
            last_kept = time.perf_counter()
    return course.result()


def precision(device: str, wanted: str = "auto") -> torch.dtype:
    """What the layers of a network in training work in on a device, by `ImageSettings.precision`."""
    if wanted != "auto":
        return torch.bfloat16 if wanted == "bfloat16" else torch.float32
    # On cores that have its products but no AMX it was not measured, on those that have neither it is several times slower.
    matrices = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return torch.bfloat16 if device == "cuda" or matrices() else torch.float32


class _Course:
    """All that a training works on, and where it stands."""

    def __init__(
        self,
        of: Architecture,
        known: Examples,
        held_out: Examples,
        falls_with: Float32,
        grid: Float64,
        settings: ImageSettings,
        device: torch.device,
        clock: Callable[[], float],
    ) -> None:
        torch.manual_seed(settings.seed)
        self.clock, self.precision = clock, precision(device.type, settings.precision)
        batch = min(settings.batch, len(known.z))
        self.settings, self.device, self.batch = replace(settings, batch=batch), device, batch
        self.net = network(of).to(device, memory_format=torch.channels_last)
        self.on_gpu = device.type == "cuda"
        self.stamps = torch.from_numpy(np.ascontiguousarray(known.stamps)).to(device)
        self.features = torch.from_numpy(known.features).to(device)
        self.z = torch.from_numpy(known.z.astype(np.float32)).to(device)
        self.falls_with = torch.from_numpy(falls_with).to(device)
        self.held_out, self.grid = held_out, grid
        self.labels = Labels(grid, settings, device)
        self.average = {k: v.detach().clone() for k, v in self.net.state_dict().items() if v.is_floating_point()}
        self.best = {k: v.clone() for k, v in self.average.items()}
        self.rate = torch.tensor(0.0, device=device) if self.on_gpu else 0.0
        more: dict[str, Any] = {"fused": True, "capturable": True} if self.on_gpu else {}
        self.optimiser = torch.optim.AdamW(
            self.net.parameters(), lr=self.rate, weight_decay=settings.decay, betas=(0.9, 0.99), **more
        )
        self.per_epoch = max(len(known.z) // batch, 1)
        self.step_number, self.epoch_number, self.elapsed = 0, 0, 0.0
        self.checks: list[Check] = []
        self.best_crps, self.stale, self.stopped = math.inf, 0, False
        self.loss_sum = torch.zeros((), device=device)
        self.loss_steps = 0
        self.slot = (
            torch.zeros((batch, *self.stamps.shape[1:]), dtype=self.stamps.dtype, device=device).contiguous(
                memory_format=torch.channels_last
            ),
            torch.zeros((batch, self.features.shape[1]), device=device),
            torch.zeros(batch, device=device),
        )
        self.graph: Any = None
        if self.on_gpu:
            torch.backends.cudnn.benchmark = True
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True

    def done(self) -> float:
        """Part of the schedule."""
        by_clock = 0.0 if self.settings.seconds is None else self.elapsed / self.settings.seconds
        return min(max(by_clock, self.step_number / (self.settings.epochs * self.per_epoch)), 1.0)

    def finished(self) -> bool:
        return self.stopped or self.done() >= 1.0

    def epoch(self, tell: Callable[[float, Check | None], None]) -> None:
        """One look at every galaxy, or fewer where the schedule ends within it."""
        dice = torch.Generator().manual_seed(self.settings.seed * 100_003 + self.epoch_number)
        order = torch.randperm(len(self.z), generator=dice)
        self.net.train()
        told = time.perf_counter()
        for first in range(0, self.per_epoch * self.batch, self.batch):
            began = self.clock()
            done = self.done()
            if done >= 1.0:
                break
            self._fill(order[first : first + self.batch].to(self.device), dice)
            self._set_rate(done)
            self._learn()
            self._average(min(self.settings.average, (1 + self.step_number) / (10 + self.step_number)))
            self.step_number += 1
            self.loss_steps += 1
            if self.on_gpu and self.step_number % 16 == 0:
                torch.cuda.synchronize()  # the clock of a schedule in seconds counts work, not launches
            if not self.on_gpu or self.step_number > WARM_UP_STEPS + 1:
                self.elapsed += self.clock() - began
            if time.perf_counter() - told > TELL_EVERY:
                told = time.perf_counter()
                tell(self.done(), None)
            if self.done() * self.settings.checks >= len(self.checks) + 1 or self.done() >= 1.0:
                tell(self.done(), self._check())
                if self.stopped:
                    break
        self.epoch_number += 1
        tell(self.done(), None)

    def _fill(self, rows: Tensor, dice: torch.Generator) -> None:
        """The next batch: each galaxy turned or mirrored, all moved a little, noise added, some without some bands."""
        n, n_bands = len(rows), self.stamps.shape[1]
        ways = torch.randint(2, (3, n, 1, 1, 1), generator=dice).bool().to(self.device)
        some = torch.rand((n, 1), generator=dice) < self.settings.lose_band
        kept = ~(some & (torch.rand((n, n_bands), generator=dice) < 1 / 3))
        kept[:, 0] |= ~kept.any(1)
        kept = kept.to(self.device)
        x = self.stamps[rows]
        x = torch.where(ways[0], x.flip(-1), x)
        x = torch.where(ways[1], x.flip(-2), x)
        x = torch.where(ways[2], x.transpose(-1, -2), x)
        down, right = (
            int(s) for s in torch.randint(-self.settings.shift, self.settings.shift + 1, (2,), generator=dice)
        )
        x = torch.roll(x, (down, right), (2, 3))
        x = x + self.settings.noise * SKY * torch.randn(x.shape, dtype=x.dtype, device=x.device)
        a = self.features[rows]
        a = torch.where(a == 0, a, a + self.settings.jitter * torch.randn(a.shape, device=a.device))
        self.slot[0].copy_(x * kept[:, :, None, None])
        self.slot[1].copy_(a * ((~kept).float() @ self.falls_with == 0))
        self.slot[2].copy_(self.z[rows])

    def _set_rate(self, done: float) -> None:
        settings = self.settings
        rate = settings.rate * min(done / settings.warm_up + 0.02, 1.0) * 0.5 * (1 + math.cos(math.pi * done))
        if isinstance(self.rate, Tensor):
            self.rate.fill_(rate)
        else:
            for group in self.optimiser.param_groups:
                group["lr"] = rate

    def _loss(self) -> Tensor:
        mixed = self.precision != torch.float32  # a captured step must not find weights that a step before it has cast
        with torch.autocast(self.device.type, self.precision, mixed, not self.on_gpu):
            logits = self.net(self.slot[0].float() if not self.on_gpu else self.slot[0], self.slot[1])
        return self.labels.loss(logits.float(), self.slot[2])

    def _plain(self) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        loss = self._loss()
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), self.settings.clip)
        self.optimiser.step()
        self.loss_sum += loss.detach()

    def _learn(self) -> None:
        if not self.on_gpu:
            self._plain()
            return
        if self.graph is None and self.step_number < WARM_UP_STEPS:
            beside = torch.cuda.Stream()
            beside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(beside):
                self._plain()
            torch.cuda.current_stream().wait_stream(beside)
            return
        if self.graph is None:
            self.optimiser.zero_grad(set_to_none=True)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self._plain()
        self.graph.replay()

    def _average(self, keep: float) -> None:
        state = self.net.state_dict()
        names = list(self.average)
        torch._foreach_lerp_([self.average[k] for k in names], [state[k] for k in names], 1.0 - keep)

    def _check(self) -> Check:
        pdf = self._pdfs(self.average)
        crps = float(metrics.pdf_scores(pdf, self.grid, self.held_out.z)[1].mean())
        rate = float(self.rate) if isinstance(self.rate, Tensor) else self.optimiser.param_groups[0]["lr"]
        check = Check(self.step_number, self.elapsed, float(self.loss_sum) / max(self.loss_steps, 1), crps, float(rate))
        self.loss_sum.zero_()
        self.loss_steps = 0
        self.checks.append(check)
        if crps < self.best_crps:
            self.best_crps, self.stale = crps, 0
            for name, value in self.best.items():
                value.copy_(self.average[name])
        else:
            self.stale += 1
            self.stopped = self.stale >= self.settings.patience
        self.net.train()
        return check

    def _pdfs(self, weights: dict[str, Tensor]) -> Float32:
        """Of the held-out part, by `weights`."""
        kept = {k: v.detach().clone() for k, v in self.net.state_dict().items()}
        self._load(weights)
        out = pdfs(self.net, self.held_out, self.grid, self.device)
        self._load(kept)
        return out

    @torch.no_grad()
    def _load(self, weights: dict[str, Tensor]) -> None:
        """In place: a captured step works on these very tensors."""
        state = self.net.state_dict()
        for name, value in weights.items():
            state[name].copy_(value)

    def result(self) -> Trained:
        self._load(self.best)
        net = self.net.to("cpu").eval().requires_grad_(False)
        return Trained(net, self.checks, self.best_crps, self.step_number, self.elapsed)

    # Checkpoints

    def state(self) -> checkpoint.State:
        """All that a training needs to go on; between two epochs."""
        tensors = {f"net.{k}": v for k, v in self.net.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.items()}
        tensors |= {f"best.{k}": v for k, v in self.best.items()}
        for number, of_parameter in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{number}.{k}": v for k, v in of_parameter.items()}
        numbers = {
            "step": self.step_number,
            "epoch": self.epoch_number,
            "elapsed": self.elapsed,
            "best_crps": self.best_crps if math.isfinite(self.best_crps) else None,
            "stale": self.stale,
            "stopped": self.stopped,
            "checks": [list(check) for check in self.checks],
        }
        return checkpoint.State({k: v.detach().cpu().clone() for k, v in tensors.items()}, numbers)

    def restore(self, state: checkpoint.State | None) -> None:
        if state is None:
            return
        self._load({k[4:]: v for k, v in state.tensors.items() if k.startswith("net.")})
        for name, those in (("average.", self.average), ("best.", self.best)):
            for key, value in those.items():
                value.copy_(state.tensors[name + key])
        of_parameters: dict[int, dict[str, Tensor]] = {}
        for key, value in state.tensors.items():
            if key.startswith("optimiser."):
                _, number, name = key.split(".")
                of_parameters.setdefault(int(number), {})[name] = value
        whole = self.optimiser.state_dict()
        self.optimiser.load_state_dict({"state": of_parameters, "param_groups": whole["param_groups"]})
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate  # the very tensor that the schedule writes to, not a copy
        numbers = state.numbers
        self.step_number, self.epoch_number = numbers["step"], numbers["epoch"]
        self.elapsed, self.stale, self.stopped = numbers["elapsed"], numbers["stale"], numbers["stopped"]
        self.best_crps = math.inf if numbers["best_crps"] is None else numbers["best_crps"]
        self.checks = [Check(*check) for check in numbers["checks"]]


@torch.no_grad()
def pdfs(net: nn.Module, examples: Examples, grid: Float64, device: torch.device | str = "cpu") -> Float32:
    """Densities on the grid of a network in float32, not recalibrated, float32[n, G]."""
    net.eval()
    parts = []
    for first in range(0, len(examples.z), EVALUATE):
        rows = slice(first, first + EVALUATE)
        stamps = torch.from_numpy(np.ascontiguousarray(examples.stamps[rows])).to(device).float()
        stamps = stamps.contiguous(memory_format=torch.channels_last)
        features = torch.from_numpy(examples.features[rows]).to(device)
        parts.append(torch.softmax(net(stamps, features).float(), 1).cpu().numpy())
    weights = grids.trapezoid(grid)
    return (np.concatenate(parts) / weights).astype(np.float32)
