"""Airflow's servers do not wait long for a metadata database whose machine is lost."""

import asyncio
import socket

import asyncpg  # type: ignore[import-untyped]
import psycopg2
from etl_airflow.metadata_connection import CONNECT, CONNECT_ASYNC, SECONDS

TCP_USER_TIMEOUT = 18


def test_a_connection_is_given_up_when_the_other_end_is_silent(source_url: str) -> None:
    with psycopg2.connect(source_url, **CONNECT) as connection, socket.socket(fileno=connection.fileno()) as end:
        unconfirmed = end.getsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT)
        names = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        idle, interval, count = (end.getsockopt(socket.IPPROTO_TCP, name) for name in names)
        end.detach()
    assert unconfirmed == SECONDS * 1000
    assert idle + interval * count == SECONDS


def test_the_asynchronous_driver_takes_what_it_is_given(source_url: str) -> None:
    async def ask() -> object:
        connection = await asyncpg.connect(source_url, **CONNECT_ASYNC)
        try:
            return await connection.fetchval("SELECT 1")
        finally:
            await connection.close()

    assert asyncio.run(ask()) == 1
