"""Models trained once a run, and the DC2 photometry: imported by the tests that want them."""

import fcntl
import os
from functools import cache

import pytest

from models import bundle, training
from models.bundle import Bundle
from models.forest.estimator import ForestEstimator
from schemas import dc2, photometry_table
from schemas.bands import band_set
from schemas.photometry_table import PhotometryTable

LSST = band_set("lsst")


@cache
def dc2_training() -> PhotometryTable:
    return photometry_table.read(dc2.training(), LSST, want_redshift=True).with_redshift()


@cache
def dc2_validation() -> PhotometryTable:
    return photometry_table.read(dc2.validation(), LSST, want_redshift=True).with_redshift()


def arrays(table: PhotometryTable) -> tuple:
    return table.flux, table.flux_err, table.band_state, table.ebv, table.z


@pytest.fixture(scope="session")
def dc2_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """What `slipher train` makes of the DC2 training file by default, told beforehand that noisy copies help.

    Trained once a run: with several workers of pytest by the first that wants it, and the others wait for its file.
    """
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    path = root / "dc2.slipher"
    with (root / "dc2.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            bundle.write(training.fit(*arrays(dc2_training()), LSST, training.ForestSettings(augment="yes")), path)
    return bundle.read(path)


@pytest.fixture(scope="session")
def dc2_estimator(dc2_bundle: Bundle) -> ForestEstimator:
    return ForestEstimator(dc2_bundle)
