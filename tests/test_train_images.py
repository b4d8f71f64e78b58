"""`slipher train --images` from the outside: what needs no torch, and with it a table to a bundle, on after Ctrl-C."""

import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from models import bundle as bundles
from models import training as forests
from models.images.sight import vectors
from schemas import photometry_table, stamp_columns
from schemas.bands import band_set
from schemas.errors import UserError
from streamer.cli.main import _load
from streamer.curves_plot import draw_curves
from tests.image_bundle import telling

SIZE, EUCLID = 16, band_set("euclid")
BANDS = EUCLID.bands
needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None,
    reason="torch is not installed: no image network is trained here (make tools)",
)


def run(command: str, *words: object) -> Result:
    return CliRunner().invoke(_load(command), [str(word) for word in words])


def slipher(command: str, *words: object) -> Result:
    result = run(command, *words)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def columns(n: int, seed: int) -> dict[str, object]:
    """Galaxies whose colours and sizes tell their redshift, with noise; every tenth without a stamp."""
    rng = np.random.default_rng(seed)
    z, total, stamps = telling(rng, n, SIZE)
    pixels = stamp_columns.blobs(stamps).to_pylist()
    found: dict[str, object] = {"redshift": z, "ebv": rng.uniform(0, 0.1, n)}
    for b, band in enumerate(BANDS):
        found |= {f"flux_{band}": total[:, b] + rng.normal(0, 100, n), f"flux_err_{band}": np.full(n, 100.0)}
    return found | {
        "stamp_height": np.full(n, SIZE, np.int32),
        "stamp_width": np.full(n, SIZE, np.int32),
        "stamp_scale": np.full(n, 0.1, np.float32),
        "stamp_pixels": pa.array([None if k % 10 == 9 else one for k, one in enumerate(pixels)], pa.binary()),
        "stamp_variance": stamp_columns.blobs(np.full_like(stamps, 9.0)),
    }


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("galaxies") / "galaxies.parquet"
    pq.write_table(pa.table(columns(300, 1)), path)
    return path


def test_without_torch_it_says_what_to_install(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "torch" else find(name, *more))
    with pytest.raises(UserError, match=r"needs torch: pip install 'slipher\[train,images\]'") as said:
        slipher("train", table, "--images", "--survey", "euclid", "--out", tmp_path / "b")
    assert said.value.exit_code == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--images", "--trees", 5], "--trees is of forests, not of --images"),
        (["--images", "--no-masks"], "--masks is of forests"),
        (["--epochs", 5], "--epochs is for --images"),
        (["--keep", "somewhere"], "--keep is for --images"),
    ],
)
def test_options_of_the_other_kind_are_refused(table: Path, tmp_path: Path, words: list[object], says: str) -> None:
    with pytest.raises(UserError, match=says):
        slipher("train", table, "--survey", "euclid", "--out", tmp_path / "b", *words)


def test_a_picture_of_a_training(tmp_path: Path) -> None:
    checks = [[10 * k, 1.0 * k, 8 - k / 3, 0.1 / (k + 1), 1e-3] for k in range(1, 9)]
    training = {"checks": [checks, checks[:5]], "n": 500, "n_held_out": 60}
    card = {"kind": "images", "architecture": {"kind": "lean", "sees": "mixed"}, "training": training}
    draw_curves(card, tmp_path / "c.png")
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.iterdir())) == 1
    for wrong, path, says in (
        (card, tmp_path / "c.gif", "call it .*c.png"),
        (card, tmp_path / "no" / "c.png", "There is no directory"),
        ({"kind": "forest"}, tmp_path / "d.png", "has no curves"),
    ):
        with pytest.raises(UserError, match=says):
            draw_curves(wrong, path)


WORDS = ("--images", "--survey", "euclid", "--nets", 1, "--epochs", 6, "--batch", 24, "--threads", 1, "--device", "cpu")


