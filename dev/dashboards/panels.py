"""Kinds of panels. Widths are in columns, 24 to a row."""

from collections.abc import Sequence
from string import ascii_uppercase

from grafana_foundation_sdk.builders import bargauge, common, logs, loki, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders.dashboard import ThresholdsConfig
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common as styles
from grafana_foundation_sdk.models import dashboard
from grafana_foundation_sdk.models.loki import LokiQueryDirection
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from dev.dashboards.links import Links

PROMETHEUS = dashboard.DataSourceRef("prometheus", "prometheus")
LOKI = dashboard.DataSourceRef("loki", "loki")

PanelBuilder = Builder[dashboard.Panel]
Queries = dict[str, str]
"""Legend to query; the legend may use labels as in `{{pod}}`."""
Steps = Sequence[tuple[float, str]]
"""Colours of a panel by threshold; green below the first."""

NOT_ZERO: Steps = [(0.001, "red")]
UP: list[dashboard.ValueMapping] = [
    dashboard.ValueMap(
        options={
            "0": dashboard.ValueMappingResult(text="down", color="red"),
            "1": dashboard.ValueMappingResult("up", "green"),
        }
    )
]


def series(
    title: str,
    description: str,
    queries: Queries,
    *,
    unit: str = "short",
    span: int = 12,
    stacked: bool = False,
    bars: bool = False,
    thresholds: Steps = (),
    source: dashboard.DataSourceRef = PROMETHEUS,
) -> timeseries.Panel:
    """Values over time. `thresholds` are drawn as lines."""
    panel = timeseries.Panel().title(title).description(description).datasource(source).unit(unit).min(0)
    panel.span(span).height(8).line_width(1).fill_opacity(60 if bars else 10)
    panel.legend(
        common.VizLegendOptions()
        .display_mode(styles.LegendDisplayMode.LIST)
        .placement(styles.LegendPlacement.BOTTOM)
        .show_legend(True)
    )
    panel.tooltip(common.VizTooltipOptions().mode(styles.TooltipDisplayMode.MULTI))
    if bars:
        panel.draw_style(styles.GraphDrawStyle.BARS)
    if stacked:
        panel.stacking(common.StackingConfig().mode(styles.StackingMode.NORMAL))
    if thresholds:
        panel.thresholds(_thresholds(thresholds))
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(styles.GraphTresholdsStyleMode.DASHED))
    return panel.targets(_targets(source, queries))


def counts(title: str, description: str, queries: Queries, *, span: int = 12) -> timeseries.Panel:
    """Counts over time as stacked bars."""
    return series(title, description, queries, span=span, bars=True, stacked=True)


def number(
    title: str,
    description: str,
    queries: Queries,
    *,
    unit: str = "short",
    span: int = 4,
    thresholds: Steps = (),
    mappings: Sequence[dashboard.ValueMapping] = (),
) -> stat.Panel:
    """The latest value, large, in the colour of its threshold."""
    panel = stat.Panel().title(title).description(description).datasource(PROMETHEUS).unit(unit)
    panel.span(span).height(4).graph_mode(styles.BigValueGraphMode.NONE).color_mode(styles.BigValueColorMode.VALUE)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"])).no_value("none")
    panel.thresholds(_thresholds(thresholds)).mappings(list(mappings))
    return panel.targets(_targets(PROMETHEUS, queries, instant=True))


def faults(title: str, description: str, queries: Queries, *, span: int = 4) -> stat.Panel:
    """A number that is red unless it is zero."""
    return number(title, description, queries, span=span, thresholds=NOT_ZERO)


def shares(title: str, description: str, queries: Queries, *, thresholds: Steps, span: int = 12) -> bargauge.Panel:
    """Horizontal bars for values from 0 to 1."""
    panel = bargauge.Panel().title(title).description(description).datasource(PROMETHEUS).unit("percentunit")
    panel.span(span).height(8).min(0).max(1).orientation(styles.VizOrientation.HORIZONTAL)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"])).thresholds(_thresholds(thresholds))
    return panel.targets(_targets(PROMETHEUS, queries, instant=True))


def rows(
    title: str,
    description: str,
    queries: Queries,
    *,
    hide: Sequence[str] = (),
    units: dict[str, str] | None = None,
    links: Links | None = None,
    span: int = 24,
    source: dashboard.DataSourceRef = PROMETHEUS,
) -> table.Panel:
    """A table: a row for each set of labels, a column for each query, named as in `queries`."""
    panel = table.Panel().title(title).description(description).datasource(source).span(span).height(8)
    panel.show_header(True).targets(_targets(source, queries, instant=True, as_table=True))
    names = {f"Value #{letter}": name for letter, name in zip(ascii_uppercase, queries, strict=False)}
    if len(queries) == 1:
        names["Value"] = next(iter(queries))
    panel.transformations(
        [
            dashboard.DataTransformerConfig("labelsToFields", options={"mode": "columns"}),
            dashboard.DataTransformerConfig("merge", options={}),
            dashboard.DataTransformerConfig(
                "organize", options={"excludeByName": dict.fromkeys(["Time", *hide], True), "renameByName": names}
            ),
        ]
    )
    for name, unit in (units or {}).items():
        panel.override_by_name(name, [dashboard.DynamicConfigValue("unit", unit)])
    return panel.data_links(links) if links else panel


def lines(title: str, description: str, queries: Queries, *, height: int = 16) -> logs.Panel:
    """Log lines, oldest first."""
    panel = logs.Panel().title(title).description(description).datasource(LOKI).span(24).height(height)
    panel.show_time(True).wrap_log_message(True).enable_log_details(True).sort_order(styles.LogsSortOrder.ASCENDING)
    return panel.targets(_targets(LOKI, queries))


def _thresholds(steps: Steps) -> ThresholdsConfig:
    colours = [
        dashboard.Threshold(value=None, color="green"),
        *(dashboard.Threshold(value, colour) for value, colour in steps),
    ]
    return ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(colours)


def _targets(
    source: dashboard.DataSourceRef, queries: Queries, *, instant: bool = False, as_table: bool = False
) -> list[Builder[Dataquery]]:
    """The queries of a panel, with Grafana's reference ids A, B, …."""
    make = _loki if source is LOKI else _prometheus
    return [
        make(letter, legend, query, instant, as_table)
        for letter, (legend, query) in zip(ascii_uppercase, queries.items(), strict=False)
    ]


def _prometheus(letter: str, legend: str, query: str, instant: bool, as_table: bool) -> Builder[Dataquery]:
    target = prometheus.Dataquery().ref_id(letter).datasource(PROMETHEUS).expr(query).legend_format(legend)
    if as_table:
        target.format(PromQueryFormat.TABLE)
    return target.instant() if instant else target.range()


def _loki(letter: str, legend: str, query: str, instant: bool, _: bool) -> Builder[Dataquery]:
    target = loki.Dataquery().ref_id(letter).datasource(LOKI).expr(query).legend_format(legend).max_lines(5000)
    target.query_type("instant" if instant else "range").direction(LokiQueryDirection.FORWARD)
    return target
