"""The tree worker: native or survey messages in, photo-z rows by a forest out, on one core."""

from collections.abc import Callable

import pyarrow as pa

from consumers.rows import Provenance, build
from consumers.worker import DEPTH, Output, Stopwatch, untimed
from models.estimator import Estimator
from schemas.batch import Messages
from schemas.catalogue import PdfForm
from schemas.decoder import Decoder
from schemas.night import Rollover
from schemas.processing import Processing


class TreeWorker:
    """A ``Worker`` of a decoder and an estimator of tabular photometry.

    Parameters
    ----------
    decoder, estimator
        Both for the same bands.
    origin
        Provenance of all rows.
    rollover
        When the survey's night begins.
    now_ms
        The clock: ms since 1970 UTC.
    pdf
        Which form of the PDFs is stored.
    timed
        Told of each stage of a batch.
    """

    def __init__(
        self,
        decoder: Decoder,
        estimator: Estimator,
        origin: Provenance,
        rollover: Rollover,
        now_ms: Callable[[], int],
        pdf: PdfForm = "plain",
        timed: Stopwatch = untimed,
    ) -> None:
        self._decoder, self._estimator, self._origin = decoder, estimator, origin
        self._rollover, self._now_ms, self._pdf = rollover, now_ms, pdf
        self._timed = timed

    depth = DEPTH

    @property
    def processing(self) -> Processing:
        """The identity that its rows carry."""
        return self._origin.processing

    def begin(self, messages: Messages) -> None:
        """Nothing: the core is busy with the batch before."""

    def process(self, messages: Messages) -> Output:
        """Decode, estimate, build rows."""
        with self._timed("decode"):
            galaxies, refusals = self._decoder.decode(messages)
        with self._timed("estimate"):
            estimates = self._estimator.estimate(galaxies)
        with self._timed("rows"):
            now = self._now_ms()
            rows: pa.Table = build(messages, galaxies, estimates, self._origin, self._rollover, now, self._pdf)
        return Output(rows, refusals)

    def close(self) -> None:
        """It holds nothing."""
