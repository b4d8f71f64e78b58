"""A schema registry as a source of schemas: in memory, else on disk, else asked for."""

import json
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from schemas.batch import Reason
from schemas.errors import TroubleError
from schemas.wire.confluent import SchemaSource
from schemas.wire.framing import Refused
from streamer.broker.cache import cache_dir
from streamer.registry.connection import Away, Connection, Missing
from streamer.registry.kept import Kept
from streamer.registry.references import whole

log = logging.getLogger(__name__)

TRIES = 4
FIRST_PAUSE_S = 0.2  # then doubled; the connection's timeout bounds all tries together
NONE_S = (
    5.0  # an id that is not there is not asked for again so soon: one in a poison message may come a thousand times
)
MOST_NONE = 10_000  # such ids remembered
LARGEST_ID = (1 << 31) - 1  # registries keep ids as signed 32-bit integers
MOST_REFERENCES = 1_000

_NO_REGISTRY = "Is that a schema registry (--registry)?"


class Registry:
    """A ``SchemaSource`` over a schema registry.

    Parameters
    ----------
    connection
        To the registry.
    kept
        The schemas on disk; None keeps none.
    clock
        Monotonic seconds.
    sleep
        Waits between tries, s.
    """

    def __init__(
        self,
        connection: Connection,
        kept: Kept | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._connection, self._kept, self._clock, self._sleep = connection, kept, clock, sleep
        self._schemas: dict[int, dict[str, Any]] = {}
        self._useless: dict[int, str] = {}
        self._none: dict[int, float] = {}

    def get(self, schema_id: int) -> dict[str, Any] | None:
        """The schema of `schema_id`, the types it refers to written out; None where the registry has none.

        Raises
        ------
        Refused
            The registry has something of that id that is no Avro record: JSON Schema, say, or Protobuf.
        TroubleError
            The registry does not say. The next call asks again.
        """
        if schema_id in self._schemas:
            return self._schemas[schema_id]
        if schema_id in self._useless:
            raise Refused(Reason.UNKNOWN_SCHEMA, self._useless[schema_id])
        if schema_id > LARGEST_ID or self._clock() - self._none.get(schema_id, -NONE_S) < NONE_S:
            return None
        schema = self._kept.read(schema_id) if self._kept else None
        if schema is None:
            schema = self._fetch(schema_id)
            if schema is None:
                return None
            if self._kept:
                self._kept.write(schema_id, schema)
        self._schemas[schema_id] = schema
        return schema

    def _fetch(self, schema_id: int) -> dict[str, Any] | None:
        try:
            answer = self._ask(f"/schemas/ids/{schema_id}")
            if (kind := answer.get("schemaType", "AVRO")) != "AVRO":
                raise self._refused(schema_id, f"is of type {kind}, and only Avro is read")
            schema = self._resolved(schema_id, answer)
        except Missing:
            if len(self._none) >= MOST_NONE:
                self._none.clear()
            self._none[schema_id] = self._clock()
            return None
        except Away as away:
            raise TroubleError(
                f"The schema registry at {self._connection.address} does not give schema {schema_id}: {away}"
            ) from None
        if not isinstance(schema, dict):
            raise self._refused(schema_id, "is no Avro record")
        log.info("schema %d came from %s", schema_id, self._connection.address)
        return schema

    def _resolved(self, schema_id: int, answer: dict[str, Any]) -> Any:
        texts = [_text(answer), *self._referred(answer)]
        try:
            schema, *referred = [json.loads(text) for text in texts]
        except (ValueError, RecursionError):
            raise self._refused(schema_id, "is no JSON, or refers to what is none") from None
        return whole(schema, referred) if referred else schema

    def _referred(self, answer: dict[str, Any]) -> list[str]:
        """The texts of all schemas that `answer` refers to, each after those it refers to itself."""
        texts: list[str] = []
        seen: set[tuple[str, int]] = set()

        def visit(answer: dict[str, Any]) -> None:
            for reference in answer.get("references") or ():
                try:
                    where = (str(reference["subject"]), int(reference["version"]))
                except (KeyError, TypeError, ValueError):
                    raise Away("its references have no subject and version", _NO_REGISTRY) from None
                if where in seen or len(seen) >= MOST_REFERENCES:
                    continue
                seen.add(where)
                path = f"/subjects/{quote(where[0], safe='')}/versions/{where[1]}?deleted=true"
                try:
                    found = self._ask(path)
                except Missing:
                    raise Away(
                        f"it refers to {where[0]} version {where[1]}, which is not there", "Was it deleted?"
                    ) from None
                visit(found)
                texts.append(_text(found))

        visit(answer)
        return texts

    def _ask(self, path: str) -> dict[str, Any]:
        return insist(lambda left: self._connection.get(path, left), self._connection.timeout, self._clock, self._sleep)

    def _refused(self, schema_id: int, why: str) -> Refused:
        """What the registry holds under an id does not change, so neither does this."""
        text = f"schema {schema_id} of the registry at {self._connection.address} {why}"
        self._useless[schema_id] = text
        return Refused(Reason.UNKNOWN_SCHEMA, text)


def insist(
    ask: Callable[[float], dict[str, Any]],
    timeout: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """One answer of `ask`, which is told the seconds left, tried for until `timeout`, s."""
    deadline = clock() + timeout
    pause = FIRST_PAUSE_S
    for attempt in range(TRIES):
        try:
            return ask(deadline - clock())
        except Away as away:
            if not away.passing or attempt == TRIES - 1 or clock() + pause >= deadline:
                raise
        sleep(pause)
        pause *= 2
    raise AssertionError("the last try returns or raises")


def _text(answer: dict[str, Any]) -> str:
    schema = answer.get("schema")
    if not isinstance(schema, str):
        raise Away("its answer has no schema", _NO_REGISTRY)
    return schema


class InTurn:
    """A ``SchemaSource`` of several: the first that has an id says it."""

    def __init__(self, *sources: SchemaSource) -> None:
        self._sources = sources

    def get(self, schema_id: int) -> dict[str, Any] | None:
        """The schema of `schema_id`; None where surely none of them has it."""
        for source in self._sources:
            schema = source.get(schema_id)
            if schema is not None:
                return schema
        return None


def registry(url: str, settings: Mapping[str, str], folder: Path | None = None) -> Registry:
    """The registry at `url`, its schemas kept in `folder`, by default in the user's cache; see ``Connection``."""
    connection = Connection(url, settings)
    return Registry(connection, Kept(folder or cache_dir() / "registry", connection.address))
