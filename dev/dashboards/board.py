"""Parts of every dashboard: settings, variables, rows."""

from grafana_foundation_sdk.builders.dashboard import Dashboard, QueryVariable, Row, TextBoxVariable
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, VariableOption, VariableRefresh, VariableSort

from dev.dashboards.links import TAG, between_dashboards
from dev.dashboards.panels import LOKI, PROMETHEUS, PanelBuilder

Rows = dict[str, list[PanelBuilder]]
"""Panels by the headline of their row."""


def dashboard(title: str, uid: str, description: str, rows: Rows) -> Dashboard:
    """A dashboard, read-only in Grafana. `uid` is its name in URLs."""
    board = Dashboard(title).uid(uid).description(description).tags([TAG]).readonly()
    board.timezone("browser").time("now-6h", "now").refresh("30s").tooltip(DashboardCursorSync.CROSSHAIR)
    for headline, panels in rows.items():
        board.with_row(Row(headline))
        for panel in panels:
            board.with_panel(panel)
    return board.link(between_dashboards())


def choice(name: str, label: str, query: str) -> QueryVariable:
    """A variable with multiple choice: values of a label in Prometheus, by `label_values(series, label)`."""
    variable = QueryVariable(name).label(label).datasource(PROMETHEUS).query({"query": query, "refId": name})
    return _all_at_first(variable)


def choice_of_lines(name: str, label: str, stream: str) -> QueryVariable:
    """A variable with multiple choice: values of a stream's label in Loki."""
    query: dict[str, object] = {"label": name, "refId": name, "stream": stream, "type": 1}
    return _all_at_first(QueryVariable(name).label(label).datasource(LOKI).query(query))


def text(name: str, label: str, value: str, description: str) -> TextBoxVariable:
    """A text variable."""
    at_first = VariableOption(selected=True, text=value, value=value)
    variable = TextBoxVariable(name).label(label).description(description).default_value(value)
    return variable.current(at_first).options([at_first])


def _all_at_first(variable: QueryVariable) -> QueryVariable:
    everything = VariableOption(selected=True, text=["All"], value=["$__all"])
    variable.multi(True).include_all(True).all_value(".+").current(everything)
    return variable.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).sort(VariableSort.ALPHABETICAL_ASC)
