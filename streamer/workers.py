"""Which worker makes rows: by the kind of the model, with a person's word on it."""

import logging
from collections.abc import Callable
from typing import Literal

from consumers.rows import Provenance, RowBuilder
from consumers.tree import TreeWorker
from consumers.worker import Stopwatch, Worker, untimed
from models.estimator import ON_DEVICES, Estimator
from schemas.errors import UserError
from streamer.alerts import Alerts
from streamer.settings import ProcessingSettings

log = logging.getLogger(__name__)


def kind_of_worker(settings: ProcessingSettings, kind: str) -> Literal["tree", "images"]:
    """The worker for a model of `kind`.

    Raises
    ------
    UserError
        A person asked for another one.
    """
    needed: Literal["tree", "images"] = "images" if kind in ON_DEVICES else "tree"
    if settings.worker not in ("auto", needed):
        raise UserError(
            f"--worker {settings.worker}: the model {settings.model} is of kind {kind}, which is for the worker {needed}. "
            f"Leave --worker out, or give another model."
        )
    return needed


def worker(
    settings: ProcessingSettings,
    estimator: Estimator,
    read: Alerts,
    origin: Provenance,
    now_ms: Callable[[], int],
    timed: Stopwatch = untimed,
) -> Worker:
    """A worker of a model, ready to work: what compiles, or takes a device, has done so.

    Raises
    ------
    SlipherError
        It is not the worker that was asked for, or its device cannot be had.
    """
    rows = RowBuilder(origin, read.night, now_ms, settings.pdf)
    if kind_of_worker(settings, estimator.kind) == "tree":
        return TreeWorker(read.decoder(), estimator, rows, timed)
    from consumers.images import ImageWorker
    from models.images.engine import one_thread
    from models.images.estimator import ImageEstimator

    assert isinstance(estimator, ImageEstimator)
    chosen = estimator.engine
    one_thread(chosen.engine)
    made = ImageWorker(read.decoder, estimator, rows, timed)
    log.info("image networks on %s: %s", chosen.engine.name, chosen.why, extra={"device": chosen.engine.name})
    return made
