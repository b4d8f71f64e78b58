"""The image worker: messages with stamps in, photo-z rows by image networks out, on a GPU or a core.

A batch is worked on from the moment it was read: threads of its own decode it and prepare its stamps, one thread asks the
device for all of them, and by the time the batch's turn comes its rows are there, or on their way.
"""

import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from consumers.device import Closed, Device
from consumers.rows import RowBuilder
from consumers.worker import Output, Stopwatch, untimed
from models.images.estimator import ImageEstimator
from schemas.batch import Messages
from schemas.decoder import Decoder
from schemas.processing import Processing

MOST_THREADS = 8  # beyond, Python's own lock is what they would wait for


def threads_for(device: str) -> int:
    """How many threads prepare stamps for an engine of that name: a GPU wants all cores, a core has nothing to spare."""
    cores = len(os.sched_getaffinity(0))
    return max(2, min(MOST_THREADS, cores - 1)) if "cuda" in device else 1


class _Job(NamedTuple):
    """A batch under way, and what is known of it so far."""

    messages: Messages
    decoded: "Future[None]"
    estimated: "Future[None]"
    output: "Future[Output]"

    def failed(self, error: BaseException) -> None:
        """Whoever waits for what is not there yet is told."""
        for done in (self.decoded, self.estimated, self.output):
            if not done.done():
                done.set_exception(error)


class ImageWorker:
    """A ``Worker`` of a decoder and image networks.

    Rows do not depend on what is worked on beside them, but for rounding (`models.images.engine.Engine`).

    Parameters
    ----------
    decoder
        Makes one, for the bands of the estimator: each thread has its own.
    estimator
        Its engine is made, and answers once, before the worker is there: compiling takes seconds.
    rows
        Makes rows of what is estimated.
    timed
        Told of each stage of a batch: what is waited for, not what it cost.
    threads
        That prepare; None = `threads_for` its device.

    Raises
    ------
    schemas.errors.UserError
        The device cannot be had.
    """

    def __init__(
        self,
        decoder: Callable[[], Decoder],
        estimator: ImageEstimator,
        rows: RowBuilder,
        timed: Stopwatch = untimed,
        threads: int | None = None,
    ) -> None:
        self._decoder, self._estimator, self._rows, self._timed = decoder, estimator, rows, timed
        self._engine = estimator.ready().engine
        self._device = Device(self._engine)
        threads = threads or threads_for(self._engine.name)
        self.depth = threads + 2  # one that the device has, one that waits to be settled
        self._pool = ThreadPoolExecutor(self.depth, "stamps")
        self._room = threading.Semaphore(threads)  # others of the pool wait for the device
        self._own = threading.local()
        self._ahead: deque[_Job] = deque()
        self._closed = False

    @property
    def processing(self) -> Processing:
        """The identity that its rows carry."""
        return self._rows.origin.processing

    def begin(self, messages: Messages) -> None:
        """Begin to work on a batch whose turn comes later: batches come to `process` in the order in which they began."""
        self._ahead.append(self._begun(messages))

    def process(self, messages: Messages) -> Output:
        """Rows and refusals of a batch, begun or not."""
        job = self._job(messages)
        for stage, done in (("decode", job.decoded), ("estimate", job.estimated)):
            with self._timed(stage):
                done.result()
        with self._timed("rows"):
            return job.output.result()

    def close(self) -> None:
        """Give the device back and begin no more."""
        self._closed = True
        self._device.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _job(self, messages: Messages) -> _Job:
        """That of `messages`. Those before it belong to nobody any more; parts of a batch begin anew, and so does what failed
        ahead of its turn: what was in the way then (memory, a schema registry) need not be now."""
        if any(job.messages is messages for job in tuple(self._ahead)):
            while (job := self._ahead.popleft()).messages is not messages:
                pass
            if not (job.output.done() and job.output.exception()):
                return job
        return self._begun(messages)

    def _begun(self, messages: Messages) -> _Job:
        job, closed = _Job(messages, Future(), Future(), Future()), Closed("The worker is closed.")

        def never(work: "Future[None]") -> None:
            if work.cancelled():  # `close` came first: who waits for it is told
                job.failed(closed)

        if self._closed:
            job.failed(closed)
        else:
            self._pool.submit(self._work, job).add_done_callback(never)
        return job

    def _work(self, job: _Job) -> None:
        """All of a batch, in a thread of the pool."""
        try:
            with self._device as device:
                with self._room:
                    if not hasattr(self._own, "decoder"):
                        self._own.decoder = self._decoder()
                    galaxies, refusals = self._own.decoder.decode(job.messages)
                    job.decoded.set_result(None)
                    begun = self._estimator.begin(galaxies)
                asked = [
                    (ask.rows, device.ask(ask)) for ask in self._estimator.asks(galaxies, begun, self._engine.takes)
                ]
            answers = [(rows, answer.result()) for rows, answer in asked]
            with self._room:
                estimates = self._estimator.complete(begun, answers)
                job.estimated.set_result(None)
                rows = self._rows.build(job.messages, galaxies, estimates)
            job.output.set_result(Output(rows, refusals))
        except BaseException as error:
            job.failed(error)
