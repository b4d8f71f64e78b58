"""What is trained on a sample: the forest, the boxes that know its edges, and the networks that may stand beside it."""

import os
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models import grid as grids
from models.forest.boxes import MIN_LEAF as BOX_LEAF
from models.forest.boxes import TREES as BOX_TREES
from models.forest.boxes import Boxes, around, spread
from models.forest.density import histograms, leaf_density
from models.forest.forest import Forest
from models.forest.walk import leaves
from models.networks.network import Networks
from models.networks.train import NetworkSettings, train
from models.photometry import MagnitudeSystem, Photometry
from models.sample import Sample, known_masks, mask_shares
from schemas.batch import Float32, Float64, Int64

LEARNERS = ("forest", "forest+mlp")
AUGMENT = ("no", "yes", "auto")
NOISE = 0.5  # of noisy copies, in units of the flux errors
NOISY_COPIES = {True: 1, False: 3}  # with masked copies and without
MIN_LEAF = {  # by (masks, noisy): best out of fold
    (True, False): 3,
    (False, False): 2,
    (True, True): 4,
    (False, True): 4,
}


@dataclass(frozen=True)
class ForestSettings:
    """What a person may choose. `None` = chosen for the training set."""

    learner: str = "forest"  # or "forest+mlp": networks beside it
    trees: int = 100
    min_leaf: int | None = None
    kind: str = "extra-trees"  # or "random-forest"
    max_features: float = 1.0
    masks: bool = True  # train on copies with bands taken away, so that one model serves any mask
    copies: int = 3  # of each galaxy, with a random known mask each
    augment: str = "auto"  # noisy copies of each galaxy: "yes", "no", or "auto" = if that is better out of fold
    folds: int = 4  # of the out-of-fold calibration
    seed: int = 1
    dust_law: str = "SF11"
    grid_points: int = grids.POINTS
    z_max: float | None = None
    networks: NetworkSettings = field(default_factory=NetworkSettings)
    threads: int | None = None  # no effect on the model

    def leaf(self, noisy: bool) -> int:
        """Fewest galaxies a leaf."""
        return self.min_leaf or MIN_LEAF[self.masks, noisy]


class Course(NamedTuple):
    """All that training works on."""

    sample: Sample
    seen: Photometry  # of the sample as observed
    system: MagnitudeSystem
    grid: Float64
    masks: npt.NDArray[np.uint32]  # taught beside the full one; none = no masked copies
    settings: ForestSettings

    def masked_copy(self, rows: Int64, noise: float, rng: np.random.Generator) -> Photometry:
        """Photometry of `rows` with a random known mask each, and noise added."""
        mask = rng.choice(self.masks, len(rows), p=mask_shares(self.masks))
        return self.sample.photometry(rows, self.system, mask, noise, rng)


def course(sample: Sample, system: MagnitudeSystem, grid: Float64, settings: ForestSettings) -> Course:
    """Everything at hand for training."""
    masks = known_masks(sample.flux.shape[1]) if settings.masks else np.empty(0, np.uint32)
    return Course(sample, sample.photometry(np.arange(len(sample)), system), system, grid, masks, settings)


def grow_forest(work: Course, rows: Int64, noisy: bool, rng: np.random.Generator) -> Forest:
    """A forest on `rows`: as they are, in copies with a random known mask each, and in noisy copies."""
    from models.forest.train import grow  # scikit-learn: who only evaluates a model does not pay for it

    settings = work.settings
    features, row = _taught(work, rows, noisy, rng)
    return grow(
        features,
        work.sample.z[row],
        row,
        kind=settings.kind,
        trees=settings.trees,
        min_leaf=settings.leaf(noisy),
        max_features=settings.max_features,
        seed=settings.seed,
        threads=settings.threads or len(os.sched_getaffinity(0)),
    )


def look_up(work: Course, forest: Forest, seen: Photometry) -> Float32:
    """Weights on the grid of what `forest` finds beside each galaxy, float32[n, G]."""
    density = leaf_density(forest, work.sample.z, work.sample.weight, work.grid)
    return histograms(leaves(seen.features, forest.nodes()), density, len(work.grid))


def grow_boxes(work: Course, rows: Int64, rng: np.random.Generator) -> Boxes:
    """Boxes around `rows` as they are and with bands taken away."""
    from models.forest.train import grow

    features, row = _taught(work, rows, False, rng)
    forest = grow(
        features,
        work.sample.z[row],
        row,
        kind="extra-trees",
        trees=BOX_TREES,
        min_leaf=BOX_LEAF,
        max_features=1.0,
        seed=work.settings.seed,
        threads=work.settings.threads or len(os.sched_getaffinity(0)),
    )
    return around(forest, features, spread(work.seen.features[rows]))


def train_networks(work: Course, rows: Int64, rng: np.random.Generator) -> Networks:
    """Networks on `rows`, some of them with bands taken away, other ones in every epoch."""
    rows = rows[work.seen.band_mask[rows] != 0]
    chosen = work.settings.networks
    full = np.uint32((1 << work.sample.flux.shape[1]) - 1)

    def draw(rng: np.random.Generator) -> Photometry:
        mask = np.full(len(rows), full)
        if len(work.masks):
            mask = np.where(rng.random(len(rows)) < chosen.masked, rng.choice(work.masks, len(rows)), mask)
        return work.sample.photometry(rows, work.system, mask, chosen.noise, rng)

    z, weight = work.sample.z[rows], work.sample.weight[rows]
    return train(draw, work.seen.of(rows), z, weight, work.grid, chosen, rng)


def _taught(work: Course, rows: Int64, noisy: bool, rng: np.random.Generator) -> tuple[Float32, Int64]:
    """Features of all copies of `rows`, float32[m, F], and which galaxy each is a copy of, int64[m]."""
    settings = work.settings
    usable = rows[work.seen.band_mask[rows] != 0]
    features, owner = [work.seen.features[usable]], [usable]
    noise = NOISE if noisy else 0.0
    for _ in range(settings.copies if len(work.masks) else 0):
        copy = work.masked_copy(usable, noise, rng)
        something = copy.band_mask != 0
        features.append(copy.features[something])
        owner.append(usable[something])
    for _ in range(NOISY_COPIES[settings.masks] if noisy else 0):
        features.append(work.sample.photometry(usable, work.system, None, noise, rng).features)
        owner.append(usable)
    return np.concatenate(features), np.concatenate(owner)
