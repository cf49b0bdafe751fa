#!/usr/bin/env bash
# Makes the database of POSTGRES_USER, POSTGRES_PASSWORD and POSTGRES_DB where there is none, then becomes the server.
# Like the official image it takes `postgres` and options of the server.
set -euo pipefail

initialize() {
  initdb --pgdata "$PGDATA" --username "$POSTGRES_USER" --pwfile <(printf '%s\n' "$POSTGRES_PASSWORD") \
    --auth-local trust --auth-host scram-sha-256 --encoding UTF8 --locale C.UTF-8
  echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
  printf 'CREATE DATABASE "%s";\n' "$POSTGRES_DB" | postgres --single -D "$PGDATA" postgres >/dev/null
}

[[ -s $PGDATA/PG_VERSION ]] || initialize
exec postgres -D "$PGDATA" -c listen_addresses='*' "${@:2}"
