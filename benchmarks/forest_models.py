"""The models of the forest benchmark, trained once: in a folder of ours among the temporary files."""

import copy
import hashlib
import pickle
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import forest_data
from models import bundle as bundles
from models import estimator, training
from models import grid as grids
from models.calibration import slope_table
from models.forest.density import Recalibration, identity
from models.forest.inference import Inference
from models.forest.train import extract
from models.networks.train import NetworkSettings
from schemas import dc2, photometry_table
from schemas.bands import band_set
from schemas.batch import Float32, Float64
from schemas.errors import UserError
from schemas.photometry_table import PhotometryTable

TREES = 100
MODELS: dict[str, dict[str, Any]] = {  # the first two run against the peers, the others show what depth costs
    "rf5": {"min_samples_leaf": 5},
    "rfd10": {"max_depth": 10},
    "rfd6": {"max_depth": 6},
    "rfd14": {"max_depth": 14},
}
GRID_POINTS = 301
Z_MAX = 3.0
WIDTH, ALPHA = 0.008, 1.5  # smoothing and sharpening of a finished PDF
EPOCHS = 3  # of networks that need not be right


class Size(NamedTuple):
    """How much."""

    train: int
    rows: int
    repeats: int


FULL = Size(200_000, 1_000_000, 3)
QUICK = Size(20_000, 100_000, 1)


class Trained(NamedTuple):
    """A forest of scikit-learn, and what it was trained on."""

    model: Any
    x: Float32
    z: Float64
    key: str  # changes with any of it

    def fewer(self, trees: int) -> "Trained":
        """Its first trees."""
        model = copy.copy(self.model)
        model.estimators_ = self.model.estimators_[:trees]
        return self._replace(model=model)


def folder() -> Path:
    """Where models are kept from run to run."""
    place = Path(tempfile.gettempdir()) / "slipher-benchmark-forest"
    place.mkdir(exist_ok=True)
    return place


def kept(name: str, make: Callable[[], Any]) -> Any:
    """What `make` gives, or what it gave in an earlier run."""
    path = folder() / f"{name}.pickle"
    if path.exists():  # our own file, in our own folder
        with path.open("rb") as file:
            return pickle.load(file)
    made = make()
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        pickle.dump(made, file)
    part.rename(path)
    return made


@cache
def trained(name: str, size: Size) -> Trained:
    """The forest `name` of `MODELS`, on generated galaxies."""
    from sklearn import __version__
    from sklearn.ensemble import RandomForestRegressor

    x, z = forest_data.galaxies(size.train, 1)
    told = f"{name} {TREES} {MODELS[name]} {__version__}".encode() + x.tobytes() + z.tobytes()
    key = f"{name}-{hashlib.sha256(told).hexdigest()[:12]}"

    def fit() -> Any:
        model = RandomForestRegressor(TREES, max_features=4, random_state=1, n_jobs=2, **MODELS[name])
        return model.fit(x, z)

    return Trained(kept(key, fit), x, z, key)


def inference(of: Trained, *, bare: bool = False) -> Inference:
    """Our inference with its trees: finished PDFs; or `bare` ones, neither smoothed nor sharpened nor recalibrated."""
    forest = extract(of.model, of.x, np.arange(len(of.z)))
    grid, weight = grids.linear(Z_MAX, GRID_POINTS), np.ones(len(of.z))
    if bare:
        return Inference(forest, of.z, weight, grid, 0.0, 1.0, identity())
    # A map that is not straight, so that recalibration is work.
    slope = np.repeat(slope_table(np.random.default_rng(0).beta(1.2, 1.1, 5000))[None], 2, 0)
    return Inference(forest, of.z, weight, grid, WIDTH, ALPHA, Recalibration(slope, np.empty(0)))


def dc2_bundle(learner: str) -> Path:
    """The file of a model of DC2's training galaxies: the size of a real one, its networks hardly trained."""
    known = _dc2(dc2.training())
    networks = NetworkSettings(epochs=EPOCHS, decay=0.1)
    settings = training.ForestSettings(learner=learner, folds=2, augment="no", networks=networks)
    told = f"{settings} {bundles.FORMAT}".encode() + known.flux.tobytes()
    path = folder() / f"dc2-{learner}-{hashlib.sha256(told).hexdigest()[:12]}.slipher"
    try:
        estimator.load(path)
    except UserError:  # not there, or of an earlier version
        arrays = (known.flux, known.flux_err, known.band_state, known.ebv, known.z)
        bundles.write(training.fit(*arrays, band_set("lsst"), settings), path)
    return path


def dc2_galaxies(n: int) -> PhotometryTable:
    """Validation galaxies of DC2 drawn again, each with fresh noise, and dust."""
    rng = np.random.default_rng(2)
    unseen = _dc2(dc2.validation())
    drawn = unseen.take(rng.integers(0, len(unseen), n))
    flux = drawn.flux + drawn.flux_err * rng.standard_normal(drawn.flux.shape, np.float32)
    ebv = rng.exponential(0.05, n).astype(np.float32)
    return PhotometryTable(flux, drawn.flux_err, drawn.band_state, ebv, drawn.z, drawn.object_id, drawn.ra, drawn.dec)


def _dc2(path: Path) -> PhotometryTable:
    return photometry_table.read(path, band_set("lsst"), want_redshift=True).with_redshift()
