#!/usr/bin/env bash
# Before PostgreSQL starts: creates the database if it is missing, and sets its roles' passwords from the Secrets. Runs in
# PostgreSQL's image; PGDATA is the data folder, PGHOST the socket's. No client can connect meanwhile: the server that it
# starts listens at that socket only.
set -euo pipefail
umask 077
here=$(dirname "${BASH_SOURCE[0]}")

make_data() {
  local new=$PGDATA.new
  rm --recursive --force -- "$new" # from a killed attempt
  initdb --pgdata="$new" --username=postgres --pwfile=<(printf '%s\n' "$METADATA_ADMIN_PASSWORD") \
    --auth-local=trust --auth-host=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8
  echo 'host all all all scram-sha-256' >>"$new/pg_hba.conf"
  mv -- "$new" "$PGDATA"
}

# USER, then the arguments of psql.
sql() {
  psql --quiet --no-psqlrc --set=ON_ERROR_STOP=1 --dbname=postgres --username="$1" "${@:2}"
}

# In early versions the server's first role was `airflow`, and PostgreSQL never takes superuser from its first role. So it
# is renamed, and `airflow` is created again without superuser.
rename_first_role() {
  sql airflow --command='DROP ROLE IF EXISTS renaming' --command='CREATE ROLE renaming LOGIN SUPERUSER'
  sql renaming --command='ALTER ROLE airflow RENAME TO postgres'
  sql postgres --command='DROP ROLE renaming'
}

[[ -s $PGDATA/PG_VERSION ]] || make_data
trap 'pg_ctl stop --silent --mode=fast' EXIT
# The time that crash recovery may take.
pg_ctl start --silent --wait --timeout=600 \
  --options="-c listen_addresses='' -c unix_socket_directories='$PGHOST' -c log_min_error_statement=panic"
sql postgres --command='SELECT' 2>/dev/null || rename_first_role
sql postgres --file="$here/roles.sql"
echo 'Roles and passwords are as they are to be.'
