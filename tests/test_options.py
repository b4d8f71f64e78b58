"""Options of the command line that are settings: each is declared once, and what it says comes from there."""

from typing import Annotated

import pytest
import typer
from pydantic import Field
from typer.testing import CliRunner

from streamer.cli import backfill, inspect, options, publish, replay, retry, run
from streamer.settings import (
    BackfillSettings,
    Named,
    ProcessingSettings,
    RunSettings,
    Settings,
    WireSettings,
    flag_of,
    settings,
)


class Sample(Settings):
    """A setting of each kind."""

    commit_rows: int = Field(default=7, ge=1, description="So many rows.")
    limit: float | None = None
    loud: bool = False
    kafka: Annotated[dict[str, str], Named("--also", such_as="k=v")] = Field(default_factory=dict)
    names: list[str] = Field(default_factory=list)


def given_by(*words: str, **environment: str) -> options.Given:
    """What a command's parameter ``given`` is after these words."""
    said: list[options.Given] = []

    @options.of(Sample)
    def command(given: options.Given, dry_run: Annotated[bool, typer.Option("--dry-run")] = False) -> None:
        assert dry_run is False
        said.append(given)

    app = typer.Typer()
    app.command()(command)
    done = CliRunner().invoke(app, list(words), env=environment, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return said[0]


def test_flags_become_settings() -> None:
    assert given_by() == {}
    words = ["--commit-rows", "3", "--limit", "2.5", "--loud", "--also", "a=b=c", "--also", "d=", "--names", "n"]
    given = given_by(*words)
    assert given == {"commit_rows": 3, "limit": 2.5, "loud": True, "kafka": {"a": "b=c", "d": ""}, "names": ["n"]}
    assert settings(Sample, given).commit_rows == 3


def test_the_environment_is_left_to_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert given_by(SLIPHER_COMMIT_ROWS="9", SLIPHER_KAFKA='{"a": "b"}') == {}
    assert given_by("--commit-rows", "8", SLIPHER_COMMIT_ROWS="9") == {"commit_rows": 8}
    monkeypatch.setenv("SLIPHER_COMMIT_ROWS", "9")
    monkeypatch.setenv("SLIPHER_KAFKA", '{"a": "b"}')
    made = settings(Sample, {})
    assert (made.commit_rows, made.kafka) == (9, {"a": "b"})


COMMANDS = [
    (run, RunSettings, set()),
    (replay, RunSettings, {"catalog", "start", "group", "workers"}),
    (backfill, BackfillSettings, set()),
    (retry, ProcessingSettings, {"catalog"}),
    (inspect, WireSettings, set()),
    (publish, WireSettings, set()),
]


@pytest.mark.parametrize(("module", "what", "but"), COMMANDS)
def test_each_setting_is_an_option_with_a_help(module: object, what: type[Settings], but: set[str]) -> None:
    app = typer.Typer(add_completion=False)
    app.command()(module.command)  # type: ignore[attr-defined]
    flags = {flag: param for param in typer.main.get_command(app).params for flag in param.opts}
    for name, field in what.model_fields.items():
        assert field.description
        assert (flag_of(what, name) in flags) is (name not in but), name
        if name not in but:
            assert flags[flag_of(what, name)].help.startswith(field.description)
