"""A pipeline refuses what is unknown or contradictory, naming the field."""

from typing import Any

import pytest
from etl.pipeline import Pipeline
from pydantic import ValidationError

from tests.support.pipelines import EVERYTHING, ORDERS, make


@pytest.mark.parametrize("definition", [ORDERS, EVERYTHING])
def test_a_pipeline_survives_being_written_as_json(definition: dict[str, Any]) -> None:
    pipeline = make(definition)
    assert Pipeline.model_validate_json(pipeline.model_dump_json()) == pipeline


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"colums": {}}, "colums"),
        ({"name": "Orders; DROP"}, "name"),
        ({"source": "orders"}, "must name the schema"),
        ({"columns": {}}, "columns"),
        ({"columns": {**ORDERS["columns"], "amount": "money"}}, "column amount: 'money' cannot be carried exactly"),
        ({"columns": {**ORDERS["columns"], "amount": "numeric"}}, "column amount: 'numeric' needs precision"),
        ({"columns": {**ORDERS["columns"], "AMOUNT": "bigint"}}, "differ in case only"),
        ({"key": []}, "key"),
        ({"key": ["id"]}, "key: 'id' is not among the columns"),
        ({"key": ["note"]}, "key: 'note' may not be null"),
        ({"key": ["order_id", "order_id"]}, "key: a column is named twice"),
        ({"key": ["updated_at"]}, "version: 'updated_at' is part of the key"),
        ({"version": "nope"}, "version: 'nope' is not among the columns"),
        ({"version": "amount"}, "version: 'amount' is numeric(12,2)"),
        ({"filter": "status ="}, "filter"),
        ({"filter": "state = 'confirmed'"}, "filter: unknown column state"),
        ({"filter": "status LIKE '{%'"}, "would take them for a template"),
        ({"look_back": -1}, "look_back"),
        ({"partition_size": 0}, "partition_size"),
        ({"tolerated_rejects": -1}, "tolerated_rejects"),
        ({"steps": "all"}, "steps"),
        ({"filter": "amount = 'abc'"}, "filter: 'amount = 'abc'': a number is written without quotes"),
    ],
)
def test_a_contradiction_is_refused_with_the_name_of_the_field(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError) as caught:
        make(ORDERS, **changes)
    assert told in str(caught.value)


def test_a_key_that_sql_server_cannot_index_is_refused() -> None:
    columns = {**ORDERS["columns"], "customer": "text"}
    with pytest.raises(ValidationError, match="which SQL Server cannot index"):
        make(ORDERS, columns=columns, key=["customer"])
    columns = {**ORDERS["columns"], "customer": "varchar(300)", "status": "varchar(200)"}
    with pytest.raises(ValidationError, match="over the 400"):
        make(ORDERS, columns=columns, key=["customer", "status"])
