"""What both Kafka sources have of the client: a consumer, how large messages are, and what its errors mean."""

import logging
from collections.abc import Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message

from schemas.errors import SlipherError, TroubleError, UserError
from streamer.source.judgement import judge

log = logging.getLogger(__name__)

CONSUME_MESSAGES = 2_000  # of one consume call: more gain nothing
LEAST_BYTES = 100.0  # that a message counts for


class Receiver:
    """A consumer of one topic.

    Parameters
    ----------
    settings
        Of the client, with the group.
    topic
        Which.

    Attributes
    ----------
    consumer
        The client: all calls from one thread.
    failed
        What ends the next ``consume``: callbacks of the client may not raise.
    bytes_read
        Of all payloads so far.

    Raises
    ------
    UserError
        A setting that the client does not know.
    """

    def __init__(self, settings: Mapping[str, Any], topic: str) -> None:
        self._settings, self._topic = settings, topic
        self.failed: BaseException | None = None
        self.bytes_read = 0
        self._size: float | None = None  # of a message, running mean
        self._away = False
        try:
            self.consumer = Consumer({**settings, "error_cb": self._on_error})
        except KafkaException as error:
            raise UserError(f"Kafka does not take these settings: {error.args[0].str()}.") from None

    def fitting(self, room: float) -> int:
        """How many messages to ask for where there is room for so many bytes: one, while nobody knows how large they are."""
        return 1 if self._size is None else min(CONSUME_MESSAGES, max(1, int(room / self._size)))

    def consume(self, wanted: int, seconds: float) -> list[Message]:
        """What comes within `seconds`, errors among it.

        Raises
        ------
        SlipherError
            What failed in a callback, or the client.
        """
        try:
            got = self.consumer.consume(wanted, seconds)
        except KafkaException as error:
            self._raise_failure()
            raise TroubleError(f"Reading {self._topic} failed: {error.args[0].str()}.") from None
        self._raise_failure()
        return got

    def measure(self, got: list[Message]) -> float:
        """Bytes of the payloads of `got`, from which the size of a message is learnt."""
        sizes = [*filter(None, map(len, got if no_error(got) else [m for m in got if m.error() is None]))]
        if not sizes:
            return 0.0
        total = sum(sizes)
        self.bytes_read += total
        mean = max(total / len(sizes), LEAST_BYTES)
        self._size = mean if self._size is None else self._size + 0.3 * (mean - self._size)
        return float(total)

    def answered(self) -> None:
        """Messages came: where the broker was away, it is back."""
        self._away = False

    def _raise_failure(self) -> None:
        if self.failed is not None:
            failure, self.failed = self.failed, None
            raise failure

    def _on_error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            if not self._away:
                log.warning("no broker answers at %s; waiting", self._settings["bootstrap.servers"])
            self._away = True
        elif error.code() in (KafkaError._AUTHENTICATION, KafkaError._SSL):
            self.failed = TroubleError(f"The broker refuses us: {error.str()}. Check user, password and certificates.")
        elif error.fatal():
            try:
                judge(error, self._topic, self._settings["group.id"])
            except SlipherError as failure:
                self.failed = failure


def no_error(found: list[Message]) -> bool:
    """Whether none of `found` is one."""
    return {*map(type, map(Message.error, found))} <= {type(None)}  # by type: to compare a KafkaError with None raises
