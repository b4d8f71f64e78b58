"""Who reads what into a catalogue, and how far each has come: from its tables, never from Kafka's committed offsets."""

import re
from typing import Any, NamedTuple

from streamer.backfill.manifest import CLUSTER
from streamer.catalogue import Catalogue

# A topic id may hold slashes: librdkafka prints it in the standard base 64.
_APP = re.compile(r"slipher/(?P<processing>[^/]+)/(?P<topic>.+)/(?P<partition>\d+)/(?P<what>\w+)")


class Reader(NamedTuple):
    """A model that reads a topic into the catalogue."""

    model: str
    processing_id: str
    topic: str
    topic_id: str


def readers(catalogue: Catalogue, topic: str | None = None) -> dict[tuple[str, str], Reader]:
    """Readers by (processing id, topic id): the newest binding of each (processing, cluster, topic).

    What a topic of that name was before has no lag any more, and files at rest never had one.
    """
    models = catalogue.models()
    names = dict(zip(models["processing_id"].to_pylist(), models["model"].to_pylist(), strict=True))
    newest: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in catalogue.topics().to_pylist():  # oldest first
        if topic in (None, row["topic"]) and row["cluster_id"] != CLUSTER:  # no broker knows of files at rest
            newest[row["processing_id"], row["cluster_id"], row["topic"]] = row
    out = {}
    for row in newest.values():
        who = row["processing_id"]
        out[who, row["topic_id"]] = Reader(names.get(who, who), who, row["topic"], row["topic_id"])
    return out


def app_parts(app: str) -> tuple[tuple[str, str], int, str] | None:
    """((processing id, topic id), partition, name) of an application id; None where it is of another kind."""
    found = _APP.fullmatch(app)
    return ((found["processing"], found["topic"]), int(found["partition"]), found["what"]) if found else None


def durable_offsets(catalogue: Catalogue, topic: str | None = None) -> dict[tuple[Reader, int], int]:
    """Next offset by (reader, partition), as of now: ``offset``, or ``start`` before the first commit."""
    from streamer.sink.appids import read_app_ids

    known = readers(catalogue, topic)
    ids = read_app_ids(catalogue.root / "rows")
    out: dict[tuple[Reader, int], int] = {}
    for wanted in ("start", "offset"):  # an offset takes the place of the start
        for app, version in ids.items():
            if (parts := app_parts(app)) and parts[2] == wanted and (reader := known.get(parts[0])):
                out[reader, parts[1]] = version
    return out
