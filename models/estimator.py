"""What every photo-z model is to the rest of the house: a bundle that turns galaxies into estimates."""

import importlib
from pathlib import Path
from typing import Any, Protocol

from models.bundle import Bundle, read
from schemas.batch import Estimates, Float64, Galaxies
from schemas.errors import UserError

# Kind of bundle -> where its estimator lives: `Class(bundle)`. A new kind of model is a new line here.
KINDS: dict[str, tuple[str, str]] = {
    "forest": ("models.forest.estimator", "ForestEstimator"),
    "forest+mlp": ("models.blend_estimator", "BlendEstimator"),
    "images": ("models.images.estimator", "ImageEstimator"),
}
ON_DEVICES = {"images"}  # kinds that are told a device, one of models.images.engine.DEVICES: `Class(bundle, device)`


class Estimator(Protocol):
    """A trained model, ready to estimate.

    `estimate` is pure: no state changes, a row's result is the same to the last bit whatever rows stand beside it, in whatever
    order, on whatever thread. (Kind ``images``: but for rounding. Its libraries sum otherwise in other batches.) Several threads
    may call it at once; its kernels release the GIL. The caller may not assume anything about how long it takes, nor that the
    arrays it gets back share or do not share memory with each other.
    """

    @property
    def card(self) -> dict[str, Any]:
        """The model card as read from the bundle: JSON values only; not to be changed."""
        ...

    @property
    def kind(self) -> str:
        """Kind of model: ``forest``, ``forest+mlp``, ``images``."""
        ...

    @property
    def survey(self) -> str:
        """The survey it was trained for."""
        ...

    @property
    def bands(self) -> tuple[str, ...]:
        """The bands it wants, in this order."""
        ...

    @property
    def grid(self) -> Float64:
        """Redshifts at which PDFs are given, float64[G], rising."""
        ...

    @property
    def sha256(self) -> str:
        """Content hash of the bundle, 64 hexadecimal digits."""
        ...

    def estimate(self, galaxies: Galaxies) -> Estimates:
        """Redshift PDFs, points and flags of n galaxies.

        Raises
        ------
        schemas.errors.UserError
            If `galaxies.bands` are not the model's bands, in order. Bad values in a row are never an error: they are flags.
        """
        ...


def load(path: str | Path, device: str = "auto") -> Estimator:
    """The estimator in the bundle at `path`, whatever its kind; `device` is for those that have a choice.

    Raises
    ------
    schemas.errors.UserError
        If the file is missing, is no bundle, is damaged, or holds a kind of model this version does not know.
    """
    bundle = read(path)
    return of(bundle, str(path), device)


def of(bundle: Bundle, name: str = "this bundle", device: str = "auto") -> Estimator:
    """The estimator of a bundle already in memory; `name` stands in the error, `device` is as `load` has it."""
    kind = bundle.card.get("kind")
    if kind not in KINDS:
        from models import pool

        if kind == pool.KIND:
            raise UserError(
                f"{name} is a blend of two models, and no model by itself: run both, and blend their rows when they are read "
                "(`slipher catalog export --blend`). `slipher model show` tells how good it is."
            )
        raise UserError(f"{name} holds a model of kind {kind!r}; this version of slipher knows {', '.join(KINDS)}.")
    module, cls = KINDS[kind]
    how = (device,) if kind in ON_DEVICES else ()
    estimator: Estimator = getattr(importlib.import_module(module), cls)(bundle, *how)
    return estimator
