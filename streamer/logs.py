"""What a process says while it works: a line for people, or a JSON object a line for programs that gather logs.

Both say the same sentences. In JSON what they speak of stands beside them in fields (``FIELDS``), so that nobody has to read
partitions and offsets out of prose. Passwords are in neither.
"""

import json
import logging
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from streamer.configuration.secrets import MASK, is_secret

LogFormat = Literal["human", "json"]

# What may stand beside time, level, logger and message, each where it is known.
FIELDS = {
    "topic": "that is read",
    "model": "name of the model",
    "partition": "of the topic",
    "partitions": "several of them",
    "offset": "of a message",
    "first_offset": "of a range of messages",
    "end_offset": "one past the last of a range",
    "positions": "by partition, the next offset to be read",
    "durable": "by partition, the next offset that the table does not have",
    "processing_id": "identity of the rows",
    "group": "consumer group",
    "rows": "durable ones, of this process",
    "messages": "durable ones, of this process",
    "refused": "of these messages",
    "reasons": "by name of the reason, refusals of messages and rows",
    "commit": "its number, of this process",
    "device": "what evaluates image networks",
    "worker": "number of a worker under a supervisor",
    "process": "process id",
    "exit_code": "of a worker",
    "seconds": "how long something took, or is waited for",
}

_USER_INFO = re.compile(r"(?<=://)\S+(?=@)")  # user:password of an address; a password may hold another @
_SHORTEST = 4  # characters of a secret that is looked for: of a shorter one every other line would have some
_context: ContextVar[Mapping[str, Any]] = ContextVar("fields of the log", default={})  # noqa: B039 - nobody mutates it


class Human(logging.Formatter):
    """Time, level, sentence.

    Parameters
    ----------
    secrets
        Texts that are replaced wherever they turn up; so is what stands before the @ of an address.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")
        self._secrets = sorted({secret for secret in secrets if len(secret) >= _SHORTEST}, key=len, reverse=True)

    def format(self, record: logging.LogRecord) -> str:
        return self.clean(super().format(record))

    def clean(self, text: str) -> str:
        """`text` without any secret."""
        text = _USER_INFO.sub(MASK, text)
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return text


class Json(Human):
    """One JSON object a line: time (UTC), level, logger, message, what is known of ``FIELDS``, the traceback of an error."""

    def format(self, record: logging.LogRecord) -> str:
        known = {**_context.get(), **{key: value for key in FIELDS if (value := record.__dict__.get(key)) is not None}}
        said: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": self.clean(record.getMessage()),
        }
        said |= {key: self.clean(value) if isinstance(value, str) else value for key, value in known.items()}
        if record.exc_info:
            said["error"] = self.clean(self.formatException(record.exc_info))
        return json.dumps(said, default=str, ensure_ascii=False)


def set_up(level: int, form: LogFormat = "human", secrets: Iterable[str] = (), stream: TextIO | None = None) -> None:
    """Send all logs of this process to `stream` (stderr), at `level` and above; libraries stay silent until then.

    Parameters
    ----------
    level
        As of ``logging``.
    form
        For people or for programs.
    secrets
        Texts that are replaced wherever they turn up.
    stream
        Where to.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter((Json if form == "json" else Human)(secrets))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("numba").setLevel(logging.WARNING)


def secrets_of(*settings: Mapping[str, Any]) -> list[str]:
    """Values of those `settings` whose names say that they are secret."""
    return [str(value) for some in settings for key, value in some.items() if is_secret(key)]


@contextmanager
def working_at(**fields: Any) -> Iterator[None]:
    """What this thread says meanwhile is about that: names and values of ``FIELDS``. Threads inherit it by their context."""
    token = _context.set({**_context.get(), **fields})
    try:
        yield
    finally:
        _context.reset(token)


def passed_on(line: str, worker: int, form: LogFormat) -> str:
    """A line that worker number `worker` said, as its supervisor says it."""
    if form == "human":
        return f"[{worker}] {line}"
    if line.startswith("{") and line.endswith("}"):
        try:
            return json.dumps({**json.loads(line), "worker": worker}, ensure_ascii=False)
        except ValueError:
            pass
    now = datetime.now(UTC).isoformat(timespec="milliseconds")  # no log, such as the traceback of a fault
    said = {"time": now, "level": "INFO", "logger": "slipher", "message": line, "worker": worker}
    return json.dumps(said, ensure_ascii=False)
