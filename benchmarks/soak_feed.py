"""The soak's live traffic, and a witness of what of it can be read: neither knows anything of slipher."""

import struct
import threading
import time
import uuid
from array import array
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from benchmarks.soak_messages import Forms

STAMP = struct.Struct("<HQ")  # the header of each message: its form, and its number among all that were sent
PLAIN = {"acks": "all", "enable.idempotence": True, "message.timeout.ms": 900_000, "linger.ms": 5, "log_level": 0} | {
    "topic.metadata.refresh.interval.ms": 500
}
SILENT_SECONDS = 90.0  # without an answer to a producer that waits for one: longer than Kafka is ever away
WAITING = 3_000  # messages that no broker has taken yet: no more are made
TRANSACTION_MS = 15_000  # after which the broker aborts one whose producer is gone
ABORTED, LEFT_OPEN = 0.3, 0.1  # of the transactions; the latter are open for seconds before they end


class Outcome(NamedTuple):
    """What the producers know of what they sent, by number."""

    acknowledged: npt.NDArray[np.uint64]  # must be read
    aborted: npt.NDArray[np.uint64]  # must not be read
    sent: int


class Feed:
    """Sends messages at a rate, by themselves and in transactions, until it is stopped.

    Parameters
    ----------
    brokers, topic, partitions
        Where to; ``partitions`` may be raised while it runs.
    forms, seed
        What.
    rate
        Messages a second, of those by themselves; transactions add a tenth.
    """

    def __init__(self, brokers: str, topic: str, partitions: int, forms: Forms, rate: float, seed: int) -> None:
        self.brokers, self.topic, self.partitions, self.forms, self.rate = brokers, topic, partitions, forms, rate
        self.schema_id = 0  # the newest of the registry; 0 = none yet
        self.sent = 0
        self._rng = np.random.default_rng([seed, 1])
        self._rng_transactions = np.random.default_rng([seed, 2])
        self._lock = threading.Lock()
        self._acknowledged = array("Q")
        self._aborted = array("Q")
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._send, name="alerts", daemon=True),
            threading.Thread(target=self._transact, name="transactions", daemon=True),
        ]
        self.failed: list[str] = []
        self.given_up = 0  # messages that no broker acknowledged: what the log holds of them counts, and only that

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self, seconds: float = 120.0) -> Outcome:
        """Send no more, and wait until the broker has what was sent."""
        self._stop.set()
        for thread in self._threads:
            thread.join(seconds)
            if thread.is_alive():
                self.failed.append(f"the producer of {thread.name} did not end")
        return Outcome(np.array(self._acknowledged, np.uint64), np.array(self._aborted, np.uint64), self.sent)

    def _message(self, producer: Producer, rng: np.random.Generator, delivered: Any = None) -> int:
        schema_id = self.schema_id
        form = self.forms.draw(rng, schema_id > 0)
        with self._lock:
            number, self.sent = self.sent, self.sent + 1
        given: dict[str, Any] = {
            "headers": [("soak", STAMP.pack(form, number))],
            "on_delivery": delivered(number) if delivered else None,
        }
        value = self.forms.value(form, schema_id)
        try:
            producer.produce(self.topic, value, partition=int(rng.integers(self.partitions)), **given)
        except KafkaException as error:
            if error.args[0].code() != KafkaError._UNKNOWN_PARTITION:  # added just now: this client has not heard of it
                raise
            producer.produce(self.topic, value, partition=0, **given)
        return number

    def _send(self) -> None:
        producer, heard = self._producer(), time.monotonic()

        def delivered(number: int) -> Any:
            def done(error: Any, _: Any) -> None:
                nonlocal heard
                heard = time.monotonic()
                if error is None:
                    self._acknowledged.append(number)
                else:
                    self.given_up += 1

            return done

        due = time.monotonic()
        while not self._stop.is_set():
            due = max(due + 0.02, time.monotonic() - 1.0)
            for _ in range(int(self._rng.poisson(self.rate * 0.02))):
                self._message(producer, self._rng, delivered)
            producer.poll(0)
            while len(producer) > WAITING and not self._stop.is_set():
                producer.poll(0.1)
                due = time.monotonic()
                if due > heard + SILENT_SECONDS:
                    _give_up(producer)
                    producer, heard = self._producer(), time.monotonic()
            self._stop.wait(max(0.0, due - time.monotonic()))
        if producer.flush(SILENT_SECONDS):
            _give_up(producer)

    def _producer(self) -> Producer:
        return Producer({**PLAIN, "bootstrap.servers": self.brokers})

    def _transact(self) -> None:
        producer = None
        name = f"soak-{uuid.uuid4().hex}"
        rng = self._rng_transactions
        while not self._stop.is_set():
            numbers: list[int] = []
            try:
                if producer is None:
                    more = {"transactional.id": name, "transaction.timeout.ms": TRANSACTION_MS}
                    producer = Producer(
                        {**PLAIN, "message.timeout.ms": TRANSACTION_MS, **more} | {"bootstrap.servers": self.brokers}
                    )
                    producer.init_transactions(10)
                producer.begin_transaction()
                numbers = [self._message(producer, rng) for _ in range(int(rng.integers(1, 40)))]
                producer.flush(5)
                dice = rng.random()
                if dice < LEFT_OPEN:
                    self._stop.wait(float(rng.uniform(1, 5)))
                if dice < ABORTED:
                    producer.abort_transaction(10)
                    self._aborted.extend(numbers)
                else:
                    producer.commit_transaction(10)
                    self._acknowledged.extend(numbers)
            except KafkaException as error:
                # What became of it is not known, nor asked: the witness says. The same id ends what was left open.
                producer = None if error.args[0].fatal() or not self._given_up(producer) else producer
            self._stop.wait(len(numbers) / max(1.0, 0.1 * self.rate))

    def _given_up(self, producer: Producer | None) -> bool:
        """Whether the transaction at hand is aborted, and the producer can go on."""
        if producer is None:
            return False
        try:
            producer.abort_transaction(10)
        except KafkaException:
            return False
        return True


