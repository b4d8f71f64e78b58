"""One small hierarchy of errors. Each ends the command with a sentence and an exit code, never with a traceback.

A data error is not among them: a message that cannot be read is a row of ``Refusals``, never an exception across a batch.
"""


class SlipherError(Exception):
    """Base of all: `str(error)` is one or two sentences for a person: what is wrong, and what to do."""

    exit_code = 1


class UserError(SlipherError):
    """What a person did wrong: settings, files, arguments. Exit 2, with the mend."""

    exit_code = 2


class TroubleError(SlipherError):
    """What the world did: a broker or a disk that is away, longer than we retry. Exit 75 (EX_TEMPFAIL): try again later."""

    exit_code = 75


class IntegrityError(SlipherError):
    """What would lose or double data if we went on. Exit 3: a person has to look."""

    exit_code = 3
