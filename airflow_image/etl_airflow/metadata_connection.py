"""How long Airflow's servers wait for a metadata database, or a PgBouncer, whose machine does not answer any more.

Such a connection stays open: without this a query on it waits for a quarter of an hour, and one that was sent already
for two hours.
"""

SECONDS = 30
CONNECT: dict[str, object] = {
    "connect_timeout": SECONDS,
    # While an answer is waited for.
    "keepalives_idle": SECONDS // 2,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    # While the other end does not confirm what was sent: milliseconds.
    "tcp_user_timeout": SECONDS * 1000,
}
"""Arguments of libpq, for [database] sql_alchemy_connect_args."""
CONNECT_ASYNC: dict[str, object] = {"timeout": SECONDS, "command_timeout": SECONDS * 2}
"""Of asyncpg, which knows nothing of TCP, for [database] sql_alchemy_connect_args_async."""
