"""Airflow's connections, as its API server makes them of variables."""

import pytest
from etl_airflow.secrets_backend import UrlConnections


def airflow_has(monkeypatch: pytest.MonkeyPatch, name: str, **variables: str) -> None:
    """Give Airflow the connection that its API server makes of these variables."""
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    made = UrlConnections().get_conn_value(name)
    assert made
    monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", made)
