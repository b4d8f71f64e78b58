"""What a backfill adds to a worker and a sink: refusals that name their file, and one backfill of a shard at a time."""

import numpy as np

from consumers.worker import Output, Worker
from schemas.batch import Messages, Refusals
from schemas.errors import SlipherError
from schemas.processing import Processing
from streamer.backfill.manifest import Manifest
from streamer.sink.delta import DeltaSink
from streamer.source.files import FilesSource


class FilesWorker:
    """A ``Worker`` whose refusals say which record of which file they are, and why there was no message at all.

    Parameters
    ----------
    worker
        Does the work.
    manifest, source
        Where the messages come from.
    """

    def __init__(self, worker: Worker, manifest: Manifest, source: FilesSource) -> None:
        self._worker, self._manifest, self._source = worker, manifest, source

    @property
    def processing(self) -> Processing:
        """The identity that its rows carry."""
        return self._worker.processing

    @property
    def depth(self) -> int:
        """As of the worker."""
        return self._worker.depth

    def begin(self, messages: Messages) -> None:
        """As the worker does."""
        self._worker.begin(messages)

    def close(self) -> None:
        """As the worker does."""
        self._worker.close()

    def process(self, messages: Messages) -> Output:
        """As the worker does."""
        rows, refusals = self._worker.process(messages)
        told = self._told(messages, refusals) if len(refusals.text) else refusals
        faults, names = self._source.faults, self._source.names
        for at in zip(messages.partition.tolist(), messages.offset.tolist(), strict=True):
            names.pop(at, None)  # only now: a batch whose registry is away comes again
            faults.pop(at, None)
        return Output(rows, told)

    def _told(self, messages: Messages, refusals: Refusals) -> Refusals:
        reason, byte = refusals.reason.copy(), refusals.byte.copy()
        texts = []
        for k, (m, text) in enumerate(zip(refusals.message.tolist(), refusals.text, strict=True)):
            at = int(messages.partition[m]), int(messages.offset[m])
            if fault := self._source.faults.get(at):
                reason[k], byte[k], text = np.uint8(fault.reason), fault.byte, fault.text
            place, name = self._manifest.where(*at), self._source.names.get(at)
            texts.append(f"{place.file}, record {place.record}{f' ({name})' if name else ''}: {text}")
        return Refusals(refusals.message, refusals.row, reason, texts, byte)


class Overtaken(SlipherError):
    """Another backfill reads the same shard now. No trouble that passes: the engine must not claim it back."""

    exit_code = 75


class FilesSink(DeltaSink):
    """A sink whose owner gives way: a second backfill of the same shards fences the first, which stops."""

    def commit(self) -> tuple[dict[int, int], set[int]]:
        """Make it durable.

        Raises
        ------
        Overtaken
            A shard has another owner.
        """
        durable, fenced = super().commit()
        if fenced:
            raise Overtaken(
                f"Another backfill of the same files with the same model took over shard {min(fenced)}. This one stops: nothing "
                "is lost or doubled, the other one goes on."
            )
        return durable, fenced
