"""TCP timeouts of Airflow's connections to the metadata database or PgBouncer, for a lost machine.

Without them a query on such a connection fails after 15 minutes, and one that was already sent after two hours.
"""

SECONDS = 30
CONNECT: dict[str, object] = {
    "connect_timeout": SECONDS,
    # While waiting for an answer.
    "keepalives_idle": SECONDS // 2,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    # While sent data is not acknowledged: milliseconds.
    "tcp_user_timeout": SECONDS * 1000,
}
"""Arguments of libpq, for [database] sql_alchemy_connect_args."""
CONNECT_ASYNC: dict[str, object] = {"timeout": SECONDS, "command_timeout": SECONDS * 2}
"""Arguments of asyncpg, which has no TCP options, for [database] sql_alchemy_connect_args_async."""
