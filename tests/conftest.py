"""Settings of all tests, made before Airflow is imported: a temporary home, no examples. No test is timed."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from structlog.contextvars import clear_contextvars

ROOT = Path(__file__).resolve().parents[1]

os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-tests-")
os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = str(ROOT / "dags")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "False"
# Settings of whoever runs the tests must not reach them.
for variable in [name for name in os.environ if name.startswith(("ETL_", "OIDC_", "STAGING_", "STATSD_"))]:
    del os.environ[variable]

# The machine may be busy with other tests.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def _own_log_context() -> Iterator[None]:
    """A command that runs in a test's process binds fields to all lines of that process."""
    yield
    clear_contextvars()


def pytest_report_header() -> str:
    """Say which Loki the tests have that need no cluster."""
    from tests.harness.logs.loki import description

    return description()


def pytest_unconfigure() -> None:
    """Remove the home that was made above."""
    shutil.rmtree(os.environ["AIRFLOW_HOME"], ignore_errors=True)


pytest_plugins = ["tests.harness.fixtures"]
