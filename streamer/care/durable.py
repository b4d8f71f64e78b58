"""Is all that Kafka received before a night was closed in the catalogue?"""

import datetime as dt
from collections.abc import Mapping

from schemas.errors import SlipherError
from streamer.catalogue import Catalogue
from streamer.lag.readers import Reader, durable_offsets
from streamer.source.connection import LogEnds, Start, identify

PATIENCE = 5.0


def not_durable(
    catalogue: Catalogue, model: str, closes: dt.datetime, brokers: str, kafka: Mapping[str, str] | None = None
) -> list[str]:
    """What of the messages before `closes` is not durable yet: sentences, one per partition that is behind.

    Parameters
    ----------
    catalogue
        Its transactions say how far `model` has come.
    model
        A name in the column ``model``.
    closes
        A time of messages, by Kafka's clock.
    brokers, kafka
        The cluster, and further settings of the client. A topic that is not there, or is another one by now, brings nothing
        any more.

    Raises
    ------
    TroubleError
        No broker answers.
    """
    mine: dict[Reader, dict[int, int]] = {}
    for (reader, partition), offset in durable_offsets(catalogue).items():
        if reader.model == model:
            mine.setdefault(reader, {})[partition] = offset
    settings = {**(kafka or {}), "bootstrap.servers": brokers, "log_level": 0}
    when = Start("time", str(int(closes.timestamp() * 1000)))
    out = []
    for reader, durable in mine.items():
        try:
            topic = identify(settings, reader.topic, PATIENCE)
        except SlipherError as error:
            if error.exit_code != 2:  # the broker, not the topic
                raise
            continue
        if topic.topic_id != reader.topic_id:
            continue
        due = LogEnds(settings, topic).at(sorted(durable), when)
        out += [
            f"partition {p} of {reader.topic} is durable to offset {durable[p]:,}, and {offset - durable[p]:,} more offsets "
            f"hold what Kafka received before {closes:%Y-%m-%d %H:%M} UTC"
            for p, offset in sorted(due.items())
            if offset > durable[p]
        ]
    return out
