"""What goes wrong in the soak: each fault is a function that does it now and says when it is over."""

import heapq
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions

from benchmarks.soak_crew import Crew, Hand, order
from benchmarks.soak_feed import Feed, Witness
from schemas.surveys.native import avro_schema
from streamer.broker.server import Broker
from tests.registries import StandIn, say

MOST_WORKERS = 4
MOST_PARTITIONS = 8
STEPS = 18  # of the commit protocol
STRIKE_SECONDS = 20.0  # for a process to come to the step at which it is to die
KAFKA_SECONDS = 300.0  # for the broker to come back
CLOCK_MS = (-86_400_000, -3_600_000, -5_000, 3_600_000)


class Stage:
    """Everything that faults are done to, and the count of those survived.

    Parameters
    ----------
    broker, crew, feed, witness, registry
        The actors.
    control
        Folder of the fault points.
    rng
        Decides.
    start_worker
        Starts one.
    commands
        Of what runs beside the workers, by name.
    """

    def __init__(
        self,
        broker: Broker,
        crew: Crew,
        feed: Feed,
        witness: Witness,
        registry: StandIn,
        control: Path,
        rng: np.random.Generator,
        start_worker: Callable[[], Hand],
        commands: Mapping[str, list[str]],
    ) -> None:
        self.broker, self.crew, self.feed, self.witness, self.registry = broker, crew, feed, witness, registry
        self.control, self.rng, self.start_worker, self.commands = control, rng, start_worker, commands
        self.admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})
        self.wanted = 2
        self.survived: Counter[str] = Counter()
        self.deleted: list[tuple[int, int, int]] = []  # partition, first offset, end: may have expired unread
        self.durable: dict[int, int] = {}  # what the table says; refreshed by the soak
        self.failed: list[str] = []
        self.kafka = "up"
        self.registry_away = False
        self.last = ""
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._armed: list[tuple[Hand, Path, str, str, float]] = []

    def strike(self, names: list[str]) -> None:
        """Do one of the faults `names`: the first, in random order, that can be done now."""
        for k in self.rng.permutation(len(names)):
            name = names[int(k)]
            if FAULTS[name](self):
                self.last = name
                if not name.startswith("at a step"):  # those count once they have struck
                    self.survived[name] += 1
                return

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        """Call `what` then."""
        heapq.heappush(self._later, (time.monotonic() + seconds, next(self._numbers), what))

    def tick(self) -> None:
        """Do what is due, see who was struck, and have as many workers as are wanted."""
        while self._later and self._later[0][0] <= time.monotonic():
            heapq.heappop(self._later)[2]()
        self._see_struck()
        self.crew.reap()
        while len([h for h in self.crew.of("worker") if not h.leaving]) < self.wanted:
            self.start_worker()

    def calm(self) -> None:
        """Take every fault back, at once; workers that sleep wake up."""
        while self._later:
            heapq.heappop(self._later)[2]()
        for _, path, _, _, _ in self._armed:
            path.unlink(missing_ok=True)
        for hand in self.crew.hands:
            hand.wake()
        deadline = time.monotonic() + KAFKA_SECONDS
        while self.kafka != "up" and not self.failed:
            if time.monotonic() > deadline:
                self.failed.append(f"Kafka is {self.kafka} and does not come back")
            time.sleep(0.05)
        self.wanted = 1

    def beside(self, kind: str, times: int = 1) -> bool:
        """Start a command beside the workers, several `times` at once; not where one of its kind is at it still."""
        if self.crew.of(kind) or not self.durable:
            return False
        for _ in range(times):
            self.crew.start(kind, self.commands[kind])
        return True

    def awake(self, kind: str = "") -> Hand | None:
        """One of those that can be struck."""
        some = [h for h in self.crew.of(kind) if h.awake]
        return some[int(self.rng.integers(len(some)))] if some else None

    def arm(self, what: str, kind: str) -> bool:
        """Have a process die or sleep at a random step."""
        hand = self.awake()
        if hand is None:
            return False
        path = order(self.control, hand, what, int(self.rng.integers(1, STEPS + 1)))
        hand.may_die = what == "KILL"
        self._armed.append((hand, path, what, kind, time.monotonic()))
        return True

    def _see_struck(self) -> None:
        for entry in list(self._armed):
            hand, path, what, kind, since = entry
            ended = hand.process.poll() is not None
            if path.exists() and not ended:
                if time.monotonic() - since < STRIKE_SECONDS:
                    continue
                try:
                    path.unlink()
                    hand.may_die = False
                    self._armed.remove(entry)
                    continue
                except FileNotFoundError:
                    pass
            self._armed.remove(entry)
            if what == "KILL" or not ended:
                self.survived[kind] += 1
            if what == "STOP" and not ended:
                hand.asleep = True
                self.later(float(self.rng.uniform(1, 8)), lambda hand=hand: hand.wake())  # type: ignore[misc]

    def restart_kafka(self, seconds: float) -> None:
        """Start the broker again after `seconds`, beside everything else."""

        def start() -> None:
            time.sleep(seconds)
            for last in (False, True):
                try:
                    self.broker.start().wait(KAFKA_SECONDS / 2)
                    self.kafka = "up"
                    return
                except Exception as error:  # on a full machine Kafka may take minutes, or give up by itself
                    if last:
                        self.failed.append(f"Kafka did not come back: {error}")

        threading.Thread(target=start, name="restart", daemon=True).start()

    def flag(self, name: str, seconds: float, text: str = "") -> bool:
        """Lay the file `name` into the folder of the fault points for `seconds`; False where it lies there."""
        path = self.control / name
        if path.exists():
            return False
        path.write_text(text)
        self.later(seconds, lambda: path.unlink(missing_ok=True))
        return True


