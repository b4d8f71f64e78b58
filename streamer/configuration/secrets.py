"""Secrets among settings: which they are, how they are shown, and how one is read from a file.

``sasl.password.file = "/run/secrets/kafka-password"`` is the password that this file holds: a secret of Kubernetes or Docker is
mounted as a file, and never stands in the environment, in the settings or on the command line. Any key may be given so, for a
user's name is often a part of the secret.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from schemas.errors import UserError

MASK = "********"
FILE = ".file"

_SECRET = re.compile(
    r"passw|passphrase|secret|token|\.pem$|jaas|oauthbearer\.config|user\.info|credential|access_key|private|"
    r"api[._]?key|encryption_key|customer_key|certificate\.string",
    re.IGNORECASE,
)
_IS_FILE_ANYWAY = re.compile(r"\.assertion\.(file|private\.key\.file|jwt\.template\.file)$")  # librdkafka's own
_PUBLIC = re.compile(r"token\.endpoint|location$|\.method$|kerberos|_uri$|_file$|metadata", re.IGNORECASE)
_USER = re.compile(r"(?<=://)\S+@")  # of an address; up to the last @, for a password may hold others


def is_secret(key: str) -> bool:
    """Whether the value of a setting of that name may not be shown."""
    return _SECRET.search(key) is not None and _PUBLIC.search(key) is None


def shown(value: Any, key: str = "") -> Any:
    """`value` of the setting `key` as it may be shown: secrets masked, credentials in an address too."""
    if isinstance(value, Mapping):
        return {name: shown(some, name) for name, some in value.items()}
    if is_secret(key) and value not in ("", None) and not _names_a_file(key):
        return MASK
    return _USER.sub(f"{MASK}@", value) if isinstance(value, str) else value


def read_from_files(given: Mapping[str, str], where: str) -> dict[str, str]:
    """`given` with what is named ``KEY.file`` replaced by KEY and what that file holds, less the line's end.

    Parameters
    ----------
    where
        What the settings are of, for the error: kafka, registry, storage.

    Raises
    ------
    UserError
        No such file, nothing in it, or KEY is given as well.
    """
    out = {key: value for key, value in given.items() if not _names_a_file(key)}
    for key, path in given.items():
        if not _names_a_file(key):
            continue
        name = key.removesuffix(FILE)
        if name in out:
            raise UserError(f"{where}: {name} is given, and {key} too: leave one of them out.")
        try:
            held = Path(path).read_text().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no text"
            raise UserError(f"{where}: {key}: {path} cannot be read: {why}.") from None
        if not held:
            raise UserError(f"{where}: {key}: {path} is empty.")
        out[name] = held
    return out


def in_other_form(key: str) -> str:
    """KEY of ``KEY.file``, and ``KEY.file`` of any other: both give the same setting."""
    return key.removesuffix(FILE) if _names_a_file(key) else key + FILE


def _names_a_file(key: str) -> bool:
    return key.endswith(FILE) and _IS_FILE_ANYWAY.search(key) is None
