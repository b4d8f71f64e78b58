"""Who reads what into a catalogue, and how far each has come: from its tables, never from Kafka's committed offsets."""

import re
from typing import Any, NamedTuple

from streamer.backfill.manifest import CLUSTER
from streamer.catalogue import Catalogue

# A topic id may hold slashes: librdkafka prints it in the standard base 64.
_APP = re.compile(r"slipher/(?P<processing>[^/]+)/(?P<topic>.+)/(?P<partition>\d+)/(?P<what>\w+)")

Who = tuple[str, str]  # processing id, topic id


class Reader(NamedTuple):
    """A model that reads a topic into the catalogue."""

    model: str
    processing_id: str
    topic: str
    topic_id: str
    cluster_id: str

    @property
    def who(self) -> Who:
        """As the application ids name it."""
        return self.processing_id, self.topic_id


def readers(catalogue: Catalogue, topic: str | None = None, model: str | None = None) -> dict[Who, Reader]:
    """Readers by (processing id, topic id): the newest binding of each (processing, cluster, topic), oldest first.

    What a topic of that name was before has no lag any more, and files at rest never had one.

    Parameters
    ----------
    catalogue
        Who is bound to what.
    topic, model
        Only these; a model by its name or its processing id. None is all.
    """
    models = catalogue.models()
    names = dict(zip(models["processing_id"].to_pylist(), models["model"].to_pylist(), strict=True))
    newest: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in catalogue.topics().to_pylist():  # oldest first
        who = row["processing_id"]
        if topic not in (None, row["topic"]) or model not in (None, who, names.get(who)):
            continue
        if row["cluster_id"] != CLUSTER:  # no broker knows of files at rest
            newest.pop((who, row["cluster_id"], row["topic"]), None)
            newest[who, row["cluster_id"], row["topic"]] = row
    found = [
        Reader(names.get(who, who), who, name, row["topic_id"], cluster) for (who, cluster, name), row in newest.items()
    ]
    return {reader.who: reader for reader in found}


def app_parts(app: str) -> tuple[Who, int, str] | None:
    """((processing id, topic id), partition, name) of an application id; None where it is of another kind."""
    found = _APP.fullmatch(app)
    return ((found["processing"], found["topic"]), int(found["partition"]), found["what"]) if found else None


def durable_offsets(catalogue: Catalogue, topic: str | None = None) -> dict[tuple[Reader, int], int]:
    """Next offset by (reader, partition), as of now: ``offset``, or ``start`` before the first commit.

    Readers that a person has retired are left out.
    """
    from streamer.lag.retired import marks, still_retired
    from streamer.sink.appids import read_app_ids

    known = readers(catalogue, topic)
    ids = read_app_ids(catalogue.root / "rows")
    for who in still_retired(marks(catalogue.operations()), ids):
        known.pop(who, None)
    out: dict[tuple[Reader, int], int] = {}
    for wanted in ("start", "offset"):  # an offset takes the place of the start
        for app, version in ids.items():
            if (parts := app_parts(app)) and parts[2] == wanted and (reader := known.get(parts[0])):
                out[reader, parts[1]] = version
    return out
