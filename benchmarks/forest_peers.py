"""The peers of the forest benchmark: the same trees, or trained alike where a peer cannot take them.

Who is not installed is left out.
"""

import importlib
import importlib.util
import os
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.forest_models import TREES, Trained, folder, kept
from schemas.batch import Float32

Predict = Callable[[Float32, int], Any]  # (features, threads)
# Of quantile-forest: (rows it is trained on, rows it is asked for at once). It pads every leaf to the size of the largest,
# which at depth 10 and 200,000 rows takes gigabytes. Fewer rows make it faster, not slower: less to add up.
QUANTILE_ROWS = {"rf5": (200_000, 2_000), "rfd10": (20_000, 500)}


def scikit_learn(model: Any) -> Predict:
    """The forest itself."""

    def predict(x: Float32, threads: int) -> Any:
        model.n_jobs = threads
        return model.predict(x)

    return predict


def intelex(of: Trained) -> Predict | None:
    """Intel's forest, trained on the same rows with the same settings."""
    if not _there("sklearnex"):
        return None
    library = importlib.import_module("sklearnex.ensemble")
    alike = ("n_estimators", "max_depth", "min_samples_leaf", "max_features", "random_state")
    settings = {k: v for k, v in of.model.get_params().items() if k in alike}
    theirs = library.RandomForestRegressor(**settings).fit(of.x, of.z.astype(np.float32))

    def predict(rows: Float32, threads: int) -> Any:
        theirs.n_jobs = threads
        return theirs.predict(rows)

    return predict


def onnx(model: Any) -> Predict | None:
    """The same trees as an ONNX graph."""
    if not _there("onnxruntime", "skl2onnx"):
        return None
    onnxruntime, skl2onnx = (importlib.import_module(name) for name in ("onnxruntime", "skl2onnx"))
    graph = skl2onnx.to_onnx(model, np.zeros((1, model.n_features_in_), np.float32)).SerializeToString()
    sessions = {}
    for threads in (1, 2):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        sessions[threads] = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return lambda x, threads: sessions[threads].run(None, {sessions[threads].get_inputs()[0].name: x})


def treelite(model: Any) -> Predict | None:
    """The same trees in treelite's general interpreter."""
    if not _there("treelite"):
        return None
    library = importlib.import_module("treelite")
    jobs, model.n_jobs = model.n_jobs, 1
    trees = library.sklearn.import_model(model)
    model.n_jobs = jobs
    most = len(os.sched_getaffinity(0))  # it refuses more threads than cores
    return lambda x, threads: library.gtil.predict(trees, x, nthread=min(threads, most))


def ydf(of: Trained) -> Predict | None:
    """Yggdrasil's forest, trained on the same rows with the same settings: it takes no trees of others."""
    if not _there("ydf"):
        return None
    library = importlib.import_module("ydf")
    library.verbose(0)
    settings = of.model.get_params()
    place = folder() / f"{of.key}-ydf-{library.__version__}"
    if not place.exists():
        depth = settings["max_depth"]
        learner = library.RandomForestLearner(
            label="z",
            task=library.Task.REGRESSION,
            num_trees=TREES,
            max_depth=-1 if depth is None else depth + 1,  # a root alone is depth 1 to them
            min_examples=settings["min_samples_leaf"],
            num_candidate_attributes=settings["max_features"],
            compute_oob_performances=False,
            num_threads=2,
            random_seed=1,
        )
        part = place.with_suffix(".part")
        learner.train({"x": of.x, "z": of.z.astype(np.float32)}).save(str(part))
        part.rename(place)
    theirs = library.load_model(str(place))
    return lambda x, threads: theirs.predict({"x": x}, num_threads=threads)


def quantile_forest(of: Trained, rows: int, levels: int) -> Predict | None:
    """Quantiles weighted as ours: every sample of every leaf. The peer that gives a distribution.

    It is trained on the first `rows` rows.
    """
    if not _there("quantile_forest"):
        return None
    library = importlib.import_module("quantile_forest")

    def fit() -> Any:
        settings = of.model.get_params() | {"n_jobs": 2}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return library.RandomForestQuantileRegressor(max_samples_leaf=None, **settings).fit(
                of.x[:rows], of.z[:rows]
            )

    theirs = kept(f"{of.key}-{rows}-quantile-forest-{library.__version__}", fit)
    wanted = list(np.linspace(0.01, 0.99, levels))

    def predict(x: Float32, threads: int) -> Any:
        theirs.n_jobs = threads
        return theirs.predict(x, quantiles=wanted, weighted_quantile=True, weighted_leaves=True)

    return predict


def _there(*modules: str) -> bool:
    return all(importlib.util.find_spec(name) for name in modules)
