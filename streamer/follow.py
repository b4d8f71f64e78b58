"""Reads every topic that a pattern fits, also those that appear later: ZTF has new ones each night.

Each topic has an engine of its own, in a thread of its own: what holds for one topic holds for each of many. They share the
model, the catalogue and the processing id.
"""

import itertools
import logging
import re
import threading
import time
from collections.abc import Callable

from schemas.errors import TroubleError, UserError
from streamer.engine import Engine
from streamer.observer import Lookout
from streamer.run import Plan, engine, known, must_say, plan
from streamer.settings import RunSettings
from streamer.sink.catalogue import ensure
from streamer.source.connection import NoTopic, Start, TopicGone, TopicIdentity, TopicNames, identify
from streamer.tally import Progress

log = logging.getLogger(__name__)

LOOK_SECONDS = 30.0  # between looks for new topics, where librdkafka's own interval for that is not set
QUEUE_KBYTES = 8192  # fetched ahead of each topic: many are open, one or two are busy
TRIES = 5  # to begin with a topic, or to go on with it, before the run is given up
INTERVAL = "topic.metadata.refresh.interval.ms"
QUEUE = "queued.max.messages.kbytes"


def is_pattern(topic: str) -> bool:
    """Whether `topic` is a regular expression, as librdkafka has it: it begins with ^."""
    return topic.startswith("^")


class Reader:
    """One topic: its engine, in a thread."""

    def __init__(self, made: Engine, name: str) -> None:
        self.engine, self.name = made, name
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether its thread has ended."""
        return not self._thread.is_alive()

    def wait(self, seconds: float) -> bool:
        """Whether it ended within `seconds`."""
        self._thread.join(seconds)
        return self.ended

    def _run(self) -> None:
        try:
            self.engine.run()
        except BaseException as error:
            self.error = error


class Follower:
    """Runs the engines of all topics of a pattern until told to stop.

    Topics that are there when the pattern is read into this catalogue for the first time begin at ``--start``; those that
    appear later are read whole.

    Parameters
    ----------
    settings
        With a pattern as topic.
    until_end
        Stop once everything is durable that is there now.
    on_commit
        Called after each commit of any of them with all that is durable, from several threads, one at a time.
    lookout
        Gives each engine its observer.

    Raises
    ------
    SlipherError
        Bundle, catalogue, broker or pattern are not what they should be; nothing was written.
    """

    def __init__(
        self,
        settings: RunSettings,
        until_end: bool = False,
        on_commit: Callable[[Progress], None] = lambda progress: None,
        lookout: Lookout = Lookout(),
    ) -> None:
        try:
            self._pattern = re.compile(settings.topic)
        except re.error as error:
            raise UserError(f"--topic {settings.topic}: no regular expression ({error}).") from None
        kafka = {QUEUE: str(QUEUE_KBYTES)} | settings.kafka
        self._plan = plan(settings.model_copy(update={"kafka": kafka}))
        self._until_end, self._on_commit, self._lookout = until_end, on_commit, lookout
        lookout.loaded(self._plan.processing, self._plan.estimator.kind)
        self._names = TopicNames(self._plan.connection)
        self._every = int(settings.kafka.get(INTERVAL, LOOK_SECONDS * 1000)) / 1000
        self._readers: dict[str, Reader] = {}
        self._failures: dict[str, int] = {}
        self._durable: dict[int, Progress] = {}  # of each engine that there was
        self._numbers = itertools.count()
        self._counting = threading.Lock()
        self._stop = threading.Event()
        there = [self._identify(name) for name in self._names.fitting(self._pattern, settings.patience)]
        if until_end and not there:
            raise UserError(f"The broker at {settings.brokers} has no topic that fits {settings.topic}.")
        read_before = any(known(self._plan, topic) for topic in there)
        if there and not read_before and self._plan.begin is None:
            raise must_say(self._plan)
        ensure(settings.catalog)
        later = self._plan._replace(begin=Start("earliest"))
        self._first = {topic.topic: (later if read_before else self._plan, topic) for topic in there}
        self._later = later

    def stop(self) -> None:
        """Finish what was read, commit, leave. A second call discards it; both are safe."""
        self._stop.set()
        for reader in list(self._readers.values()):
            reader.engine.stop()

    def run(self) -> Progress:
        """Run until ``stop``; returns what became durable.

        Raises
        ------
        SlipherError
            What a person has to look at, of any of the topics. Whatever was not durable will be read again.
        """
        try:
            for name, (made, topic) in self._first.items():
                self._begin(name, made, topic)
            looked = time.monotonic()
            while not self._stop.wait(0.05):
                self._judge()
                if self._until_end and not self._readers:
                    break
                if not self._until_end and time.monotonic() - looked >= self._every:
                    self._look()
                    looked = time.monotonic()
        finally:
            self._finish()
        self._raise_first()
        return self.durable

    @property
    def durable(self) -> Progress:
        """What is durable of all topics."""
        with self._counting:
            return self._total()

    # -- topics --------------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Begin with topics that are new; a broker that does not answer is asked again."""
        try:
            found = self._names.fitting(self._pattern)
            for name in found:
                if name not in self._readers and not self._stop.is_set():
                    log.info("%s fits %s", name, self._pattern.pattern, extra={"topic": name})
                    self._begin(name, self._later, self._identify(name))
        except (TroubleError, NoTopic, TopicGone) as trouble:
            log.warning("looking for topics: %s", trouble)

    def _identify(self, name: str) -> TopicIdentity:
        return identify(self._plan.connection, name, self._plan.settings.patience)

    def _begin(self, name: str, made: Plan, topic: TopicIdentity) -> None:
        group = f"{made.group}-{name}"  # of its own: a topic that is new must not make the others change hands
        mine = made._replace(group=group, consumer=made.consumer | {"group.id": group})
        started = engine(mine, topic, self._until_end, self._counted(), lookout=self._lookout)
        self._readers[name] = Reader(started, name)
        if self._stop.is_set():  # it was told before there was this one
            started.stop()

    def _judge(self) -> None:
        """Let go of readers that have ended; raise where a person has to look."""
        for name, reader in list(self._readers.items()):
            if not reader.ended:
                if reader.engine.tally.durable.commits:
                    self._failures.pop(name, None)
                continue
            error = reader.error
            if isinstance(error, TopicGone):
                log.warning("%s", error, extra={"topic": name})
            elif isinstance(error, TroubleError) and self._failures.get(name, 0) < TRIES and not self._until_end:
                self._failures[name] = self._failures.get(name, 0) + 1
                log.warning("%s: %s", name, error, extra={"topic": name})
            elif error is not None:
                raise error
            del self._readers[name]
            self._lookout.forget(name)

    def _finish(self) -> None:
        """Stop all that still run, and wait for them."""
        running = list(self._readers.values())
        for reader in running:
            if not self._stop.is_set():
                reader.engine.stop()
        for reader in running:
            while not reader.wait(0.1):
                pass

    def _raise_first(self) -> None:
        errors = [reader.error for reader in self._readers.values() if reader.error is not None]
        for error in errors:
            if not isinstance(error, TopicGone):
                raise error

    # -- counts --------------------------------------------------------------------------------------------------------

    def _counted(self) -> Callable[[Progress], None]:
        number = next(self._numbers)

        def committed(progress: Progress) -> None:
            with self._counting:
                self._durable[number] = progress
                self._on_commit(self._total())

        return committed

    def _total(self) -> Progress:
        return sum(self._durable.values(), Progress())
