"""Many series at once, a row each: what rates and rules need of 1,000 partitions read by three models, in a few array calls."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.batch import Float64, Int64

Bool = npt.NDArray[np.bool_]
Intp = npt.NDArray[np.intp]

UNKNOWN = -1
SHORTEST = 10.0  # seconds: over less, a commit more or less is all that a rate shows


class Passed(NamedTuple):
    """When logs grew past offsets, float64[rows] each, seconds since 1970 UTC; NaN where that was not seen.

    Attributes
    ----------
    before
        Last look at which the end was at most the offset: the message came after it.
    after
        First look at which it was beyond: the message was there.
    between
        By a straight line between both, where both are known.
    """

    before: Float64
    after: Float64
    between: Float64


class Leaps(NamedTuple):
    """How logs began: at the last look (int64[rows]), offsets a second (NaN: not known), the greatest leap between two looks."""

    last: Int64
    speed: Float64
    greatest: Int64


class Sheet(NamedTuple):
    """Offsets of many partitions at the same looks, oldest first. NaN stands for what is not known.

    At a look that did not know a row its offset and its time are those of the look before.

    Attributes
    ----------
    at
        float64[rows, looks], seconds since 1970 UTC, by our clock; of columns before `begun` without a meaning.
    value
        int64[rows, looks]; `UNKNOWN` before `begun`.
    begun
        Column of the first look that knew a row, intp[rows]; as many as there are looks where none did.
    """

    at: Float64
    value: Int64
    begun: Intp

    @classmethod
    def of(cls, at: Float64, value: Int64) -> "Sheet":
        """Of looks at the times `at`, float64[looks], and what they knew, int64[rows, looks], `UNKNOWN` where nothing."""
        looks = value.shape[1]
        times = np.broadcast_to(at, value.shape)
        known = value >= 0
        begun = np.full(len(value), 0 if looks else looks, np.intp)
        if not known.all():
            begun = np.where(known.any(axis=1), known.argmax(axis=1), looks)
            holes = np.flatnonzero(known.sum(axis=1) < looks - begun)
            if len(holes):
                last = np.maximum.accumulate(np.where(known[holes], np.arange(looks), 0), axis=1)
                value, times = value.copy(), times.copy()
                value[holes], times[holes] = np.take_along_axis(value[holes], last, 1), at[last]
        return cls(times, value, begun)

    def rows(self, chosen: Intp) -> "Sheet":
        """Some rows, each as often as it is chosen."""
        return Sheet(self.at[chosen], self.value[chosen], self.begun[chosen])

    def first(self) -> tuple[Float64, Int64]:
        """Time and offset at the first look that knew a row; NaN and `UNKNOWN` where none did."""
        rows, looks = self.value.shape
        if not looks:
            return np.full(rows, np.nan), np.full(rows, UNKNOWN)
        column, every = np.minimum(self.begun, looks - 1), np.arange(rows)
        return np.where(self.begun < looks, self.at[every, column], np.nan), self.value[every, column]

    def rate(self) -> Float64:
        """Offsets a second from the first look to the last; NaN where they are too close. Never negative."""
        then, offset = self.first()
        if not self.value.shape[1]:
            return then
        seconds = self.at[:, -1] - then
        seconds = np.where(seconds >= SHORTEST, seconds, np.nan)
        return np.asarray(np.maximum((self.value[:, -1] - offset) / seconds, 0.0))

    def fell(self) -> Bool:
        """Whether they ever went back."""
        return np.asarray((self.value[:, 1:] < self.value[:, :-1]).any(axis=1))

    def moved(self) -> Float64:
        """When they were first seen where they are now; NaN where they were never seen anywhere else."""
        rows, looks = self.value.shape
        if not looks:
            return np.full(rows, np.nan)
        other = self.value != self.value[:, -1:]
        newest = looks - 1 - other[:, ::-1].argmax(axis=1)  # last look that saw another offset
        found = other.any(axis=1) & (newest >= self.begun)
        return np.where(found, self.at[np.arange(rows), np.minimum(newest + 1, looks - 1)], np.nan)

    def passed(self, offset: Int64) -> Passed:
        """When the rows, that never go back, grew past `offset`, int64[rows]."""
        rows, looks = self.value.shape
        none = np.full(rows, np.nan)
        if not looks:
            return Passed(none, none, none)
        beyond, every = (self.value <= offset[:, None]).sum(axis=1), np.arange(rows)
        low, high = np.maximum(beyond - 1, 0), np.minimum(beyond, looks - 1)
        before = np.where(beyond > self.begun, self.at[every, low], np.nan)
        after = np.where(beyond < looks, self.at[every, high], np.nan)
        span = self.value[every, high] - self.value[every, low]
        share = (offset - self.value[every, low]) / np.where(span > 0, span, 1)
        return Passed(before, after, before + share * (after - before))

    def leaps(self) -> Leaps:
        """Of rows where logs begin: how fast that goes on."""
        rows, looks = self.value.shape
        known = np.arange(1, looks) > self.begun[:, None]  # both looks of a step
        steps = np.where(known, np.diff(self.value, axis=1), 0)
        last = self.value[:, -1] if looks else np.full(rows, UNKNOWN)
        return Leaps(last, self.rate(), steps.max(axis=1, initial=0))

    def ahead(self, less: "Sheet") -> Int64:
        """How far the rows were beyond those of `less` at the first look that knew both; `UNKNOWN` where none did.

        Both have the same looks.
        """
        rows, looks = self.value.shape
        if not looks:
            return np.full(rows, UNKNOWN)
        first = np.maximum(self.begun, less.begun)
        column, every = np.minimum(first, looks - 1), np.arange(rows)
        then = np.maximum(self.value[every, column] - less.value[every, column], 0)
        return np.where(first < looks, then, UNKNOWN)
