"""What a table says of itself as a whole: metadata of the schema of a Parquet or Arrow file, keys that begin with ``slipher.``.

`slipher simulate` writes them; who has a table of his own may add them (pyarrow: ``table.replace_schema_metadata``). A table
that bears its survey need not be named one for training and publishing, and is never taken for another's.
"""

from pathlib import Path
from typing import Any

from schemas.bands import BandSet, band_set
from schemas.errors import UserError

PREFIX = "slipher."
SURVEY, DUST_LAW = "survey", "dust_law"  # what commands take from it
PIXEL = "pixel"  # arcsec; for people: the column stamp_scale has it too
LSST, SF11 = "lsst", "SF11"  # what holds where nobody says otherwise


def of_schema(schema: Any) -> dict[str, str]:
    """The entries of a `pyarrow.Schema`, by their keys without the prefix."""
    prefix = PREFIX.encode()
    held = (schema.metadata or {}).items()
    return {
        key[len(prefix) :].decode(): value.decode("utf-8", "replace") for key, value in held if key.startswith(prefix)
    }


def of_file(path: str | Path) -> dict[str, str]:
    """The entries of the file at `path`; none where it has no such metadata, or cannot be read: who reads the table says why."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = Path(path)
    try:
        if file.suffix.lower() in (".parquet", ".pq"):
            return of_schema(pq.read_schema(file))
        if file.suffix.lower() in (".arrow", ".feather"):
            with pa.OSFile(str(file)) as source:
                return of_schema(pa.ipc.open_file(source).schema)
    except (OSError, pa.ArrowException):
        pass
    return {}


def bands_for(path: str | Path, survey: str | None) -> BandSet:
    """The bands of `survey`, or where that is None of the survey that the table at `path` names, else of LSST.

    Raises
    ------
    schemas.errors.UserError
        If no survey has that name. (One that the table contradicts is refused when the table is read.)
    """
    said = of_file(path).get(SURVEY) if survey is None else None
    try:
        return band_set(survey or said or LSST)
    except KeyError as error:
        raise UserError(f"{path} says whose it is, but {error.args[0]}." if said else f"{error.args[0]}.") from error


def check_survey(name: str, about: dict[str, str], bands: BandSet) -> None:
    """Refuse a table that says that it is of another survey than that of `bands`.

    Raises
    ------
    schemas.errors.UserError
        Naming the table and both surveys.
    """
    said = about.get(SURVEY, bands.survey)
    if said != bands.survey:
        raise UserError(f"{name} is a table of survey {said}, by its metadata, and survey {bands.survey} is wanted.")
