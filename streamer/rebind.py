"""A person accepts a topic that was recreated: its name means the new topic from now on, to one model or to all."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from schemas.errors import UserError
from streamer.catalogue import open_catalogue
from streamer.sink import catalogue as tables
from streamer.source.connection import PATIENCE, identify


class Rebound(NamedTuple):
    """What a topic's name means to a model.

    Attributes
    ----------
    model
        Name of the model.
    topic_id
        Of the topic that is at the broker now.
    changed
        Whether it meant another one before.
    """

    model: str
    topic_id: str
    changed: bool


def rebind(
    root: Path,
    topic: str,
    model: str | None,
    brokers: str,
    kafka: Mapping[str, str] | None = None,
    patience: float = PATIENCE,
) -> list[Rebound]:
    """Bind the name `topic` to the topic that the broker has now, for `model` or, where it is None, for all.

    Rows of the old topic stay as they are. The new topic is read from its beginning by the next start of each model.

    Raises
    ------
    UserError
        There is no such catalogue, model or topic; or the model has never read a topic of this name at this broker.
    TroubleError
        No broker answers within `patience` seconds.
    """
    catalogue = open_catalogue(root)
    found = catalogue.models()
    models = dict(zip(found["processing_id"].to_pylist(), found["model"].to_pylist(), strict=True))
    if model is not None and model not in {*models, *models.values()}:
        there = ", ".join(sorted(models.values())) or "none"
        raise UserError(f"{root} has no model {model}. It has {there}.")
    settings: dict[str, Any] = {**(kafka or {}), "bootstrap.servers": brokers}
    now = identify(settings, topic, patience)
    readers = sorted(
        {
            row["processing_id"]
            for row in catalogue.topics().to_pylist()
            if (row["topic"], row["cluster_id"]) == (topic, now.cluster_id)
        }
    )
    if model is not None:
        readers = [who for who in readers if model in (who, models.get(who))]
    if not readers:
        raise UserError(f"{model or 'No model'} has {'never ' if model else ''}read {topic} of {brokers} into {root}.")
    now_ms = time.time_ns() // 1_000_000
    return [
        Rebound(
            models.get(who, who),
            now.topic_id,
            tables.rebind(root, who, now.cluster_id, topic, now.topic_id, now_ms),
        )
        for who in readers
    ]
