"""The fingerprint distinguishes the output of definitions and plans, and is stable over versions."""

from datetime import UTC, datetime

import pytest
from etl.model.pipeline import Pipeline
from etl.model.window import Partition, Settled, Window, fingerprint

from dev.sandbox.pipelines import ORDERS, make

WINDOW = Window(low=datetime(2026, 1, 1, tzinfo=UTC), high=datetime(2026, 1, 2, tzinfo=UTC))
PARTITION = Partition(window=WINDOW, id="p2", lower=["10"], upper=["20"], expected_rows=10)


class OfNextVersion(Pipeline):
    """With one more setting."""

    brand_new: str = ""


def test_it_is_what_earlier_versions_made_of_the_same() -> None:
    """If this fails, runs that are under way at an upgrade fail too, and must be cleared."""
    assert fingerprint(make(ORDERS), PARTITION) == "627f67b902f8dce5"


def test_a_version_that_brings_one_more_setting_makes_the_same() -> None:
    assert fingerprint(OfNextVersion(**ORDERS), PARTITION) == fingerprint(make(ORDERS), PARTITION)


@pytest.mark.parametrize("changes", [{"filter": "status = 'paid'"}, {"key": ["customer"]}, {"pushdown": True}])
def test_another_definition_makes_another(changes: dict[str, object]) -> None:
    assert fingerprint(make(ORDERS, **changes), PARTITION) != fingerprint(make(ORDERS), PARTITION)


@pytest.mark.parametrize("changes", [{"id": "p3"}, {"lower": ["11"]}, {"upper": None}])
def test_another_partition_makes_another(changes: dict[str, object]) -> None:
    assert fingerprint(make(ORDERS), PARTITION.model_copy(update=changes)) != fingerprint(make(ORDERS), PARTITION)


def test_what_a_run_refreshes_makes_another() -> None:
    """And what every run before this setting did makes the same: its fingerprint above has none."""
    window = WINDOW.model_copy(update={"refresh": "differing"})
    other = PARTITION.model_copy(update={"window": window})
    assert fingerprint(make(ORDERS), other) != fingerprint(make(ORDERS), PARTITION)
    earlier = Window.model_validate_json('{"low": "2026-01-01T00:00:00Z", "high": "2026-01-02T00:00:00Z"}')
    assert earlier == WINDOW


def test_how_many_rows_were_expected_does_not_matter() -> None:
    other = PARTITION.model_copy(update={"expected_rows": 11})
    assert fingerprint(make(ORDERS), other) == fingerprint(make(ORDERS), PARTITION)


def test_what_the_watermark_will_be_kept_with_does_not_matter() -> None:
    settled = Settled(value=WINDOW.high, pending=WINDOW.high, xmax=700)
    other = PARTITION.model_copy(update={"window": WINDOW.model_copy(update={"settled": settled})})
    assert fingerprint(make(ORDERS), other) == fingerprint(make(ORDERS), PARTITION)
