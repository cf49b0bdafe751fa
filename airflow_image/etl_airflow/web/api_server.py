"""Airflow's API server at two ports of one process: for people, at ETL_UI_PORT, and for workers.

    python -m etl_airflow.web.api_server

`airflow api-server` listens at one port, where only headers, which a client can forge, distinguish a person's request
(through Traefik) from a worker's. front_door.py defines what each port serves; NetworkPolicies allow people and workers
their own port only.
"""

import os
import socket

PORTS = ("ETL_WORKERS_PORT", "ETL_UI_PORT")


def main() -> None:
    """Serve until a signal, with the settings of `airflow api-server`."""
    import uvicorn
    from airflow.api_fastapi.auth.tokens import get_signing_args
    from airflow.configuration import conf

    get_signing_args()  # exits with a message if there is no key
    seconds = conf.getint("api", "worker_timeout")
    config = uvicorn.Config(
        "airflow.api_fastapi.main:app",
        log_level=conf.get("logging", "uvicorn_logging_level").lower(),
        # Airflow configures logging, and logs requests.
        log_config=None,
        access_log=False,
        # Proxy headers are trusted in the front door, at one port only.
        proxy_headers=False,
        timeout_keep_alive=seconds,
        timeout_graceful_shutdown=seconds,
    )
    server = uvicorn.Server(config)
    server.run([_bound(int(os.environ[name])) for name in PORTS])
    if not server.started:
        raise SystemExit(3)


def _bound(port: int) -> socket.socket:
    """A bound socket that does not listen yet: uvicorn listens once Airflow has started."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("", port))
    return made


if __name__ == "__main__":
    main()
