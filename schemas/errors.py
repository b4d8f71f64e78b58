"""One small hierarchy of errors. Each ends the command with a sentence and an exit code, never with a traceback.

A data error is not among them: a message that cannot be read is a row of ``Refusals``, never an exception across a batch.
"""

import re

_LINES = re.compile(r"\s*\x1b\[\d+m↳\x1b\[0m\s*")


class SlipherError(Exception):
    """Base of all: `str(error)` is one or two sentences for a person: what is wrong, and what to do."""

    exit_code = 1

    def __str__(self) -> str:
        return one_line(super().__str__())


class UserError(SlipherError):
    """What a person did wrong: settings, files, arguments. Exit 2, with the mend."""

    exit_code = 2


class TroubleError(SlipherError):
    """What the world did: a broker or a disk that is away, longer than we retry. Exit 75 (EX_TEMPFAIL): try again later."""

    exit_code = 75


class IntegrityError(SlipherError):
    """What would lose or double data if we went on. Exit 3: a person has to look."""

    exit_code = 3


def one_line(text: str) -> str:
    """`text` without the coloured lines in which the table's library tells one cause after the other."""
    return re.sub(r"\s*\n\s*(?=[.;]|$)", "", _LINES.sub(": ", text)) if "\x1b" in text else text
