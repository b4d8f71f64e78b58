"""Which of two models to believe, object by object, and why: decided when rows are read, stored nowhere.

The image model where it is in its domain (it gave a PDF, and no flag says that its image was missing or bad, or that the galaxy
is unlike its training set); else the forest; else neither. With a blend, that comes first, where both are in their domain.

Rows of both models belong together by identity (topic id, partition, offset, row: the same message seen by both), or where the
models read different topics by object id and event time, which must be equal.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.batch import Int64
from schemas.flags import Flag, names

IMAGES = "images"  # the kind of bundle that sees stamps; every other kind is a forest here
CHOICES = ("", "blend", "images", "forest", "none")  # "": another row of the object is the one
OUTSIDE = (
    Flag.NO_STAMP
    | Flag.BAD_STAMP
    | Flag.SATURATED_STAMP
    | Flag.MASK_UNSEEN
    | Flag.FEATURE_RANGE
    | Flag.OUT_OF_DISTRIBUTION
)

IDENTITY = ["topic_id", "kafka_partition", "kafka_offset", "kafka_row"]
COLUMNS = [*IDENTITY, "object_id", "mjd", "z_median", "flags"]  # what pairing and judging want of a row


class Seen(NamedTuple):
    """What one model said of a galaxy, as far as the choice goes."""

    flags: int
    pdf: bool  # whether it gave one

    @property
    def trusted(self) -> bool:
        """In its domain, with a PDF."""
        return self.pdf and not self.flags & OUTSIDE


class Judged(NamedTuple):
    """Which estimate is the best of an object, one of `CHOICES`, and why."""

    choice: str
    reason: str


class Choices(NamedTuple):
    """The best of n objects, told at their rows.

    Attributes
    ----------
    forest, images
        Index of a judgement for each row of either model, int64; -1 = the other model's row stands for the object.
    judged
        The judgements.
    pairs
        Rows of the forest and of the image model that belong together, int64[k] each.
    """

    forest: Int64
    images: Int64
    judged: list[Judged]
    pairs: tuple[Int64, Int64]


def judged(forest: Seen | None, images: Seen | None, blend: bool = False) -> Judged:
    """The choice for one object, of which a model may have no row.

    Parameters
    ----------
    forest, images
        What each said.
    blend
        Whether there is a blend of the two to choose.
    """
    if forest and images and blend and forest.trusted and images.trusted:
        return Judged("blend", "both models are in their domain")
    if images and images.trusted:
        if blend:
            why = "there is no row of the forest" if forest is None else _why("the forest", forest)
            return Judged("images", f"the image model is in its domain; no blend: {why}")
        return Judged("images", "the image model is in its domain")
    why = "there is no row of the image model" if images is None else _why("the image model", images)
    if forest and forest.pdf:
        doubt = forest.flags & OUTSIDE
        return Judged("forest", why + (f"; the forest itself has {_told(doubt)}" if doubt else ""))
    return Judged(
        "none", f"{why}; " + ("there is no row of the forest" if forest is None else _why("the forest", forest))
    )


def _why(model: str, seen: Seen) -> str:
    if seen.pdf:
        return f"{model} has {_told(seen.flags & OUTSIDE)}"
    return f"{model} gave no PDF" + (f" ({_told(seen.flags)})" if seen.flags else "")


def _told(flags: int) -> str:
    return ", ".join(names(flags))


def choose(forest: pa.Table, images: pa.Table, blend: bool = False) -> Choices:
    """The best of every object in two tables of `COLUMNS`.

    Parameters
    ----------
    forest, images
        Rows of one model each; rows that belong together are found by `paired`.
    blend
        Whether there is a blend of the two to choose.
    """
    at_forest, at_images = paired(forest, images)
    state_forest, state_images = _state(forest), _state(images)
    alone_forest = np.setdiff1d(np.arange(len(forest)), at_forest)
    alone_images = np.setdiff1d(np.arange(len(images)), at_images)
    nobody = np.int64(-1)
    both = np.concatenate(
        [
            np.stack([state_forest[at_forest], state_images[at_images]], 1),
            np.stack([state_forest[alone_forest], np.full(len(alone_forest), nobody)], 1),
            np.stack([np.full(len(alone_images), nobody), state_images[alone_images]], 1),
        ]
    )
    distinct, which = np.unique(both, axis=0, return_inverse=True)  # there are few: a sentence each
    which = which.reshape(-1)
    said = [judged(_seen(a), _seen(b), blend) for a, b in distinct.tolist()]
    from_images = np.array([j.choice in ("blend", "images") for j in said], bool)
    out_forest, out_images = np.full(len(forest), -1, np.int64), np.full(len(images), -1, np.int64)
    of_pair = which[: len(at_forest)]
    taken = from_images[of_pair] if len(said) else np.zeros(0, bool)
    out_images[at_images[taken]] = of_pair[taken]
    out_forest[at_forest[~taken]] = of_pair[~taken]
    out_forest[alone_forest] = which[len(at_forest) : len(at_forest) + len(alone_forest)]
    out_images[alone_images] = which[len(at_forest) + len(alone_forest) :]
    return Choices(out_forest, out_images, said, (at_forest, at_images))


def paired(a: pa.Table, b: pa.Table) -> tuple[Int64, Int64]:
    """Where in `a` and in `b` the rows stand that belong together: int64[k] each, in no particular order."""
    left, right = joined(a, b, IDENTITY)
    rest_a = np.setdiff1d(np.arange(len(a)), left)
    rest_b = np.setdiff1d(np.arange(len(b)), right)
    if not len(rest_a) or not len(rest_b):
        return left, right
    keys = ["object_id", "mjd", "again"]
    more_a, more_b = joined(_numbered(a.take(rest_a)), _numbered(b.take(rest_b)), keys)
    return np.concatenate([left, rest_a[more_a]]), np.concatenate([right, rest_b[more_b]])


def joined(a: pa.Table, b: pa.Table, keys: list[str]) -> tuple[Int64, Int64]:
    """Where in `a` and where in `b` the rows stand that have the same `keys`, in the order of `a`; null is like nothing."""
    left = a.select(keys).append_column("a", pa.array(np.arange(len(a))))
    right = b.select(keys).append_column("b", pa.array(np.arange(len(b))))
    found = left.join(right, keys, join_type="inner").sort_by("a")
    return found["a"].to_numpy(), found["b"].to_numpy()


def _numbered(rows: pa.Table) -> pa.Table:
    """`rows` with the column again: how many rows of the same object and time come before, by offset and row."""
    keys = ["object_id", "mjd", "kafka_offset", "kafka_row"]
    order = pc.sort_indices(rows, sort_keys=[(name, "ascending") for name in keys])
    ordered = rows.select(["object_id", "mjd"]).take(order)
    new = np.ones(len(rows), bool)
    for name in ("object_id", "mjd"):
        column = ordered[name].combine_chunks()
        same = pc.fill_null(pc.equal(column[1:], column[:-1]), True).to_numpy(zero_copy_only=False)
        new[1:] = (~same) if name == "object_id" else new[1:] | ~same
    first = np.flatnonzero(new)
    again = np.empty(len(rows), np.int64)
    again[order.to_numpy()] = np.arange(len(rows)) - np.repeat(first, np.diff(np.append(first, len(rows))))
    return rows.append_column("again", pa.array(again))


_PDF = 1 << 31


def _state(rows: pa.Table) -> npt.NDArray[np.int64]:
    """Flags, and a bit above them for a PDF, int64[n]."""
    has = rows["z_median"].is_valid().to_numpy()
    return np.asarray(rows["flags"].to_numpy().astype(np.int64) | np.where(has, _PDF, 0), np.int64)


def _seen(state: int) -> Seen | None:
    return None if state < 0 else Seen(state & (_PDF - 1), bool(state & _PDF))


class Message(NamedTuple):
    """Rows of one object that belong together, by whichever models.

    Attributes
    ----------
    rows
        Their places among the object's rows, newest first.
    forest, images
        Those of the two models that are chosen from; -1 where there is none.
    judged
        The best of them; None where the object has no row of an image model, so that there is nothing to choose.
    """

    rows: list[int]
    forest: int
    images: int
    judged: Judged | None


def messages(
    rows: pa.Table, models: pa.Table, both: tuple[str, str] | None = None, blend: bool = False
) -> list[Message]:
    """The rows of one object by message, in the order of their newest.

    Parameters
    ----------
    rows
        Newest first.
    models
        The models table, oldest first.
    both
        Names of the forest and the image model; None is the newest of either kind that has a row here.
    blend
        Whether there is a blend of the two to choose.
    """
    names_here = rows["model"].to_pylist()
    forest, images = both or _newest(set(names_here), models)
    of_forest = np.array([k for k, name in enumerate(names_here) if name == forest], np.int64)
    of_images = np.array([k for k, name in enumerate(names_here) if name == images], np.int64)
    identity = [tuple(row.values()) for row in rows.select(IDENTITY).to_pylist()]
    left, right = paired(rows.take(pa.array(of_forest)), rows.take(pa.array(of_images)))
    partner = dict(zip(of_images[right].tolist(), of_forest[left].tolist(), strict=True))
    same = {identity[k]: identity[partner[k]] for k in partner}  # messages of two topics that are one
    together: dict[tuple[object, ...], list[int]] = {}
    for k, own in enumerate(identity):
        together.setdefault(same.get(own, own), []).append(k)
    state = _state(rows)
    found = []
    for members in together.values():
        a = next((k for k in members if names_here[k] == forest), -1)
        b = next((k for k in members if names_here[k] == images), -1)
        seen = [None if k < 0 else _seen(int(state[k])) for k in (a, b)]
        choice = judged(seen[0], seen[1], blend) if images is not None and (a >= 0 or b >= 0) else None
        found.append(Message(members, a, b, choice))
    return found


def _newest(there: set[str], models: pa.Table) -> tuple[str | None, str | None]:
    """The newest forest and the newest image model among those that are there."""
    forest = images = None
    for name, kind in zip(models["model"].to_pylist(), models["kind"].to_pylist(), strict=True):
        if name in there:
            forest, images = (forest, name) if kind == IMAGES else (name, images)
    return forest, images
