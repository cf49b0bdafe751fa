"""A session: one connection, from its login to its end."""

import logging
import re
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass

from dev.sandbox.sqlserver.engine.catalogue import MASTER
from dev.sandbox.sqlserver.engine.database import Engine
from dev.sandbox.sqlserver.engine.locks import AppLocks
from dev.sandbox.sqlserver.engine.principals import Administrator
from dev.sandbox.sqlserver.engine.store import Store
from dev.sandbox.sqlserver.errors import (
    TOKEN_USER,
    AttentionError,
    ConnectionCutError,
    SqlError,
    cannot_open,
    login_failed,
    unknown_statement,
)
from dev.sandbox.sqlserver.faults import Faults
from dev.sandbox.sqlserver.server import bulk
from dev.sandbox.sqlserver.server.bulk_metadata import describe_table, table_asked_for
from dev.sandbox.sqlserver.server.calls import Calls
from dev.sandbox.sqlserver.server.executor import Executor
from dev.sandbox.sqlserver.wire.federated import asks_for_tokens
from dev.sandbox.sqlserver.wire.login import Login, prelogin_answer, read_login
from dev.sandbox.sqlserver.wire.packets import ATTENTION, BULK_LOAD, LOGIN, PRELOGIN, RPC, SQL_BATCH, TRANSACTION, Wire
from dev.sandbox.sqlserver.wire.rpc import skip_headers
from dev.sandbox.sqlserver.wire.tls import Tunnel, begins_with_tls
from dev.sandbox.sqlserver.wire.tokens import BULK_INSERT, ENV_COMMIT, ENV_ROLLBACK, Reply
from dev.sandbox.sqlserver.wire.watch import AttentionWatch

log = logging.getLogger(__name__)
_PASSWORD = re.compile(r"PASSWORD\s*=\s*N?'(?:[^']|'')*'", re.IGNORECASE)
_BEGIN, _COMMIT, _ROLLBACK = 5, 7, 8
_BEGIN_ANOTHER = 1


@dataclass(frozen=True)
class Shared:
    """Objects that all sessions share."""

    engine: Engine
    administrator: Administrator
    locks: AppLocks
    faults: Faults
    watch: AttentionWatch
    discard: bool
    tls: ssl.SSLContext | None


