"""The connection to the sink is lost before a chosen statement of a load, or at its commit."""

from typing import Any

import pytest
from etl.sqlserver.sink import Sink


class CutError(Exception):
    """The connection is lost before a statement."""


def count_statements(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list whose number is the statement of a load before which it is cut; empty for none."""
    left: list[int] = []
    real = Sink.rows

    def rows(self: Sink, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        if left:
            left[0] -= 1
            if left[0] == 0:
                left.clear()
                raise CutError
        return real(self, statement, *parameters)

    monkeypatch.setattr(Sink, "rows", rows)
    return left


def cut_commit(monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """Have the connection lost before or after the commit of the audit row."""
    real_rows, real_commit = Sink.rows, Sink.commit
    is_next: list[bool] = []

    def rows(self: Sink, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        is_next[:] = [True] if statement.startswith("INSERT INTO [etl].[audit]") else []
        return real_rows(self, statement, *parameters)

    def commit(self: Sink) -> None:
        if is_next and moment == "before":
            raise CutError
        real_commit(self)
        if is_next:
            raise CutError

    monkeypatch.setattr(Sink, "rows", rows)
    monkeypatch.setattr(Sink, "commit", commit)