def _kill(stage: Stage) -> bool:
    hand = stage.awake()
    if hand:
        hand.kill()
    return hand is not None


def _sleep(stage: Stage) -> bool:
    hand = stage.awake()
    if hand:
        hand.sleep()
        stage.later(float(stage.rng.uniform(1, 10)), hand.wake)
    return hand is not None


def _join(stage: Stage) -> bool:
    if stage.wanted >= MOST_WORKERS:
        return False
    stage.wanted += 1
    return True


def _leave(stage: Stage) -> bool:
    hand = stage.awake("worker")
    if hand is None or stage.wanted < 2:
        return False
    stage.wanted -= 1
    hand.leave()
    return True


def _leave_twice(stage: Stage) -> bool:
    hand = stage.awake("worker")
    if hand is None:
        return False
    hand.leave()
    stage.later(0.1, lambda: hand.leave() if hand.process.poll() is None else None)
    return True


def _kafka_dies(stage: Stage) -> bool:
    if stage.kafka != "up":
        return False
    stage.kafka = "killed"
    stage.broker.kill()
    stage.restart_kafka(float(stage.rng.uniform(0, 4)))
    return True


def _kafka_restarts(stage: Stage) -> bool:
    if stage.kafka != "up":
        return False
    stage.kafka = "restarting"

    def stop() -> None:
        stage.broker.stop()
        stage.restart_kafka(0.0)

    threading.Thread(target=stop, name="stop", daemon=True).start()
    return True


def _kafka_sleeps(stage: Stage) -> bool:
    if stage.kafka != "up":
        return False
    stage.kafka = "asleep"
    stage.broker.suspend()

    def wake() -> None:
        stage.broker.resume()
        stage.kafka = "up"

    stage.later(float(stage.rng.choice([2, 5, 10, 30])), wake)
    return True


def _full(stage: Stage) -> bool:
    return stage.flag("full", float(stage.rng.uniform(1, 8)))


def _lies(stage: Stage) -> bool:
    return stage.flag("lies", float(stage.rng.uniform(2, 10)))


def _clock(stage: Stage) -> bool:
    return stage.flag("clock", float(stage.rng.uniform(2, 15)), str(stage.rng.choice(CLOCK_MS)))


def _registry(stage: Stage) -> bool:
    """A schema appears under a new id, and the registry goes away before anybody has read it."""
    if stage.registry_away:
        return False

    def away(handler: Any) -> None:
        if stage.registry_away:
            stage.registry.instead.append(away)  # for the next that asks
        say(503, b"")(handler)

    def back() -> None:
        stage.registry_away = False
        stage.registry.instead.clear()

    new = stage.feed.schema_id + 1
    stage.registry.paths[f"/schemas/ids/{new}"] = {"schema": json.dumps(avro_schema("lsst"))}
    stage.registry_away = True
    stage.registry.instead.append(away)
    stage.feed.schema_id = new
    stage.later(float(stage.rng.uniform(1, 10)), back)
    return True


def _partition(stage: Stage) -> bool:
    if stage.kafka != "up" or stage.feed.partitions >= MOST_PARTITIONS:
        return False
    more = stage.feed.partitions + 1
    try:
        for future in stage.admin.create_partitions([NewPartitions(stage.feed.topic, more)]).values():
            future.result(10)
    except KafkaException:
        pass  # it may be there all the same
    seen = stage.admin.list_topics(stage.feed.topic, timeout=10).topics[stage.feed.topic].partitions
    if len(seen) < more:
        return False
    stage.feed.partitions = stage.witness.partitions = more
    return True


def _expire(stage: Stage) -> bool:
    """Retention takes what was just sent: whoever has not read it reads it never."""
    if stage.kafka != "up":
        return False
    partition = int(stage.rng.integers(stage.feed.partitions))
    durable, seen = stage.durable.get(partition), stage.witness.positions.get(partition, 0)
    if durable is None or seen <= durable:  # a partition that nobody has claimed, or nothing unread to take
        return False
    stage.deleted.append((partition, durable, seen))  # what is durable already cannot be lost
    try:
        for future in stage.admin.delete_records([TopicPartition(stage.feed.topic, partition, seen)]).values():
            future.result(10)
    except KafkaException:
        return False
    return True


FAULTS: dict[str, Callable[[Stage], bool]] = {
    "worker killed (SIGKILL)": _kill,
    "at a step of the commit: killed": lambda stage: stage.arm("KILL", "at a step of the commit: killed"),
    "at a step of the commit: suspended": lambda stage: stage.arm("STOP", "at a step of the commit: suspended"),
    "worker suspended (SIGSTOP), resumed": _sleep,
    "worker joined": _join,
    "worker left (SIGTERM)": _leave,
    "worker told twice (SIGTERM)": _leave_twice,
    "Kafka killed (SIGKILL)": _kafka_dies,
    "Kafka restarted": _kafka_restarts,
    "Kafka suspended (SIGSTOP), resumed": _kafka_sleeps,
    "no space left on the disk": _full,
    "commits that lie": _lies,
    "clock wrong, and set back": _clock,
    "registry away with a new schema": _registry,
    "partition added": _partition,
    "offsets expired": _expire,
    "two compactions at once": lambda stage: stage.beside("compact", 2),
    "vacuum and sweep": lambda stage: stage.beside("vacuum"),
    "two replays of a second model at once": lambda stage: stage.beside("replay", 2),
    "dead letters tried again": lambda stage: stage.beside("retry"),
    "migration": lambda stage: stage.beside("migrate"),
    "proof beside the writers": lambda stage: stage.beside("verify"),
}
