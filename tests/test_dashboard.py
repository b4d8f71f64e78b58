"""The dashboard: what Grafana is given is what the list of metrics and the panels say, and Prometheus understands it."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from streamer.cli import metrics as command
from streamer.metrics import names
from streamer.metrics.dashboard import dashboard_json
from streamer.metrics.panels import BOARD
from tests.test_alert_rules import HOUSE, exposed, in_expression, promtool

FILE = HOUSE / "docker" / "grafana" / "dashboards" / "slipher.json"
QUERIES = [query.expr for row in BOARD for panel in row.panels for query in panel.queries]


def test_the_file_is_what_the_panels_say(capsys: Any) -> None:
    command.dashboard()
    said = "run `slipher metrics dashboard > docker/grafana/dashboards/slipher.json`"
    assert FILE.read_text() == capsys.readouterr().out == dashboard_json(), said


def test_panels_speak_of_metrics_that_are_exposed_and_leave_none_out() -> None:
    shown: set[str] = set()
    for expr in QUERIES:
        found = in_expression(expr) | set(re.findall(r"\bALERTS\b", expr))
        assert found, expr
        assert found - {"ALERTS"} <= exposed() | {"process_cpu_seconds_total"}, expr
        shown |= found
    for metric in names.METRICS:
        assert any(name.startswith(metric.name) for name in shown), f"{metric.name} is in no panel"


def test_labels_of_panels_are_those_of_the_metrics() -> None:
    labels = {metric.name: set(metric.labels) for metric in names.METRICS}
    for row in BOARD:
        for panel in row.panels:
            for query in panel.queries:
                for name, chosen in re.findall(r"(slipher_\w+)\{([^}]*)\}", query.expr):
                    assert set(re.findall(r"(\w+)[=~!]+\"", chosen)) - {"job"} <= labels[name], query.expr


def test_prometheus_understands_every_query(tmp_path: Path) -> None:
    filled = [
        re.sub(r"\$topic|\$model", "x", expr).replace("$__rate_interval", "1m").replace("$__range", "3h")
        for expr in QUERIES
    ]
    rules = [{"record": f"panel:{k}", "expr": expr} for k, expr in enumerate(filled)]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    assert f"{len(QUERIES)} rules found" in promtool("check", "rules", file)


def test_grafana_finds_its_way() -> None:
    """Every panel has a number, a place of its own, and a data source that there is."""
    board = json.loads(FILE.read_text())
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + i, place["y"] + j) for i in range(place["w"]) for j in range(place["h"])}
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    assert {v["name"] for v in board["templating"]["list"]} == {"datasource", "topic", "model"}
    variables = set(re.findall(r"\$\{?(\w+)", json.dumps(panels))) - {"__rate_interval"}
    assert variables <= {"datasource", "topic", "model"}
    source = yaml.safe_load((FILE.parents[1] / "provisioning" / "datasources" / "prometheus.yml").read_text())
    assert source["datasources"][0]["type"] == "prometheus"
    provider = yaml.safe_load((FILE.parents[1] / "provisioning" / "dashboards" / "slipher.yml").read_text())
    assert provider["providers"][0]["options"]["path"] == "/var/lib/grafana/dashboards"
