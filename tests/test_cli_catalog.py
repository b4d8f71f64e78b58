"""What `slipher catalog` and `slipher dead-letters` say, at 80 columns and without colour."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from schemas.errors import UserError
from schemas.flags import DESCRIPTIONS, Flag
from streamer.cli.main import build as command_tree
from streamer.cli.pdf_drawing import Curve, draw, limits
from streamer.reasons import MEANING
from tests.catalogue_builder import GRID, Built, build, gaussians


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(tmp_path_factory.mktemp("cli") / "catalogue", rows_a_night=60)


def run(*words: object) -> Result:
    line = [str(word) for word in words]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["slipher", *line])  # the command tree imports only what is called
        return CliRunner().invoke(command_tree(), line, env={"COLUMNS": "80", "NO_COLOR": "1"})


def said(*words: object) -> str:
    result = run(*words)
    assert result.exit_code == 0, result.output
    lines = [line for line in result.output.splitlines() if not line.startswith("/")]  # a path is never broken
    assert all(len(line) <= 80 for line in lines)
    return result.output


def test_info_tells_nights_models_and_exceptions(built: Built) -> None:
    text = said("catalog", "info", built.path)
    for word in ("360", "2026-03-01 to 2026-03-03", "forest-lsst-01234567", "ugrizy", "RETENTION_GAP", "████"):
        assert word in text


def test_head_names_flags(built: Built) -> None:
    text = said("catalog", "head", built.path, "-n", 20, "--model", "forest-lsst-01234567")
    assert len([line for line in text.splitlines() if re.match(r" 02\d{8} ", line)]) == 20
    assert "multimodal_pdf" in text
    assert text.splitlines()[0].split() == ["2026-03-03", "·", "forest-lsst-01234567"]
    assert isinstance(run("catalog", "head", built.path, "--night", "1999-01-01").exception, UserError)


def test_show_draws_both_models_with_flags_in_words(built: Built) -> None:
    text = said("catalog", "show", built.path, "0100000053")
    assert text.count("p(z)") == 2
    assert "MULTIMODAL_PDF" in text
    assert DESCRIPTIONS[Flag.MULTIMODAL_PDF] in text
    assert "galaxies[0] offset 113 row 0" in text
    assert re.search(r"[\u2801-\u28ff]{3}", text)
    assert "▲" in text
    assert len(re.findall(r"night 2026-03-02", text)) == 2


def test_show_does_not_wait_for_numba(built: Built) -> None:
    """It is half of the time that a look takes to start, and only compact PDFs want it."""
    command = [sys.executable, "-X", "importtime", "-m", "streamer", "catalog", "show", str(built.path), "0100000053"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "p(z)" in done.stdout
    modules = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "streamer" in modules
    assert "numba" not in modules


def test_show_says_why_there_is_no_pdf(built: Built) -> None:
    text = said("catalog", "show", built.path, "0100000007", "--model", "forest-lsst-01234567")
    assert "no PDF" in text
    assert DESCRIPTIONS[Flag.NO_PHOTOMETRY] in text


def test_show_of_an_unknown_object_is_a_sentence(built: Built) -> None:
    assert "no row of object nobody" in str(run("catalog", "show", built.path, "nobody").exception)


def test_export_counts_what_it_leaves_out(built: Built, tmp_path: Path) -> None:
    text = said("catalog", "export", built.path, tmp_path / "X.pq", "--model", "forest-lsst-01234567").replace(
        "\n", " "
    )
    assert "9 rows have no PDF" in text
    assert (tmp_path / "Xdata.pq").exists()


def test_verify_of_a_whole_catalogue_exits_0_and_of_a_holed_one_3(built: Built, tmp_path: Path) -> None:
    pytest.importorskip("streamer.sink.verify")
    assert run("catalog", "verify", built.path).exit_code == 0
    import shutil

    from deltalake import DeltaTable

    copy = shutil.copytree(built.path, tmp_path / "copy")
    DeltaTable(str(copy / "rows")).delete("kafka_offset = 17")
    assert run("catalog", "verify", copy).exit_code == 3


def test_dead_letters_are_listed_and_shown(built: Built) -> None:
    text = said("dead-letters", "list", built.path)
    assert "NO_MESSAGE" not in text
    assert [line.split()[0] for line in text.splitlines() if re.match(r"\s+\d", line)] == ["1", "2", "3", "4", "5"]
    by_number, by_place = said("dead-letters", "show", built.path, 2), said("dead-letters", "show", built.path, "0:602")
    assert by_number == by_place
    assert "[20]" in by_number  # byte 37, where the trouble stands
    assert "array block runs past the end" in by_number
    assert "no payload" in said("dead-letters", "show", built.path, "0:720")
    assert "lists nothing under 99" in str(run("dead-letters", "show", built.path, 99).exception)
    assert "names no entry" in str(run("dead-letters", "show", built.path, "a:b").exception)


def test_every_reason_has_a_sentence() -> None:
    from schemas.batch import Reason

    assert set(MEANING) == {reason.name for reason in Reason}


def test_the_drawing_is_as_wide_and_high_as_asked_and_tallest_at_the_mode() -> None:
    pdf = gaussians(np.array([0.8]), np.array([0.02]))[0]
    curve = Curve(GRID, pdf, 0.78, 0.82, 0.8)
    lines = draw(curve, limits([curve]), width=72, height=8).plain.split("\n")
    assert len(lines) == 8 + 3
    assert all(len(line) <= 72 for line in lines)
    mark = lines[-1].index("▲")
    assert lines[0][mark] != " "
    assert lines[0][7 : mark - 8].strip() == ""
    flat = Curve(GRID, np.zeros(301), np.nan, np.nan, np.nan)
    assert len(draw(flat, limits([flat])).plain.split("\n")) == 11