class Read(NamedTuple):
    """What can be read of a partition: offsets, rising, with form and number of each message."""

    offset: npt.NDArray[np.int64]
    form: npt.NDArray[np.int64]
    number: npt.NDArray[np.uint64]


class Witness:
    """Reads along what is committed, by a plain consumer: the truth that tables are compared with."""

    def __init__(self, brokers: str, topic: str, partitions: int) -> None:
        self.topic, self.partitions = topic, partitions
        self._settings = {
            "bootstrap.servers": brokers,
            "group.id": f"witness-{uuid.uuid4().hex}",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "log_level": 0,
        }
        self._seen: dict[int, tuple[array[int], array[int], array[int]]] = {}
        self.positions: dict[int, int] = {}  # every offset below was seen, or holds no message
        self.failed: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, name="witness", daemon=True)

    def start(self) -> None:
        """Begin at the beginning."""
        self._thread.start()

    def stop(self) -> dict[int, Read]:
        """All that was seen, by partition."""
        self._stop.set()
        self._thread.join(30)
        return {
            p: Read(np.array(o, np.int64), np.array(f, np.int64), np.array(n, np.uint64))
            for p, (o, f, n) in self._seen.items()
        }

    def _read(self) -> None:
        consumer = Consumer(self._settings)
        try:
            while not self._stop.is_set():
                if len(self._seen) < self.partitions:
                    for p in range(len(self._seen), self.partitions):
                        self._seen[p] = array("q"), array("q"), array("Q")
                        self.positions[p] = 0
                    consumer.assign([TopicPartition(self.topic, p, self.positions[p]) for p in self._seen])
                for message in consumer.consume(2_000, 0.1):
                    self._take(message)
        except Exception as error:
            self.failed.append(f"the witness cannot read: {error}")
        finally:
            consumer.close()

    def _take(self, message: Any) -> None:
        partition, offset = message.partition(), message.offset()
        if message.error() is not None:
            if message.error().name() == "_PARTITION_EOF":
                self.positions[partition] = max(self.positions[partition], offset)
            elif message.error().name() == "_AUTO_OFFSET_RESET":
                self.failed.append(f"the witness missed messages of partition {partition}: {message.error().str()}")
            return
        if offset < self.positions[partition]:  # assigned anew, read again
            return
        form, number = STAMP.unpack(message.headers()[0][1])
        offsets, forms, numbers = self._seen[partition]
        offsets.append(offset)
        forms.append(form)
        numbers.append(number)
        self.positions[partition] = offset + 1


def _give_up(producer: Producer) -> None:
    """Once in an hour of faults an idempotent producer of librdkafka sends no more, without a word: it is replaced."""
    producer.purge()
    producer.flush(1)
