"""The tree worker: native or survey messages in, photo-z rows by a forest out, on one core."""

from consumers.rows import RowBuilder
from consumers.worker import DEPTH, Output, Stopwatch, untimed
from models.estimator import Estimator
from schemas.batch import Messages
from schemas.decoder import Decoder
from schemas.processing import Processing


class TreeWorker:
    """A ``Worker`` of a decoder and an estimator of tabular photometry.

    Parameters
    ----------
    decoder, estimator
        Both for the same bands.
    rows
        Makes rows of what is estimated.
    timed
        Told of each stage of a batch.
    """

    def __init__(
        self,
        decoder: Decoder,
        estimator: Estimator,
        rows: RowBuilder,
        timed: Stopwatch = untimed,
    ) -> None:
        self._decoder, self._estimator, self._rows, self._timed = decoder, estimator, rows, timed

    depth = DEPTH

    @property
    def processing(self) -> Processing:
        """The identity that its rows carry."""
        return self._rows.origin.processing

    def begin(self, messages: Messages) -> None:
        """Nothing: the core is busy with the batch before."""

    def process(self, messages: Messages) -> Output:
        """Decode, estimate, build rows."""
        with self._timed("decode"):
            galaxies, refusals = self._decoder.decode(messages)
        with self._timed("estimate"):
            estimates = self._estimator.estimate(galaxies)
        with self._timed("rows"):
            rows = self._rows.build(messages, galaxies, estimates)
        return Output(rows, refusals)

    def close(self) -> None:
        """It holds nothing."""
