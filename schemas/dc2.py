"""Where the simulated Rubin photometry for tests and the demo lies.

Origin: LSST DESC's DC2 simulation (cosmoDC2, healpix 9816) as packed in the Python package ``pz-rail-base`` (MIT licence,
LSST DESC): ugrizy magnitudes with errors to i = 25.3 and true redshifts, 10,225 galaxies to train on and 20,449 to validate with.
The files are read where that package is installed; its code is never imported, and no copy is kept here.
"""

from importlib import metadata
from pathlib import Path

from schemas.errors import UserError

PACKAGE = "pz-rail-base"
TRAINING = "rail/examples_data/testdata/test_dc2_training_9816.hdf5"
VALIDATION = "rail/examples_data/testdata/test_dc2_validation_9816.hdf5"


def training() -> Path:
    """The training file: HDF5, group ``photometry``.

    Raises
    ------
    schemas.errors.UserError
        If the package is not installed.
    """
    return _locate(TRAINING)


def validation() -> Path:
    """The validation file: HDF5, group ``photometry``. Raises as `training` does."""
    return _locate(VALIDATION)


def _locate(name: str) -> Path:
    try:
        path = Path(str(metadata.distribution(PACKAGE).locate_file(name)))
    except metadata.PackageNotFoundError:
        path = None
    if path is None or not path.is_file():
        raise UserError(f"The DC2 photometry is not installed: pip install --no-deps {PACKAGE}.")
    return path