class Session:
    """Reads requests and answers them, until the client leaves."""

    def __init__(self, wire: Wire, shared: Shared, session_id: int) -> None:
        self._wire = wire
        self._shared = shared
        self._store = Store(shared.engine, shared.administrator, shared.locks, shared.faults, session_id)
        self._executor = Executor(self._store, shared.faults)
        self._calls = Calls(self._executor)
        self._transactions = 0
        self._tunnel: Tunnel | None = None
        self._requests: dict[int, Callable[[bytes, Reply], None]] = {
            SQL_BATCH: self._batch,
            RPC: self._calls.answer,
            TRANSACTION: self._transaction,
        }

    def run(self) -> None:
        """Serve the client. Raises ConnectionCutError when it has left, or its login failed."""
        try:
            if self._shared.tls and begins_with_tls(self._wire.socket):
                self._tunnel = Tunnel(self._wire, self._shared.tls)
                self._tunnel.open()
            self._log_in()
            while True:
                self._store.given_up.clear()
                self._answer()
        finally:
            if self._tunnel:
                self._tunnel.close()
            self._store.close()

    def _log_in(self) -> None:
        login, by_token = None, False
        while login is None:
            kind, data = self._wire.read_message()
            if kind == PRELOGIN:
                by_token = asks_for_tokens(data)
                self._answer_prelogin(by_token)
            elif kind == LOGIN:
                login = read_login(data, by_token)
            else:
                raise ConnectionCutError(f"a message of type {kind} instead of a login")
        reply = Reply(self._wire)
        refusals = self._refusals(login)
        if not refusals:
            self._welcome(login, reply)
            return
        for refusal in refusals:
            reply.error(refusal)
        reply.done(error=True)
        reply.finish()
        raise ConnectionCutError(refusals[0].message)

    def _answer_prelogin(self, by_token: bool) -> None:
        self._wire.write(prelogin_answer(encrypted=self._shared.tls is not None, by_token=by_token))
        self._wire.finish()
        if self._shared.tls and not self._tunnel:
            self._tunnel = Tunnel(self._wire, self._shared.tls)
            self._tunnel.shake_hands()
            self._tunnel.open()

    def _refusals(self, login: Login) -> list[SqlError]:
        """Errors of a refused login; none if it is accepted. 4060 (database cannot be opened) is followed by 18456."""
        store, user, why = self._store, login.user, ""
        if login.token:
            user = TOKEN_USER
            why = store.principals.log_in_by_token(login.token)
            known = not why
        else:
            known = store.principals.log_in(login.user, login.password)
        if not known or self._shared.faults.take("login_failure") is not None:
            return [login_failed(user, why)]
        database = store.catalogue.database_named(login.database or MASTER)
        if login.token and database is not None and not store.principals.may_enter(database):
            return [login_failed(user)]
        if database is None or not store.is_open(database) or not store.principals.may_enter(database):
            return [cannot_open(login.database), login_failed(user)]
        self._store.catalogue.database = database
        return []

    def _welcome(self, login: Login, reply: Reply) -> None:
        reply.database(self._store.catalogue.database)
        reply.collation()
        reply.login_accepted()
        if login.token:
            reply.token_accepted()
        reply.packet_size(login.packet_size)
        reply.finish()
        self._wire.packet_size = login.packet_size

    def _answer(self) -> None:
        """Answer the next request."""
        reply = Reply(self._wire)
        try:
            if self._wire.peek_type() == BULK_LOAD:
                self._load(reply)
            else:
                kind, data = self._wire.read_message()
                if kind == ATTENTION:
                    reply.attention()
                elif kind in self._requests:
                    self._run(self._requests[kind], data, reply)
                else:
                    raise ConnectionCutError(f"a message of unknown type {kind}")
        except AttentionError:
            self._give_up(reply)
        self._wire.prompt = self._executor.injected
        self._executor.injected = False
        reply.finish()
        self._wire.prompt = False

    def _run(self, answer: Callable[[bytes, Reply], None], data: bytes, reply: Reply) -> None:
        if self._wire.reset_requested:
            self._executor.reset()
        if not self._store.is_open(self._store.catalogue.database):
            raise ConnectionCutError("the database was taken offline")
        with self._shared.watch.watching(self._wire.socket, self._store.interrupt):
            if self._wire.attention_is_waiting():
                raise AttentionError
            answer(skip_headers(data), reply)

    def _give_up(self, reply: Reply) -> None:
        self._store.given_up.clear()
        if self._store.fail(SqlError(0, "")) and self._executor.transaction_descriptor:
            reply.transaction_ended(ENV_ROLLBACK, self._executor.transaction_descriptor)
            self._executor.transaction_descriptor = b""
        kind, _ = self._wire.read_message()
        if kind != ATTENTION:
            raise ConnectionCutError("no attention")
        reply.attention()

    def _batch(self, data: bytes, reply: Reply) -> None:
        text = data.decode("utf-16-le")
        log.debug("batch: %s", _PASSWORD.sub("PASSWORD = ***", text))
        try:
            if (table := table_asked_for(text)) is not None:
                describe_table(table, self._executor.context(), reply)
            else:
                self._executor.run(text, [], reply)
        except SqlError as error:
            self._executor.fail(error, reply)

    def _transaction(self, data: bytes, reply: Reply) -> None:
        """Answer a transaction manager request (MS-TDS 2.2.6.9)."""
        (request,) = struct.unpack_from("<H", data)
        try:
            if request == _BEGIN:
                self._begin(reply)
            elif request in (_COMMIT, _ROLLBACK):
                self._end(request, data[3:4] == bytes([_BEGIN_ANOTHER]), reply)
            else:
                raise unknown_statement(f"transaction manager request {request}")
        except SqlError as error:
            self._executor.fail(error, reply)

    def _begin(self, reply: Reply) -> None:
        self._store.begin()
        self._transactions += 1
        self._executor.transaction_descriptor = struct.pack("<Q", self._transactions)
        reply.transaction_begun(self._executor.transaction_descriptor)

    def _end(self, request: int, begin_another: bool, reply: Reply) -> None:
        descriptor = self._executor.transaction_descriptor
        if request == _COMMIT:
            self._store.commit()
        else:
            self._store.rollback()
        self._executor.transaction_descriptor = b""
        reply.transaction_ended(ENV_COMMIT if request == _COMMIT else ENV_ROLLBACK, descriptor or bytes(8))
        if begin_another:
            self._begin(reply)

    def _load(self, reply: Reply) -> None:
        message = self._wire.stream_message()
        request, self._executor.bulk = self._executor.bulk, None
        try:
            if request is None:
                raise unknown_statement("a bulk load that no INSERT BULK announced")
            if self._shared.discard:
                count = bulk.discard(message)
            else:
                count = bulk.load(request, message, self._store, self._shared.faults)
        except SqlError as error:
            for _ in message:
                pass  # the client reads nothing before it has sent everything
            self._executor.fail(error, reply)
        else:
            reply.done(command=BULK_INSERT, count=count)
