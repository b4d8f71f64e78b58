"""What an image network is, in numbers that a model card can hold; and the network of it. torch is imported on demand."""

from dataclasses import asdict, dataclass
from typing import Any

from schemas.errors import UserError

KINDS = ("lean", "pasquet")
SEES = ("mixed", "image", "magnitudes")  # what a network is given beside E(B-V) and the band mask


@dataclass(frozen=True)
class Architecture:
    """One network.

    Attributes
    ----------
    kind
        ``lean`` or ``pasquet``.
    sees
        ``mixed``, ``image`` or ``magnitudes``; Pasquet's sees images.
    bands, size, points
        Bands and pixels of the stamps, points of the redshift grid.
    """

    kind: str
    sees: str
    bands: int
    size: int
    points: int

    def __post_init__(self) -> None:
        if self.kind not in KINDS or self.sees not in SEES or (self.kind == "pasquet" and self.sees != "image"):
            raise UserError(
                f"No network is a {self.kind!r} that sees {self.sees!r}: there are lean ({', '.join(SEES)}) and pasquet (image)."
            )
        if self.bands < 1 or self.size < 16 or self.points < 3:
            raise UserError(
                f"Stamps of {self.bands} bands and {self.size} pixels are too small for a network (16 pixels)."
            )

    @property
    def columns(self) -> slice:
        """Which of the columns of `models.images.inputs.features` it sees."""
        whole = columns(self.bands)
        if self.kind == "pasquet":
            return slice(whole - 2, whole - 1)  # E(B-V) alone, as published
        return slice(2 * self.bands, whole) if self.sees == "image" else slice(0, whole)

    def card(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def columns(bands: int) -> int:
    """Columns of `models.images.inputs.features`."""
    return 3 * bands + 2


def network(of: Architecture) -> Any:
    """A network with fresh weights, a torch module: `net(stamps, features) -> logits`.

    Raises
    ------
    schemas.errors.UserError
        If torch is not installed.
    """
    try:
        from models.images.lean import Lean
        from models.images.pasquet import Pasquet
    except ModuleNotFoundError as error:
        raise UserError("Image networks need torch: pip install 'slipher[images]'.") from error
    from models.images.lean_shape import shape

    if of.kind == "pasquet":
        return Pasquet(of.bands, of.size, of.columns.stop - of.columns.start, of.points)
    return Lean(shape(of))
