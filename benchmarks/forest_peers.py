"""The peers of the forest benchmark: the same trees, or trained alike where a peer cannot take them.

Who is not installed is left out.
"""

import importlib
import importlib.util
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from schemas.batch import Float32, Float64

Predict = Callable[[Float32, int], Any]  # (features, threads)


def scikit_learn(model: Any) -> Predict:
    """The forest itself."""

    def predict(x: Float32, threads: int) -> Any:
        model.n_jobs = threads
        return model.predict(x)

    return predict


def intelex(model: Any, x: Float32, z: Float64) -> Predict | None:
    """Intel's forest, trained on the same rows with the same settings."""
    if not _there("sklearnex"):
        return None
    library = importlib.import_module("sklearnex.ensemble")
    settings = {k: v for k, v in model.get_params().items() if k in ("n_estimators", "max_depth", "min_samples_leaf")}
    theirs = library.RandomForestRegressor(**settings, max_features=model.max_features, random_state=1).fit(
        x, z.astype(np.float32)
    )

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
    return lambda x, threads: library.gtil.predict(trees, x, nthread=threads)


def quantile_forest(model: Any, x: Float32, z: Float64, levels: int) -> Predict | None:
    """Quantiles weighted as ours: every sample of every leaf. The peer that gives a distribution."""
    if not _there("quantile_forest"):
        return None
    library = importlib.import_module("quantile_forest")
    settings = model.get_params() | {"n_jobs": 2}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = library.RandomForestQuantileRegressor(max_samples_leaf=None, **settings).fit(x, z)
    wanted = list(np.linspace(0.01, 0.99, levels))

    def predict(rows: Float32, threads: int) -> Any:
        theirs.n_jobs = threads
        return theirs.predict(rows, quantiles=wanted, weighted_quantile=True, weighted_leaves=True)

    return predict


def _there(*modules: str) -> bool:
    return all(importlib.util.find_spec(name) for name in modules)
