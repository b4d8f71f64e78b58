"""All checks of a run with the settings at hand."""

from collections.abc import Iterable
from concurrent.futures import Future
from typing import Any

from schemas.errors import SlipherError
from streamer.configuration import toml_file
from streamer.configuration.origins import misspelt, origins
from streamer.doctor import kafka, machine, world
from streamer.doctor.finding import Check, Finding, examine, note, ok, skipped, wrong
from streamer.settings import RunSettings, keys, run_settings, use_storage

SECONDS = 12.0  # for all of it
_STAND_INS = {"brokers": "none", "topic": "none", "model": "none", "catalog": "none"}


def examined(flags: dict[str, Any], seconds: float = SECONDS) -> list[Finding]:
    """Every finding of a run with `flags`, the environment and the file as they are.

    Checks run side by side; none holds the others up.
    """
    said, settings, missing = _settings(flags)
    if settings is None:
        return [*said, *examine([Check("processor", lambda: machine.look(1))], seconds)]
    known = settings  # not None in the functions below
    group: Future[str] = Future()  # which the model names, where nobody else does

    def model() -> list[Finding]:
        found, made = [skipped("model", "none is given: --model")], None
        try:
            if "model" not in missing:
                found, made = world.model(known)
        finally:
            group.set_result(known.group or (f"slipher-{made.processing.model}" if made else ""))
        return found

    def group_by_and_by() -> str:
        try:
            return known.group or group.result(seconds / 2)
        except TimeoutError:
            return ""

    def broker() -> Iterable[Finding]:
        if "brokers" in missing:
            return [wrong("broker", "none is known", "Give --brokers HOST:PORT; `slipher broker start` starts one.")]
        connection: dict[str, Any] = {**known.kafka, "bootstrap.servers": known.brokers}
        return kafka.look(connection, "" if "topic" in missing else known.topic, group_by_and_by)

    def table() -> list[Finding]:
        if "catalog" in missing:
            return [skipped("table", "none is given: --catalog")]
        return world.table(known.catalog)

    checks = [
        Check("model", model),
        Check("broker", broker),
        Check("registry", lambda: world.registry(known.registry, known.registry_setting, kafka.PATIENCE)),
        Check("table", table),
        Check("processor", lambda: machine.look(known.workers)),
    ]
    return [*said, *examine(checks, seconds)]


def _settings(flags: dict[str, Any]) -> tuple[list[Finding], RunSettings | None, set[str]]:
    """What the settings are, None where they are wrong, and the names of those that nobody gave."""
    path = toml_file.which()
    try:
        use_storage()
        names = {key.key: name for name, key in keys().items()}
        missing = {names[o.key] for o in origins(flags) if o.kind == "missing"}
        settings = run_settings(**flags, **{name: _STAND_INS[name] for name in missing})
    except SlipherError as error:
        return [wrong("settings", str(error), "`slipher config show` says where each comes from.")], None, set()
    out = [
        ok("settings", f"from {path}, the environment and flags" if path else "from the environment and flags; no file")
    ]
    out += [
        note("settings", f"{name} in the environment is no setting", f"Did you mean {near}?")
        for name, near in misspelt()
    ]
    return out, settings, missing
