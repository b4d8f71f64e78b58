"""What is told of a run while it goes on. Metrics, health and traces listen; by default nobody does, and it costs nothing.

Everything is told once a batch, a file or a commit, never once a message.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING

from schemas.batch import Messages
from schemas.processing import Processing
from streamer.tally import Progress

if TYPE_CHECKING:
    from streamer.engine import Engine

_NOTHING: AbstractContextManager[None] = nullcontext()


class Observer:
    """Hears of one engine. This one does not listen.

    A method may not raise and may not wait: the engine's threads call it. `stepped`, `polled` and `rebalanced` come from the
    polling thread, the others from the table thread.
    """

    def begins(self, engine: "Engine") -> None:
        """`engine` is there; its ``run`` comes next."""

    def stepped(self) -> None:
        """The polling thread goes round."""

    def polled(self, messages: Messages, seconds: float) -> None:
        """A batch was read; `seconds` since the source was asked."""

    def rebalanced(self) -> None:
        """The consumer group gave partitions, or took some."""

    def at(self, task: str) -> AbstractContextManager[None]:
        """While the table thread does what it was told."""
        return _NOTHING

    def timed(self, stage: str, messages: Messages | None = None) -> AbstractContextManager[None]:
        """While it is in a stage (streamer.metrics.names.Stage) of that, with `messages` where a whole batch is at work."""
        return _NOTHING

    def landed(self, durable: Mapping[int, int], fenced: Collection[int]) -> None:
        """Inside the stage ``settle``: the next offsets that are durable, and the partitions that others own."""

    def committed(self, progress: Progress) -> None:
        """All that is durable of this engine."""

    def conflict(self) -> None:
        """A table's log did not take an entry at once."""

    def stalled(self) -> None:
        """It begins to wait for the world."""


class Observers(Observer):
    """Several as one."""

    def __init__(self, all_of_them: Sequence[Observer]) -> None:
        self._all = tuple(all_of_them)

    def begins(self, engine: "Engine") -> None:
        for one in self._all:
            one.begins(engine)

    def stepped(self) -> None:
        for one in self._all:
            one.stepped()

    def polled(self, messages: Messages, seconds: float) -> None:
        for one in self._all:
            one.polled(messages, seconds)

    def rebalanced(self) -> None:
        for one in self._all:
            one.rebalanced()

    def at(self, task: str) -> AbstractContextManager[None]:
        return _together([one.at(task) for one in self._all])

    def timed(self, stage: str, messages: Messages | None = None) -> AbstractContextManager[None]:
        return _together([one.timed(stage, messages) for one in self._all])

    def landed(self, durable: Mapping[int, int], fenced: Collection[int]) -> None:
        for one in self._all:
            one.landed(durable, fenced)

    def committed(self, progress: Progress) -> None:
        for one in self._all:
            one.committed(progress)

    def conflict(self) -> None:
        for one in self._all:
            one.conflict()

    def stalled(self) -> None:
        for one in self._all:
            one.stalled()


@contextmanager
def _together(parts: Sequence[AbstractContextManager[None]]) -> Iterator[None]:
    with ExitStack() as stack:
        for part in parts:
            stack.enter_context(part)
        yield


class Lookout:
    """Gives each topic that a run reads its observer. This one's do not listen."""

    def loaded(self, processing: Processing, kind: str) -> None:
        """The model is there, of that kind, and what its rows are named by."""

    def observer(self, topic: str) -> Observer:
        """That of the engine that is about to read `topic`."""
        return Observer()

    def forget(self, topic: str) -> None:
        """The reading of `topic` is over, and that of others goes on."""


class Lookouts(Lookout):
    """Several as one."""

    def __init__(self, all_of_them: Sequence[Lookout]) -> None:
        self._all = tuple(all_of_them)

    def loaded(self, processing: Processing, kind: str) -> None:
        for one in self._all:
            one.loaded(processing, kind)

    def observer(self, topic: str) -> Observer:
        return Observers([one.observer(topic) for one in self._all])

    def forget(self, topic: str) -> None:
        for one in self._all:
            one.forget(topic)


def together(lookouts: Sequence[Lookout]) -> Lookout:
    """Those of `lookouts` as one; of a single one, itself, and of none one that does not listen."""
    if len(lookouts) == 1:
        return lookouts[0]
    return Lookouts(lookouts) if lookouts else Lookout()
