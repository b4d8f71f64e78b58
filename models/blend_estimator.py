"""A forest and networks as an `Estimator`: that of the forest, with other PDFs."""

from models.blend import Blend
from models.bundle import Bundle
from models.forest.estimator import ForestEstimator
from models.forest.inference import Counts
from models.networks.network import Evaluator, Networks
from models.photometry import Photometry
from models.points import Points
from schemas.batch import Float32, Int64
from schemas.errors import UserError


class BlendEstimator(ForestEstimator):
    """Estimates of a bundle of kind ``forest+mlp``. Holds read-only arrays: any number of threads may call `estimate` at once.

    Raises
    ------
    schemas.errors.UserError
        If the bundle's tensors do not fit each other.
    """

    kind = "forest+mlp"

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        try:
            mixed = bundle.card["networks"]
            networks = Networks(*(bundle.tensors[f"networks.{name}"] for name in Networks._fields))
            networks.check(len(self.bands), len(self.grid))
            self._networks = Evaluator(networks)
            self._blend = Blend(
                self.grid, bundle.card["smoothing"], bundle.card["alpha"], mixed["weight"], mixed["power"], self._maps
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"The model bundle {self.sha256[:8]} does not hold whole networks: {error}.") from error

    def _pdfs(self, seen: Photometry, pdf: Float32) -> Points:
        map_of_row = self._map_of_row(seen)

        def finisher(counts: Counts, unit: float, row: Int64, out: Float32) -> None:
            mean = self._blend.mean(counts, unit, self._networks.log_density(seen.of(row)))
            self._blend.finish(mean, map_of_row, row, out)

        return self._inference.pdfs(seen.features, map_of_row, pdf, finisher=finisher)
