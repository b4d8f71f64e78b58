"""The contract of every decoder: from messages to galaxies.

The invariant, checked in each call: every message has at least one galaxy, or stands whole in the refusals.
"""

from typing import Protocol

from schemas.batch import Galaxies, Messages, Refusals


class Decoder(Protocol):
    """Turns the messages of one survey into galaxies.

    Attributes
    ----------
    version
        Part of the processing id: another version may give other rows for the same message.
    bands
        The bands of the galaxies, in the order of their columns.
    """

    version: str
    bands: tuple[str, ...]

    def decode(self, messages: Messages) -> tuple[Galaxies, Refusals]:
        """Galaxies in message order, and what gives none.

        Pure: the same messages always give the same answer. No message, however broken, makes it raise, and none costs
        another message a row. It raises only for what no message is to blame for (a registry that is away, memory).
        The caller may not assume one row a message, nor that a message with galaxies has no refused rows.
        """
