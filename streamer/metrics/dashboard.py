"""The dashboard as Grafana reads it, made of ``panels.py`` by Grafana's own typed builders."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

from schemas.errors import UserError
from streamer.metrics.panels import BOARD, Panel

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders import dashboard as grafana

UID = "slipher"
INFINITE = 1e15  # what is longer than the world is shown in words
HEIGHT = {"stat": 4, "lines": 7, "states": 9}


def dashboard_json() -> str:
    """JSON that Grafana imports, or is provisioned with.

    Raises
    ------
    UserError
        The builders are not installed.
    """
    try:
        from grafana_foundation_sdk.builders import dashboard as grafana
        from grafana_foundation_sdk.cog.encoder import JSONEncoder
        from grafana_foundation_sdk.models.dashboard import DashboardCursorSync
    except ImportError:
        raise UserError("A dashboard is built by Grafana's own library: pip install grafana-foundation-sdk.") from None
    board = (
        grafana.Dashboard("slipher: is it keeping up?")
        .uid(UID)
        .tags(["slipher"])
        .refresh("10s")
        .time("now-3h", "now")
        .timezone("utc")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .readonly()
        .with_variable(grafana.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(_choice("topic"))
        .with_variable(_choice("model"))
    )
    numbers = itertools.count(1)  # Grafana tells panels apart by them
    for row in BOARD:
        board = board.with_row(grafana.Row(row.title).id(next(numbers)))
        for panel in row.panels:
            board = board.with_panel(_panel(panel).id(next(numbers)))
    made = json.loads(JSONEncoder().encode(board.build()))
    return json.dumps(made, sort_keys=True, indent=1) + "\n"


def _source() -> Any:
    from grafana_foundation_sdk.models.dashboard import DataSourceRef

    return DataSourceRef(type_val="prometheus", uid="${datasource}")


def _choice(label: str) -> Any:
    """A menu of the values of a label; all of them at first."""
    from grafana_foundation_sdk.builders import dashboard as grafana
    from grafana_foundation_sdk.models.dashboard import VariableRefresh

    return (
        grafana.QueryVariable(label)
        .datasource(_source())
        .query(f"label_values(slipher_topic_lag_seconds, {label})")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .include_all(True)
        .all_value(".*")
        .multi(True)
    )


def _panel(panel: Panel) -> Any:
    from grafana_foundation_sdk.builders import common, prometheus, stat, statetimeline, timeseries
    from grafana_foundation_sdk.models import common as kinds
    from grafana_foundation_sdk.models.dashboard import DashboardRangeMapOptions, RangeMap, ValueMappingResult

    shapes: dict[str, Any] = {"stat": stat.Panel, "lines": timeseries.Panel, "states": statetimeline.Panel}
    shape = shapes[panel.kind]().title(panel.title).description(panel.about).unit(panel.unit).datasource(_source())
    shape = shape.height(HEIGHT[panel.kind]).span(panel.width).thresholds(_thresholds(panel))
    for k, query in enumerate(panel.queries):
        asked = prometheus.Dataquery().expr(query.expr).ref_id(chr(ord("A") + k))
        shape = shape.with_target(
            asked.instant() if panel.kind == "stat" else asked.range().legend_format(query.legend)
        )
    if panel.kind == "lines":
        legend = (
            common.VizLegendOptions().display_mode(kinds.LegendDisplayMode.LIST).placement(kinds.LegendPlacement.BOTTOM)
        )
        shape = shape.fill_opacity(60 if panel.stacked else 8).show_points(kinds.VisibilityMode.NEVER).min(0)
        shape = shape.legend(legend.show_legend(True))
        if panel.stacked:
            shape = shape.stacking(common.StackingConfig().mode(kinds.StackingMode.NORMAL))
        if panel.alarm is not None:
            lines = common.GraphThresholdsStyleConfig().mode(kinds.GraphTresholdsStyleMode.DASHED)
            shape = shape.thresholds_style(lines)
        return shape
    if panel.kind == "states":
        return shape.merge_values(True).show_value(kinds.VisibilityMode.NEVER)
    reduced = common.ReduceDataOptions().calcs(["lastNotNull"])
    shape = shape.reduce_options(reduced).graph_mode(kinds.BigValueGraphMode.NONE)
    shape = shape.color_mode(kinds.BigValueColorMode.BACKGROUND)
    if panel.infinite:
        said = ValueMappingResult(text=panel.infinite)
        shape = shape.mappings([RangeMap(DashboardRangeMapOptions(from_val=INFINITE, to=None, result=said))])
    return shape


def _thresholds(panel: Panel) -> grafana.ThresholdsConfig:
    from grafana_foundation_sdk.builders import dashboard as grafana
    from grafana_foundation_sdk.models.dashboard import Threshold, ThresholdsMode

    warn, alarm = panel.warn, panel.alarm
    if warn is None or alarm is None:
        steps = [Threshold(None, "green")]
    elif alarm > warn:
        steps = [Threshold(None, "green"), Threshold(warn, "yellow"), Threshold(alarm, "red")]
    else:  # less is worse
        steps = [Threshold(None, "red"), Threshold(alarm, "yellow"), Threshold(warn, "green")]
    return grafana.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)
