"""Schemas on disk, one file an id, so that a start without the registry goes on where the last one was.

An id means the same for ever, so a file is never out of date. A file that a crash or a full disk cut short shows by its
hash; it counts as none. Whoever wipes a registry and fills it anew under the same address must delete the folder.
"""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from streamer.broker.cache import write_atomically

log = logging.getLogger(__name__)


class Kept:
    """The schemas of one registry in a folder.

    Parameters
    ----------
    folder
        Holds the schemas of all registries; made where it is missing.
    address
        Of the registry.
    """

    def __init__(self, folder: Path, address: str) -> None:
        self._folder = folder / hashlib.sha256(address.encode()).hexdigest()[:16]
        self._address = address
        self._writes = True

    def path(self, schema_id: int) -> Path:
        """The file of `schema_id`: the SHA-256 of its second line, then one JSON object."""
        return self._folder / f"{schema_id}.json"

    def read(self, schema_id: int) -> dict[str, Any] | None:
        """The schema of `schema_id`; None where no file says it whole."""
        path = self.path(schema_id)
        try:
            digest, _, body = path.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("%s cannot be read (%s): the registry is asked instead", path, error.strerror)
            return None
        if hashlib.sha256(body).hexdigest().encode() == digest:
            content = json.loads(body)
            if (content["registry"], content["id"]) == (self._address, schema_id):
                schema: dict[str, Any] = content["schema"]
                return schema
        log.warning("%s is damaged, or another's: the registry is asked instead", path)
        return None

    def write(self, schema_id: int, schema: dict[str, Any]) -> None:
        """Keep `schema`; without a disk to write to, it is asked for again at the next start."""
        body = json.dumps({"registry": self._address, "id": schema_id, "schema": schema}) + "\n"
        digest = hashlib.sha256(body.encode()).hexdigest()
        try:
            write_atomically(self.path(schema_id), f"{digest}\n{body}")
        except OSError as error:
            if self._writes:
                log.warning(
                    "schemas are not kept in %s (%s): each start needs the registry", self._folder, error.strerror
                )
            self._writes = False