@needs_torch
@pytest.mark.timeout(600)  # a busy machine
def test_a_table_to_a_bundle_on_after_ctrl_c_and_measured(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import models.images.train as training
    from models.images import checkpoint

    out, keep = tmp_path / "images.slipher", tmp_path / "keep"
    write: Callable[..., None] = checkpoint.write

    def write_once(*words: object) -> None:
        write(*words)
        raise KeyboardInterrupt

    def at_once(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    for more, says in (
        ([], "with --keep DIR it would be"),
        (["--keep", keep], "the first checkpoint is written when the first epoch ends"),
    ):
        with monkeypatch.context() as during:
            during.setattr("streamer.image_training.train", at_once)
            ended = run("train", table, "--out", out, *WORDS, *more)
        assert ended.exit_code == 130
        assert says in " ".join(ended.output.split())
    monkeypatch.setattr(training, "CHECKPOINT_EVERY", -1.0)
    monkeypatch.setattr(checkpoint, "write", write_once)
    ended = run("train", table, "--out", out, *WORDS, "--keep", keep)
    assert ended.exit_code == 130
    assert "The same command goes on from the checkpoints" in " ".join(ended.output.split())
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"  # two threads on busy cores would spin
    assert not out.exists()
    monkeypatch.setattr(checkpoint, "write", write)
    steps = checkpoint.read(keep / "network-0.training", mark_of(keep)).numbers["step"]  # type: ignore[union-attr]
    monkeypatch.setattr("streamer.image_training.with_graphs_if_possible", lambda bundle, _tell: bundle)
    done = slipher("train", table, "--out", out, *WORDS, "--keep", keep, "--curves", tmp_path / "curves.png")
    said = " ".join(done.output.split())
    for word in ("have no stamp", "not trained on", "recalibration: none", "1 networks on cpu", "CRPS"):
        assert word in said
    assert (tmp_path / "curves.png").exists()
    card = bundles.read(out).card
    assert card["training"]["steps"][0] > steps > 0
    assert card["stamps"] == {"size": SIZE, "scale": pytest.approx(0.1), "variance": True}
    assert card["held_out"]["crps"] < card["held_out"]["trainz"]["crps"]
    assert "1 lean of" in slipher("model", "show", out).output
    with pytest.raises(UserError, match="another training"):
        slipher("train", table, "--out", out, *WORDS, "--keep", keep, "--seed", 2)

    truth = tmp_path / "truth.parquet"
    pq.write_table(pa.table(columns(200, 5)), truth)
    measured = slipher("evaluate", out, truth, "--json", "--device", "cpu")
    assert f"image networks on {'kernels' if vectors() else 'torch'} cpu float32: asked for" in measured.stderr
    found = json.loads(measured.stdout)
    assert found["overall"]["n"] == 180
    assert found["flags"]["NO_STAMP"] == 20
    assert found["gate"]["beaten"]
    assert any("20 of 200 galaxies got no redshift: no stamp or no band" in line for line in found["remarks"])
    bare = {name: column for name, column in columns(200, 5).items() if not name.startswith("stamp_")}
    pq.write_table(pa.table(bare), truth)
    with pytest.raises(UserError, match="this model looks at stamps"):
        slipher("evaluate", out, truth)
    known = photometry_table.read(table, EUCLID, want_redshift=True)
    of = (known.flux, known.flux_err, known.band_state, known.ebv, known.z)
    bundles.write(forests.fit(*of, EUCLID, forests.ForestSettings(trees=3, folds=2)), tmp_path / "forest")
    with pytest.raises(UserError, match=r"truth.parquet has no stamps, and this model looks at stamps"):
        slipher("blend", truth, "--forest", tmp_path / "forest", "--images", out, "--out", tmp_path / "blend")
    with pytest.raises(UserError, match="No device is called 'gpu': there are auto, cuda, cpu"):
        slipher("evaluate", out, tmp_path / "not looked for", "--device", "gpu")
    with pytest.raises(UserError, match="has no stamps: want the columns stamp_height"):
        slipher("train", truth, "--out", out, *WORDS)
    with pytest.raises(UserError, match=r"truth.parquet has no stamps, and this model looks at stamps"):
        slipher("train", table, "--out", out, *WORDS, "--test", truth)


def mark_of(keep: Path) -> str:
    """As the file says itself."""
    from safetensors import safe_open

    with safe_open(str(keep / "network-0.training"), framework="np") as file:
        return str(file.metadata()["slipher-training-of"])
