"""`etl new-pipeline`: any pipeline is written as a file that reads back as the same pipeline, and that ruff accepts."""

import ast
import subprocess
import sys
import textwrap
from datetime import timedelta
from pathlib import Path

import pytest
from etl.arguments import read_dag, read_pipeline, read_pipelines
from etl.errors import ConfigurationError
from etl.model.pipeline import Pipeline, TableName
from etl.new.choose import Choice
from etl.new.names import Names
from etl.new.write import render
from hypothesis import Phase, example, given, reject, settings
from hypothesis import strategies as st
from orders_etl import ORDERS
from pydantic import ValidationError

ROOT = Path(__file__).resolve().parents[2]
NAMES = st.text(
    st.characters(exclude_categories=["C", "Z"]) | st.sampled_from(" '\"\\{}%#.[]"), min_size=1, max_size=15
)
REMARKS = st.text(st.characters(categories=["L", "P"]) | st.just(" "), max_size=300)


@st.composite
def choices(draw: st.DrawFn) -> Choice:
    """A pipeline with any names and some settings, and remarks of any length."""
    names = draw(st.lists(NAMES, min_size=2, max_size=6, unique_by=str.casefold))
    types = draw(st.lists(st.sampled_from(["text null", "numeric(12,2)", "integer null"]), min_size=6, max_size=6))
    columns = dict(zip(names, types, strict=False)) | {names[0]: "varchar(40)", names[-1]: "timestamptz"}
    definition = {
        "name": draw(st.from_regex(r"[a-z][a-z0-9_]{0,47}", fullmatch=True)),
        "source": TableName(schema_name=draw(NAMES), table=draw(NAMES)),
        "sink": TableName(schema_name="dbo", table=draw(NAMES)),
        "columns": columns, "key": [names[0]], "version": names[-1], "filter": draw(st.just("true")),
        "look_back": draw(st.just(timedelta(minutes=10)) | st.timedeltas(timedelta(0), timedelta(days=400))),
        "steps": draw(st.sampled_from(["fused", "separate"])), "sensitive": draw(st.sampled_from([[], [names[0]]])),
    }  # fmt: skip
    remarks = {name: draw(REMARKS) for name in names}
    try:
        pipeline = Pipeline.model_validate(definition)
    except ValidationError:  # of a name that a pipeline may not have
        reject()
    return Choice(pipeline, {"key": draw(REMARKS), "version": draw(REMARKS)}, remarks)


@settings(max_examples=20, phases=[Phase.explicit, Phase.generate])  # a process each, so without shrinking
@given(st.lists(choices(), min_size=4, max_size=12))
@example([Choice(ORDERS)])
def test_a_file_reads_back_as_the_pipeline_and_is_as_ruff_leaves_it(
    tmp_path_factory: pytest.TempPathFactory, found: list[Choice]
) -> None:
    folder = tmp_path_factory.mktemp("dags")
    for number, choice in enumerate(found):
        file = folder / f"{number}.py"
        file.write_text(render(choice, "Europe/Berlin", "data-platform"))
        assert read_dag(file) == [choice.pipeline]
        assert read_pipeline(str(file)) == choice.pipeline
    command = ["ruff", "format", "--no-cache", "--diff", "--line-length=120", str(folder)]
    formatted = subprocess.run([Path(sys.executable).parent / command[0], *command[1:]], capture_output=True, text=True)
    assert formatted.returncode == 0, formatted.stdout + formatted.stderr


def test_orders_etl_is_as_the_command_writes_it() -> None:
    text = (ROOT / "dags" / "orders_etl.py").read_text()
    written = render(Choice(ORDERS), "Europe/Berlin", "data-platform")
    body = {"written": written, "here": text}
    assert len({ast.dump(pipeline_of(each)) for each in body.values()}) == 1
    assert read_dag(ROOT / "dags" / "orders_etl.py") == [ORDERS]


def pipeline_of(text: str) -> ast.stmt:
    (statement,) = [node for node in ast.parse(text).body if isinstance(node, ast.Assign)]
    settings = statement.value
    assert isinstance(settings, ast.Call)
    settings.keywords = [word for word in settings.keywords if word.arg != "look_back"]  # the default, written out
    return statement


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("X = Pipeline(name=NAME)", "line 1 is not written out there"),
        ("X = Pipeline(**settings)", "line 1 is not written out there"),
        ("X = Pipeline(name=", "is not Python"),
        ("x = 1", "holds no pipeline"),
        ("X = Pipeline(name='1')", "'1' must be a lower-case letter"),
    ],
)
def test_a_file_that_cannot_be_read_without_airflow_is_refused(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "x.py"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=words.replace("(", r"\(")):
        read_pipeline(str(file))


def test_pipelines_are_read_from_dag_files_json_and_folders_of_both(tmp_path: Path) -> None:
    """If none is found that is refused: loads would get the right to create tables."""
    file = ROOT / "dags" / "orders_etl.py"
    other = ORDERS.model_copy(update={"name": "others"})
    (tmp_path / "a.py").write_text(file.read_text())
    (tmp_path / "b.json").write_text(other.model_dump_json())
    assert read_pipelines([str(file), other.model_dump_json(), str(tmp_path)]) == [ORDERS, other, ORDERS, other]
    for one in (str(file), ORDERS.model_dump_json()):
        assert [read_pipeline(one)] == read_pipelines([one])
    with pytest.raises(ConfigurationError, match="has 2 pipelines, and one is needed"):
        read_pipeline(str(tmp_path))
    (tmp_path / "none.py").write_text("x = 1")
    for argument, words in {
        str(tmp_path / "none.py"): "holds no pipeline",
        "dags/orders_etl": "'dags/orders_etl' is neither JSON nor a .json or .py file",
    }.items():
        for read in (read_pipeline, lambda given: read_pipelines([given])):
            with pytest.raises(ConfigurationError, match=words):
                read(argument)


def test_a_file_is_read_and_never_run(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text(
        textwrap.dedent(f"""
        import pathlib
        pathlib.Path({str(tmp_path / "ran")!r}).touch()
        X = Pipeline(name=pathlib.Path({str(tmp_path / "ran")!r}).touch())
        """)
    )
    with pytest.raises(ConfigurationError):
        read_dag(file)
    assert not (tmp_path / "ran").exists()


TABLES = st.builds(
    TableName,
    schema_name=st.sampled_from(["public", "Public", "sales"]),
    table=st.sampled_from(["order", "Order", "ORDER", "öre", "1", "注文"]) | NAMES,
)


@given(
    st.lists(TABLES, unique=True, max_size=30), st.dictionaries(st.sampled_from(["order", "sales_order"]), st.none())
)
def test_names_of_pipelines_and_sink_tables_are_valid_and_differ(
    tables: list[TableName], taken: dict[str, None]
) -> None:
    names, found = Names(taken), {}
    for table in tables:
        found[str(table)] = names.of(table)
        names.take(table)
        assert names.of(table) == found[str(table)]
    pipelines = [name for name, _ in found.values()]
    assert len({*pipelines, *taken}) == len(pipelines) + len(taken)
    made = [ORDERS.model_copy(update={"sink": sink}).sink_identity for _, sink in found.values()]
    assert len(set(made)) == len(made)
    for name in pipelines:
        Pipeline.model_validate(ORDERS.model_dump() | {"name": name})
