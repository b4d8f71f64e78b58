"""Broker, credentials, topic, group, and the broker's times beside our clock."""

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

from confluent_kafka import KafkaError, KafkaException, libversion
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType  # type: ignore[attr-defined]

from schemas.errors import UserError
from streamer.doctor.finding import Finding, note, ok, skipped, wrong
from streamer.source.connection import REFUSED, LogEnds, NoTopic, Start, identify

PATIENCE = 3.0  # seconds to each answer
AHEAD_S = 5.0  # a message that is so far in the future has a clock that is wrong, or we have

_CREDENTIALS = (
    "Check security.protocol, sasl.mechanism, sasl.username and sasl.password (or sasl.password.file) under [kafka]."
)


def look(
    connection: dict[str, Any], topic: str, group: Callable[[], str], now: Callable[[], float] = time.time
) -> Iterator[Finding]:
    """Look at the broker of `connection`; each finding is told as it is made.

    Parameters
    ----------
    connection
        Settings of the client, ``bootstrap.servers`` among them.
    topic
        Name or ``^pattern``; "" = none was given.
    group
        Says that of the consumers; "" = not known.
    now
        Wall clock, s since 1970 UTC.
    """
    heard: list[KafkaError] = []
    brokers = connection["bootstrap.servers"]
    asking: dict[str, Any] = {**connection, "log_level": 0, "error_cb": heard.append}
    try:
        admin = AdminClient(asking)
    except KafkaException as error:
        yield wrong("broker", f"Kafka does not take these settings: {error.args[0].str()}", "Mend [kafka] or --kafka.")
        return
    begun = time.monotonic()
    try:
        metadata = admin.list_topics(timeout=PATIENCE)
    except KafkaException as error:
        admin.poll(0.2)  # what the connections said, which is more than that none came about
        yield from _unreachable(brokers, [error.args[0], *heard], connection)
        return
    took = (time.monotonic() - begun) * 1000
    there = f"{len(metadata.brokers)} at {brokers}, cluster {metadata.cluster_id}"
    yield ok("broker", f"{there}, first answer in {took:.0f} ms")
    yield ok("credentials", _who(connection))
    names = [name for name in metadata.topics if not name.startswith("__")]
    if not topic:
        yield skipped("topic", f"none was given; the broker shows {len(names)}")
        yield skipped("group", "no topic")
        return
    if topic.startswith("^"):
        fit = sorted(name for name in names if re.compile(topic).match(name))
        some = ok if fit else note
        yield some("topic", f"{len(fit)} topics fit {topic}{': ' + ', '.join(fit[:5]) if fit else ' yet'}")
        yield _group(admin, group())
        return
    try:
        found = identify(connection, topic, PATIENCE)
    except NoTopic as error:
        yield wrong("topic", str(error), "Make it, or mend --topic.")
        yield _group(admin, group())
        return
    except UserError as error:
        yield wrong("topic", str(error), "Ask for the right to read and describe it.")
        yield _group(admin, group())
        return
    kept, retention = _retention(admin, topic)
    ends = LogEnds(connection, found, PATIENCE)
    partitions = list(range(found.partitions))
    first, last = ends.earliest(partitions), ends.latest(partitions)
    held = sum(last.values()) - sum(first.values())
    told = f"{topic}: {found.partitions} partitions, {held:,} offsets in the log, {retention}"
    yield ok("topic", told) if kept else note("topic", told)
    yield _clock(ends, partitions, last, now)
    yield _group(admin, group())  # last: its name may have to wait for the model


def _unreachable(brokers: str, said: list[KafkaError], connection: dict[str, Any]) -> list[Finding]:
    refused = next((error for error in said if error.code() in REFUSED), None)
    rest = [skipped(name, "the broker is not reached") for name in ("topic", "group", "clock")]
    if refused is not None:
        return [ok("broker", f"{brokers} answers"), wrong("credentials", _brief(refused), _CREDENTIALS), *rest]
    texts = " ".join(error.str() for error in said)
    if "SSL" in texts or "ssl" in connection.get("security.protocol", "").lower():
        mend = "Is it up? Check security.protocol, ssl.ca.location and the port: TLS and plain text have one each."
    else:
        mend = "Is it up, and is --brokers right? `slipher broker start` starts one here."
    return [wrong("broker", f"no answer from {brokers} within {PATIENCE:g} s: {_brief(said[-1])}", mend), *rest]


def _brief(error: KafkaError) -> str:
    return re.sub(r"\s*\(after [^)]*\)", "", error.str())


def _who(connection: dict[str, Any]) -> str:
    protocol = connection.get("security.protocol", "plaintext").lower()
    if "sasl" in protocol:
        mechanism = connection.get("sasl.mechanism", connection.get("sasl.mechanisms", "GSSAPI"))
        return f"accepted: {mechanism} as {connection.get('sasl.username', 'whom the mechanism says')}, {protocol}"
    return (
        f"accepted: {'certificates' if 'ssl' in protocol else 'none needed'}, {protocol} (librdkafka {libversion()[0]})"
    )


def _retention(admin: AdminClient, topic: str) -> tuple[bool, str]:
    """Whether it may be read and is no shorter than an observing night and a day, and in words."""
    asked = ConfigResource(ResourceType.TOPIC, topic)
    try:
        held = admin.describe_configs([asked], request_timeout=PATIENCE)[asked].result()
    except KafkaException:
        return True, "retention is not ours to read"
    ms, size = int(held["retention.ms"].value), int(held["retention.bytes"].value)
    told = "kept for ever" if ms < 0 else f"kept for {ms / 3_600_000:,.1f} h"
    told += f", at most {size / 1e9:,.2f} GB a partition" if size >= 0 else ""
    if "compact" in held["cleanup.policy"].value:
        return (
            False,
            f"{told}; it is compacted: of messages with one key only the last stays, and older rows cannot be replayed",
        )
    if 0 <= ms < 36 * 3_600_000:
        return False, f"{told}: workers that are down for longer lose messages"
    return True, told


def _group(admin: AdminClient, group: str) -> Finding:
    if not group:
        return skipped("group", "the model names it, and it is not known")
    try:
        described = admin.describe_consumer_groups([group], request_timeout=PATIENCE)[group].result()
    except KafkaException as error:
        if error.args[0].code() in REFUSED or error.args[0].code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            return wrong("group", f"{group}: {error.args[0].str()}", "Ask for the right to read as this group.")
        return ok("group", f"{group} does not exist yet: the first worker makes it")
    members = len(described.members)
    return ok("group", f"{group}: {described.state.name.lower().replace('_', ' ')}, {members} members")


def _clock(ends: LogEnds, partitions: list[int], last: dict[int, int], now: Callable[[], float]) -> Finding:
    """Messages of the future say that a clock is wrong: ours, or a producer's or the broker's."""
    bound = int((now() + AHEAD_S) * 1000)
    late = ends.at(partitions, Start("time", str(bound)))
    future = sum(last[p] - late[p] for p in partitions)
    if future:
        return wrong(
            "clock",
            f"{future:,} offsets are of messages sent more than {AHEAD_S:g} s after this machine's now",
            "Is this machine's clock right (`timedatectl`), or are the producers' ahead? Nights and lags go by them.",
        )
    return ok("clock", f"no message is more than {AHEAD_S:g} s ahead of this machine")
