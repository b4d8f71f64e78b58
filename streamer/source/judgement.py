"""What an error of the Kafka client means: it passes, a person made a mistake, the world is in the way, data would be lost."""

import logging

from confluent_kafka import KafkaError

from schemas.errors import TroubleError, UserError
from streamer.source.connection import TopicGone

log = logging.getLogger(__name__)

FATAL_MEANING = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "may not be read with these credentials",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "may not be read with this group id",
}
PASSING = {  # what the client mends by itself
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._RESOLVE,
    KafkaError._TIMED_OUT,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.REQUEST_TIMED_OUT,
}
OTHER_PROTOCOL = (KafkaError.INCONSISTENT_GROUP_PROTOCOL, KafkaError.UNSUPPORTED_ASSIGNOR)


def say_expired(topic: str, partition: int, first: int, end: int) -> None:
    """That retention took the offsets [first, end) before they were read."""
    fields = {"topic": topic, "partition": partition, "first_offset": first, "end_offset": end}
    log.warning("%s partition %d: offsets %d to %d expired unread", topic, partition, first, end - 1, extra=fields)


def judge(error: KafkaError, topic: str, group: str) -> None:
    """Say what passes; raise for what does not.

    Raises
    ------
    UserError
        Credentials, or a group whose members want different things.
    TopicGone
        The topic was deleted.
    TroubleError
        Anything else that the client does not mend by itself.
    """
    code = error.code()
    if code in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
        raise TopicGone(f"The topic {topic} is gone while it is read. What was durable stays; a person has to look.")
    if code in FATAL_MEANING:
        raise UserError(f"The topic {topic} {FATAL_MEANING[code]}: {error.str()}.")
    if code in OTHER_PROTOCOL:
        raise UserError(
            f"The group {group} has members with another partition.assignment.strategy or group.protocol than ours, and a group "
            f"has one at a time ({error.str()}). Stop them all before you change it, or take another --group: where reading goes "
            f"on stands in the table, not in the group."
        )
    if code == KafkaError.FENCED_INSTANCE_ID:
        raise UserError(
            f"Another worker of the group {group} has our group.instance.id and took our place: each needs its own."
        )
    if code == KafkaError._MAX_POLL_EXCEEDED:
        log.warning("a batch took longer than max.poll.interval.ms: partitions go to others and come back")
    elif code in PASSING and not error.fatal():
        log.warning("kafka: %s", error.str())
    else:  # a record set that cannot be read must not be stepped over
        raise TroubleError(f"Kafka: {error.str()}. Nothing was lost; start again, or look at the broker.")
