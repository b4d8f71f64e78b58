"""The alerts as Prometheus reads them: a file of rules, or the PrometheusRule of Kubernetes' operator."""

from typing import Any

from streamer.metrics.alerts import GROUPS, Alert

HEAD = "# Made by `slipher metrics rules`: change streamer/metrics/alerts.py, not this file.\n"
RUNBOOK = "docs/runbook.md"


def groups(runbook: str = RUNBOOK) -> list[dict[str, Any]]:
    """Groups of rules, as Prometheus' file of rules has them under ``groups``.

    Parameters
    ----------
    runbook
        Where the runbook can be read, a path or an address; each alert bears it with the section of its own.
    """
    return [{"name": name, "rules": [_rule(alert, runbook) for alert in alerts]} for name, alerts in GROUPS.items()]


def _rule(alert: Alert, runbook: str) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": alert.expr,
        "for": alert.hold,
        "labels": {"severity": alert.severity},
        "annotations": {
            "summary": alert.summary,
            "description": alert.meaning,
            "action": alert.action,
            "runbook_url": f"{runbook}#{alert.anchor}",
        },
    }


def prometheus(runbook: str = RUNBOOK) -> str:
    """A file of rules for ``rule_files`` of Prometheus, YAML."""
    return HEAD + _yaml({"groups": groups(runbook)})


def operator(runbook: str = RUNBOOK) -> str:
    """The same as a PrometheusRule, which the Prometheus operator of Kubernetes picks up."""
    return HEAD + _yaml(
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": {"name": "slipher", "labels": {"app.kubernetes.io/name": "slipher"}},
            "spec": {"groups": groups(runbook)},
        }
    )


def _yaml(document: dict[str, Any]) -> str:
    """Raises ``UserError`` where the library is missing."""
    try:
        import yaml
    except ImportError:
        from schemas.errors import UserError

        raise UserError("Rules are written as YAML: pip install 'slipher[monitor]'.") from None
    return str(yaml.safe_dump(document, sort_keys=False, width=2_000, allow_unicode=True))
