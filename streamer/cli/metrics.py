"""``slipher metrics``: what is counted, and what Prometheus and Grafana make of it."""

from __future__ import annotations

import sys

import typer

from streamer.cli.console import group

app = group("What is counted and measured; alert rules for Prometheus, a dashboard for Grafana.")


@app.command("list")
def list_metrics(
    as_json: bool = typer.Option(False, "--json", help="Write a JSON list, one object per metric."),
) -> None:
    """Every metric: its kind, its labels, and what it tells."""
    import json

    from streamer.metrics.names import METRICS

    if as_json:
        sys.stdout.write(json.dumps([metric._asdict() for metric in METRICS]) + "\n")
        return
    from rich.text import Text

    from streamer.cli.console import plain_console

    console = plain_console()
    for metric in METRICS:
        labels = f"{{{', '.join(metric.labels)}}}" if metric.labels else ""
        kind = ", ".join(filter(None, (metric.kind, metric.unit)))
        console.print(Text(metric.name, "bold") + Text(labels) + Text(f"  {kind}", "dim"), soft_wrap=True)
        console.print(f"    {metric.about}", soft_wrap=True)


@app.command()
def rules(
    runbook: str = typer.Option("docs/runbook.md", "--runbook", help="Where the runbook can be read: path or address."),
    operator: bool = typer.Option(False, "--operator", help="As a PrometheusRule, for the operator in Kubernetes."),
) -> None:
    """Alert rules for Prometheus, to standard output."""
    from streamer.metrics import rules as written

    sys.stdout.write(written.operator(runbook) if operator else written.prometheus(runbook))


@app.command()
def dashboard() -> None:
    """A dashboard for Grafana, to standard output."""
    from streamer.metrics.dashboard import dashboard_json

    sys.stdout.write(dashboard_json())
