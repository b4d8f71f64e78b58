"""Spectra of galaxies and filter curves, read where two packages from PyPI carry them; no copy is kept here.

``pz-rail-base`` (MIT, LSST DESC) has the 31 spectra of the COSMOS photometric redshifts: ellipticals and spirals of Polletta et
al. 2007 (ApJ 663, 81) and starbursts of Bruzual & Charlot 2003 (MNRAS 344, 1000), as Ilbert et al. 2009 (ApJ 690, 1236) did.
``speclite`` (BSD, DESI) has the throughputs of the cameras with the air above them. Neither package is imported.
"""

import os
import re
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np

from schemas.batch import Float64
from schemas.errors import UserError

SPECTRA = ("pz-rail-base", "rail/examples_data/estimation_data/data/SED")
FILTERS = ("speclite", "speclite/data/filters")
FOLDER = "SLIPHER_SKY_CURVES"  # names a folder that holds both kinds of files, where the packages cannot be installed
LIST = "COSMOS_seds.list"


class Curve(NamedTuple):
    """A function of wavelength, zero outside."""

    wavelength: Float64  # Angstrom, rising
    value: Float64  # f_lambda in any unit, or the part of the photons that is counted


def spectra() -> list[Curve]:
    """The 31 rest-frame spectra of the COSMOS list, red to blue as the list has them.

    Raises
    ------
    schemas.errors.UserError
        If the package is not installed.
    """
    names = _file(*SPECTRA, LIST).read_text().split()
    return [Curve(*np.loadtxt(_file(*SPECTRA, name), usecols=(0, 1)).T) for name in names]


def filter_curve(name: str) -> Curve:
    """The throughput `name` of speclite, such as ``lsst2023-g``. Raises as `spectra` does."""
    lines = _file(*FILTERS, f"{name}.ecsv").read_text().splitlines()
    head = [line for line in lines if line.startswith("#")]
    found = re.search(r"name: wavelength, unit: (\w+)", "\n".join(head))
    unit = {"nm": 10.0, "Angstrom": 1.0}[found.group(1) if found else "Angstrom"]
    wavelength, response = np.loadtxt(lines[len(head) + 1 :], usecols=(0, 1)).T
    return Curve(wavelength * unit, np.maximum(response, 0.0))


def _file(package: str, folder: str, name: str) -> Path:
    given = os.environ.get(FOLDER)
    path: Path | None
    try:
        path = Path(given) / name if given else Path(str(metadata.distribution(package).locate_file(folder))) / name
    except metadata.PackageNotFoundError:
        path = None
    if path is None or not path.is_file():
        raise UserError(f"The simulated sky needs the files of {package}: pip install --no-deps {package}.")
    return path
