"""Choices of a training, with their defaults."""

from dataclasses import dataclass

from schemas.errors import UserError

PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class ImageSettings:
    """What a person may choose.

    The schedule (warm-up, then a cosine) runs over `epochs`, or over `seconds` of training if those are given and end first.
    """

    epochs: int = 60
    seconds: float | None = (
        None  # of a network's training: the way to compare networks; a GPU's first steps do not count
    )
    batch: int = 128
    rate: float = 3e-3  # of AdamW at its peak
    decay: float = 0.03  # of the weights
    clip: float = 5.0  # of the gradient's norm
    warm_up: float = 0.05  # of the schedule
    smear: float = 0.008  # width of the soft labels, in (1 + z); at least 1.5 points of the grid
    cdf_weight: float = 20.0  # of the squared error of the distribution function beside the cross-entropy
    average: float = 0.995  # a step keeps this much of the moving average of the weights (less in the first steps)
    noise: float = 0.3  # added to the stamps anew in every step, in units of the sky's noise
    jitter: float = 0.05  # added to the columns anew in every step, in units of their scatter
    shift: int = 2  # pixels by which stamps are moved at most
    lose_band: float = (
        0.1  # chance that a galaxy is shown without bands; each of its bands then falls with a chance of 1/3
    )
    held_out: float = 0.12  # part of the training set that stops the training and recalibrates
    checks: int = 20  # evaluations on the held-out part over the schedule
    patience: int = 8  # checks without a better CRPS that end the training
    seed: int = 1
    precision: str = (
        "auto"  # of the layers: bfloat16, float32, or bfloat16 where the device has products of its matrices
    )

    def __post_init__(self) -> None:
        positive = (self.epochs, self.batch, self.rate, self.clip, self.checks, self.patience, self.smear)
        if min(positive) <= 0 or not 0 < self.held_out < 1 or not 0 <= self.lose_band <= 1 or (self.seconds or 1) <= 0:
            raise UserError(
                "Epochs, seconds, batch, rate, clip, checks, patience and smear must be positive, fractions between 0 and 1."
            )
        if self.precision not in PRECISIONS:
            raise UserError(
                f"No precision of training is called {self.precision!r}: there are {', '.join(PRECISIONS)}."
            )
