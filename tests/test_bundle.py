"""A bundle is what was sealed, or it is refused with one sentence."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from models import bundle as bundles
from models.estimator import load, of
from models.forest.estimator import ForestEstimator
from schemas.errors import UserError
from tests import made_galaxies
from tests.models_fixtures import dc2_bundle  # noqa: F401

SEALED = bundles.seal(
    {"kind": "forest", "bands": ["g", "r"], "alpha": 1.5},
    {"z": np.linspace(0, 1, 7), "feature": np.arange(5, dtype=np.int8), "none": np.empty(0, np.float32)},
)


def test_there_and_back(tmp_path: Path) -> None:
    path = tmp_path / "a.slipher"
    bundles.write(SEALED, path)
    back = bundles.read(path)
    assert back.card == SEALED.card
    assert {name: (a.dtype, a.tobytes()) for name, a in back.tensors.items()} == {
        name: (a.dtype, a.tobytes()) for name, a in SEALED.tensors.items()
    }
    assert [p.name for p in tmp_path.iterdir()] == ["a.slipher"]  # nothing half-written stays
    first = path.read_bytes()
    bundles.write(back, path)
    assert path.read_bytes() == first


def test_hash_names_the_content() -> None:
    again = bundles.seal(dict(reversed(SEALED.card.items())), dict(reversed(SEALED.tensors.items())))
    assert again.card["sha256"] == SEALED.card["sha256"]
    changed = [
        ({**SEALED.card, "alpha": 1.25}, SEALED.tensors),
        (SEALED.card, {**SEALED.tensors, "z": SEALED.tensors["z"].astype(np.float32)}),
        (SEALED.card, {**SEALED.tensors, "z": SEALED.tensors["z"][None]}),
        (SEALED.card, {**SEALED.tensors, "z": SEALED.tensors["z"] + 1e-16 * np.arange(7)}),
        (SEALED.card, {("zz" if k == "z" else k): v for k, v in SEALED.tensors.items()}),
    ]
    hashes = {bundles.seal(card, tensors).card["sha256"] for card, tensors in changed}
    assert len(hashes | {SEALED.card["sha256"]}) == 1 + len(changed)
    with pytest.raises(ValueError):
        bundles.seal({"alpha": float("nan")}, {})


def flip(data: bytes) -> bytes:
    return data[:-3] + bytes([data[-3] ^ 1]) + data[-2:]


def recard(**changes: object) -> Callable[[bytes], bytes]:
    def change(_: bytes) -> bytes:
        card = {**SEALED.card, **changes}
        return bundles.save(SEALED.tensors, metadata={"slipher": json.dumps(card)})

    return change


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (flip, "does not match its hash"),
        (lambda data: data[:-10], "truncated"),
        (lambda data: data[:100], "truncated"),
        (lambda data: b"", "truncated"),
        (lambda data: b"PK\x03\x04 a zip file of a pickle", "no model bundle"),
        (lambda data: data + b"more", "no model bundle"),
        (recard(alpha=2.0), "does not match its hash"),
        (recard(format=99), "update slipher"),
        (recard(format="one"), "update slipher"),
        (lambda data: bundles.save(SEALED.tensors, metadata={"slipher": "{"}), "card cannot be read"),
        (lambda data: bundles.save(SEALED.tensors, metadata={"slipher": "[]"}), "card cannot be read"),
    ],
)
def test_what_is_not_whole_is_refused(tmp_path: Path, damage: Callable[[bytes], bytes], says: str) -> None:
    path = tmp_path / "b.slipher"
    bundles.write(SEALED, path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=says) as refused:
        load(path)
    assert "b.slipher" in str(refused.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    save_file({"weights": np.ones(3)}, tmp_path / "net.safetensors")
    with pytest.raises(UserError, match="something else"):
        load(tmp_path / "net.safetensors")
    with pytest.raises(UserError, match="slipher train"):
        load(tmp_path / "missing")
    with pytest.raises(UserError, match="slipher train"):
        load(tmp_path)
    with pytest.raises(UserError, match="cannot be written"):
        bundles.write(SEALED, tmp_path / "no" / "such" / "place")
    with pytest.raises(UserError, match="kind 'image'"):
        of(bundles.seal({"kind": "image"}, {}))


def test_an_estimator_from_a_file(tmp_path: Path, dc2_bundle: bundles.Bundle) -> None:  # noqa: F811
    bundles.write(dc2_bundle, tmp_path / "dc2.slipher")
    estimator = load(tmp_path / "dc2.slipher")
    assert (estimator.kind, estimator.survey, estimator.bands) == ("forest", "lsst", tuple("ugrizy"))
    assert (estimator.sha256, len(estimator.grid)) == (dc2_bundle.card["sha256"], 301)
    galaxies = made_galaxies.galaxies(50)
    assert len(estimator.estimate(galaxies).pdf) == 50
    with pytest.raises(UserError, match=r"bands u g r i z, the model .* wants u g r i z y"):
        estimator.estimate(made_galaxies.galaxies(5, "sdss"))


def test_a_bundle_that_does_not_fit_itself_is_refused(dc2_bundle: bundles.Bundle) -> None:  # noqa: F811
    for name in ("leaf_sample", "slope", "right"):
        tensors = {**dc2_bundle.tensors, name: dc2_bundle.tensors[name][:-1]}
        with pytest.raises(UserError, match="whole forest"):
            ForestEstimator(bundles.seal(dc2_bundle.card, tensors))
    with pytest.raises(UserError, match="whole forest"):
        ForestEstimator(bundles.seal(dc2_bundle.card, {"slope": dc2_bundle.tensors["slope"]}))
