"""Statements with parameters: prepared, as mssql-python sends them, or run at once (MS-TDS 2.2.6.6)."""

import re
from dataclasses import dataclass, replace

from dev.sandbox.sqlserver.errors import SqlError
from dev.sandbox.sqlserver.server.executor import Executor
from dev.sandbox.sqlserver.wire import datatypes
from dev.sandbox.sqlserver.wire.rpc import (
    EXECUTE,
    EXECUTE_SQL,
    PREPARE,
    PREPEXEC,
    UNPREPARE,
    Call,
    Parameter,
    read_calls,
)
from dev.sandbox.sqlserver.wire.tokens import DONE_IN_PROC, DONE_PROC, EXECUTED, Reply


@dataclass(frozen=True)
class Prepared:
    """A prepared statement, with the names of its parameters in order."""

    text: str
    names: list[str]


class Calls:
    """Prepared statements of a session, and the procedures that create, run and drop them."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._prepared: dict[int | None, Prepared] = {}
        self._handles = 0

    def answer(self, data: bytes, reply: Reply) -> None:
        """Answer the calls of one request, up to the first that fails."""
        for call in read_calls(data):
            try:
                handle = self._call(call, reply)
            except SqlError as error:
                self._executor.fail(error, reply, DONE_PROC)
                return
            reply.procedure_result(handle)
            reply.done(DONE_PROC, EXECUTED)

    def _call(self, call: Call, reply: Reply) -> int | None:
        """Run a procedure; returns the handle of a statement that it prepared."""
        given = [parameter.value for parameter in call.parameters]
        if call.number in (PREPARE, PREPEXEC):
            self._prepared.pop(given[0], None)
            self._handles += 1
            self._prepared[self._handles] = Prepared(given[2], re.findall(r"@\w+", given[1] or ""))
            if call.number == PREPEXEC:
                self._execute(self._handles, call.parameters[3:], reply)
            return self._handles
        if call.number == EXECUTE:
            self._execute(given[0], call.parameters[1:], reply)
        elif call.number == EXECUTE_SQL:
            self._executor.run(given[0], call.parameters[2:], reply, DONE_IN_PROC)
        elif call.name.lower().endswith(datatypes.NAME):
            datatypes.describe_datatype(given[0], reply)
        elif call.number == UNPREPARE:
            self._prepared.pop(given[0], None)
        else:
            raise SqlError(2812, f"Could not find stored procedure '{call.name or call.number}'.")
        return None

    def _execute(self, handle: int, parameters: list[Parameter], reply: Reply) -> None:
        prepared = self._prepared.get(handle)
        if prepared is None:
            raise SqlError(8179, f"Could not find prepared statement with handle {handle}.")
        # The values come in the order of the declaration, without names.
        named = (replace(each, name=name) for name, each in zip(prepared.names, parameters, strict=True))
        self._executor.run(prepared.text, named, reply, DONE_IN_PROC)
