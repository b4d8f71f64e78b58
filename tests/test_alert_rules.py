"""Alert rules: each fires on its cause and no other does, by Prometheus' own `promtool`; and what is written of them is true."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamer.cli import metrics as command
from streamer.metrics import names, rules
from streamer.metrics.alerts import ALERTS
from tests.alert_cases import CASES, GOOD_NIGHT, Case

HOUSE = Path(__file__).parent.parent
PROMETHEUS = HOUSE / "docker" / "prometheus"
RULES = PROMETHEUS / "slipher.rules.yml"
BY_NAME = {alert.name: alert for alert in ALERTS}
OTHERS = {
    "up",
    "process_start_time_seconds",
    "process_resident_memory_bytes",
}  # Prometheus' own, and prometheus-client's


def promtool(*words: str | Path) -> str:
    """Run it; what it said. Skips where it is not installed."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed: `make tools`, or any Prometheus")
    done = subprocess.run(["promtool", *map(str, words)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def exposed() -> set[str]:
    """Names of all series: a histogram has three."""
    out = set(OTHERS)
    for metric in names.METRICS:
        ends = ("_bucket", "_sum", "_count") if metric.kind is names.Kind.HISTOGRAM else ("",)
        out |= {metric.name + end for end in ends}
    return out


def in_expression(expr: str) -> set[str]:
    """Names of metrics in PromQL."""
    return set(re.findall(r"\b(?:slipher|process)_\w+|\bup\b", re.sub(r'"[^"]*"', "", expr)))


def test_the_files_are_what_the_list_says() -> None:
    assert RULES.read_text() == rules.prometheus(), "run `slipher metrics rules > docker/prometheus/slipher.rules.yml`"


def test_the_commands_write_them(capsys: pytest.CaptureFixture[str]) -> None:
    command.rules(runbook="https://wiki.example.org/slipher", operator=True)
    said = yaml.safe_load(capsys.readouterr().out)
    assert said["kind"] == "PrometheusRule"
    first = said["spec"]["groups"][0]["rules"][0]
    assert first["annotations"]["runbook_url"] == f"https://wiki.example.org/slipher#{first['alert'].lower()}"
    command.list_metrics(as_json=True)
    listed = json.loads(capsys.readouterr().out)
    assert [metric["name"] for metric in listed] == [metric.name for metric in names.METRICS]
    command.list_metrics(as_json=False)
    said = capsys.readouterr().out
    assert all(metric.name in said and metric.about in said for metric in names.METRICS)


def test_alerts_speak_of_metrics_that_are_exposed() -> None:
    for alert in ALERTS:
        found = in_expression(alert.expr)
        assert found, alert.name
        assert found <= exposed(), alert.name


def test_labels_of_the_cases_are_those_of_the_metrics() -> None:
    """Else an alert would fire in these tests and never in the world."""
    labels = {metric.name: set(metric.labels) for metric in names.METRICS}
    for series in {name for case in CASES for name in case.change} | set(GOOD_NIGHT):
        name, _, rest = series.partition("{")
        have = set(re.findall(r'(\w+)="', rest)) - {"job", "instance", "le"}
        assert have == labels.get(name.removesuffix("_bucket"), set()), series


def test_alerts_are_worded_for_a_person() -> None:
    assert len(BY_NAME) == len(ALERTS)
    for alert in ALERTS:
        assert re.fullmatch(r"Slipher[A-Z][A-Za-z]+", alert.name)
        assert alert.severity in ("critical", "warning", "info"), alert.name
        assert alert.meaning.endswith("."), alert.name
        assert alert.action.endswith((".", "?")), alert.name


def test_status_numbers_are_those_of_lag() -> None:
    said = {int(number): word for number, word in re.findall(r"(\d) ([a-z ]+)", names.LAG_STATUS.about)}
    from streamer.metrics import alerts

    assert said[alerts.STALLED] == "stalled"
    assert said[alerts.STOPPED] == "stopped"
    assert said[alerts.REWOUND] == "rewound"
    assert said[alerts.AT_RISK].startswith("at risk")


def test_prometheus_takes_the_rules() -> None:
    assert f"{len(ALERTS)} rules found" in promtool("check", "rules", RULES)


def test_each_alert_fires_on_its_cause_and_no_other_does(tmp_path: Path) -> None:
    causes = {name for case in CASES for name in case.fires}
    assert causes == set(BY_NAME), "an alert without a case"
    tests = [_test(Case("the good night", {}, at, {}, "")) for at in (5, 60, 119)] + [_test(case) for case in CASES]
    file = tmp_path / "cases.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    promtool("test", "rules", file)


def _test(case: Case) -> dict[str, Any]:
    until = case.at + 1  # what comes later costs time and tells nothing
    laid = GOOD_NIGHT | case.change
    series = {name: " ".join(values.split()[:until]) for name, values in laid.items() if values is not None}
    firing = [_sample(name, labels) for name, each in case.fires.items() for labels in each]
    test: dict[str, Any] = {
        "name": case.what,
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {"expr": 'ALERTS{alertstate="firing"}', "eval_time": f"{case.at}m", "exp_samples": firing}
        ],
    }
    if case.fires:
        name, (labels, *_) = next(iter(case.fires.items()))
        alert = BY_NAME[name]
        annotations = {"summary": case.summary, "description": alert.meaning, "action": alert.action}
        annotations["runbook_url"] = f"docs/runbook.md#{alert.anchor}"
        expected = {"exp_labels": _labels(labels) | {"severity": alert.severity}, "exp_annotations": annotations}
        test["alert_rule_test"] = [{"eval_time": f"{case.at}m", "alertname": name, "exp_alerts": [expected]}]
    return test


def _labels(text: str) -> dict[str, str]:
    return dict(re.findall(r'(\w+)="([^"]*)"', text))


def _sample(name: str, labels: str) -> dict[str, Any]:
    own = {"alertname": name, "alertstate": "firing", "severity": BY_NAME[name].severity} | _labels(labels)
    return {"labels": "ALERTS{" + ",".join(f'{key}="{value}"' for key, value in own.items()) + "}", "value": 1}


def test_each_alert_has_its_section_in_the_runbook() -> None:
    runbook = (HOUSE / "docs" / "runbook.md").read_text()
    titles = re.findall(r"^### (.+)$", runbook, re.MULTILINE)
    assert sorted(titles) == sorted(BY_NAME), "one section an alert, and no section of an alert that is gone"
    said = set(re.findall(r"\bSlipher[A-Z]\w+", runbook))
    assert said <= set(BY_NAME)
    assert in_expression(runbook) <= exposed() | {metric.name for metric in names.METRICS}
