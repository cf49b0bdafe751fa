"""Looks for a text of which a claim in tests/fuzz/claims.py does not hold: `make fuzz`.

    python -m tests.fuzz [FILE …] [-max_total_time=60]      the options are libFuzzer's

What it learns it keeps in .fuzz/, and the next time begins with it. An input that a claim does not hold of is written
there as crash-…; with that file as its argument it is tried again.
"""

import json
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["etl", "etl_airflow.dag.plan"]):
    from tests.fuzz import claims as claims
    from tests.fuzz.statements import SIGNS, definition
from dev.sandbox.pipelines import EVERYTHING, ORDERS

FOLDER = Path(".fuzz")
Provider = Any  # atheris.FuzzedDataProvider, where it is installed


def text(data: Provider, most: int = 60) -> str:
    """Words of an enemy among any characters."""
    parts: list[str] = []
    for _ in range(data.ConsumeIntInRange(0, 8)):
        choice = data.ConsumeIntInRange(0, 2 * len(SIGNS))
        parts.append(SIGNS[choice] if choice < len(SIGNS) else data.ConsumeUnicode(data.ConsumeIntInRange(0, most)))
    return "".join(parts)


def _names(data: Provider) -> None:
    names = [text(data) or "n" for _ in range(3)]
    if len(set(names)) == 3:
        claims.a_name_or_key_is_one_token(names, text(data), text(data), (text(data), text(data)))


def _pipeline(data: Provider) -> None:
    given = definition([text(data) for _ in range(3)], text(data), text(data))
    for field in (
        "name",
        "filter",
        "version",
        "look_back",
        "steps",
        "partition_size",
        "pushdown",
        "version_zone",
        "other",
    ):
        if data.ConsumeProbability() > 0.8:
            given[field] = text(data) if data.ConsumeBool() else data.ConsumeInt(12)
    claims.a_pipeline_is_refused_in_words_or_survives_being_written(given)


def _json(data: Provider) -> None:
    try:
        given = json.loads(data.ConsumeUnicodeNoSurrogates(2000))
    except (ValueError, RecursionError):
        return
    if isinstance(given, dict):
        claims.a_pipeline_is_refused_in_words_or_survives_being_written(given)


def _params(data: Provider) -> None:
    params = {name: text(data) for name in ("since", "until") if data.ConsumeBool()}
    claims.params_are_refused_in_words_or_choose_a_window(params, None, timedelta(data.ConsumeIntInRange(0, 36500)))


TARGETS: list[Callable[[Provider], None]] = [
    _names,
    _pipeline,
    _json,
    _params,
    lambda data: claims.a_filter_is_refused_in_words_or_is_a_condition_of_known_words(text(data, 200)),
    lambda data: claims.a_filter_is_refused_in_words_or_is_a_condition_of_known_words(data.ConsumeUnicode(200)),
    lambda data: claims.a_text_in_a_filter_is_that_text_everywhere(text(data)),
    lambda data: claims.a_column_type_is_refused_in_words_or_is_written_the_same_again(text(data)),
    lambda data: claims.a_partition_is_refused_in_words_or_survives_being_written(data.ConsumeUnicode(500)),
    lambda data: claims.a_url_is_refused_without_showing_it_or_names_one_server(f"mssql://{text(data)}"),
]
"""The claims; the first byte of an input selects one."""


def try_one(data: bytes) -> None:
    """Try one input. Raises on anything but a refusal with an error sentence."""
    provider = atheris.FuzzedDataProvider(data[1:])
    TARGETS[(data[0] if data else 0) % len(TARGETS)](provider)


def seed() -> None:
    """Give the fuzzer something to begin with."""
    FOLDER.mkdir(exist_ok=True)
    words = [
        *(json.dumps(each) for each in (ORDERS, EVERYTHING)),
        "status = 'confirmed' AND amount > 1.5 OR active",
        '{"window": {"low": null, "high": "2026-01-01T00:00:00Z"}, "id": "0001", "lower": ["a"]}',
        "2026-01-31T00:00:00+02:00",
        "numeric(12,2) null",
    ]
    for target in range(len(TARGETS)):
        for number, word in enumerate(words):
            # Texts come after a byte that says how wide their characters are.
            (FOLDER / f"seed-{target}-{number}").write_bytes(bytes([target, 1]) + word.encode())


def main() -> None:
    """Fuzz until the time is up, or try the files that are named."""
    files = [word for word in sys.argv[1:] if not word.startswith("-")]
    if not files:
        seed()
    corpus = [] if files else [str(FOLDER)]
    atheris.Setup([*sys.argv, f"-artifact_prefix={FOLDER}/", "-timeout=20", *corpus], try_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
