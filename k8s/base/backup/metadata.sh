#!/usr/bin/env bash
# Backup and restore of Airflow's metadata database. Runs in PostgreSQL's image, with PGHOST, PGUSER (its owner), PGPASSWORD
# and PGDATABASE; a restore also needs METADATA_ADMIN_PASSWORD, of the server's `postgres`.
#
#   metadata.sh backup         writes metadata-TIME.dump to BACKUP_FOLDER, verifies it, and keeps the newest KEEP
#   metadata.sh list           lists the backups of both databases: bytes and name
#   metadata.sh restore FILE   replaces the database by a backup
set -euo pipefail
umask 077

fail() {
  echo "$1" >&2
  exit 1
}

# In its first seconds a pod is refused: network policies do not have its address yet.
await_server() {
  local said
  for _ in {1..30}; do
    said=$(psql --quiet --no-psqlrc --dbname=postgres --command='SELECT 1' 2>&1) && return
    sleep 1
  done
  fail "$said"
}

# Run as superuser.
administer() {
  local PGUSER=postgres PGPASSWORD=$METADATA_ADMIN_PASSWORD
  export PGUSER PGPASSWORD
  local statements=()
  for statement in "$@"; do statements+=(--command="$statement"); done
  psql --quiet --no-psqlrc --set=ON_ERROR_STOP=1 --dbname=postgres "${statements[@]}"
}

# Reads the whole file: its table of contents would be valid in an incomplete one, too.
check() {
  pg_restore --file=/dev/null "$1" || fail "$1 is damaged, or was written by a later version of PostgreSQL."
}

backup() {
  local file
  file=metadata-$(date --utc +%Y%m%dT%H%M%SZ).dump
  rm --force -- metadata-*.part # from a killed attempt
  trap 'rm --force -- metadata-*.part' EXIT
  # It syncs the file to disk.
  pg_dump --format=custom --file="$file.part"
  check "$file.part"
  mv -- "$file.part" "$file"
  sync .
  find . -maxdepth 1 -name 'metadata-*.dump' | sort | head --lines=-"${KEEP:-7}" | xargs --no-run-if-empty rm --
  echo "Wrote $file: $(stat --format=%s "$file") bytes."
}

list() {
  find . -maxdepth 1 -type f \( -name 'metadata-*.dump' -o -name 'sink-*.bak' \) -printf '%s %f\n'
}

restore() {
  local file=${1##*/} fresh=${PGDATABASE}_restored
  [[ -f $file ]] || fail "There is no backup $file."
  check "$file"
  administer "DROP DATABASE IF EXISTS \"$fresh\" WITH (FORCE)" \
    "CREATE DATABASE \"$fresh\" OWNER \"$PGUSER\" TEMPLATE template0"
  if ! pg_restore --exit-on-error --no-owner --no-privileges --dbname="$fresh" "$file"; then
    administer "DROP DATABASE \"$fresh\" WITH (FORCE)"
    fail "$file could not be restored, why is above; the database is as it was."
  fi
  administer "DROP DATABASE IF EXISTS \"$PGDATABASE\" WITH (FORCE)" \
    "ALTER DATABASE \"$fresh\" RENAME TO \"$PGDATABASE\""
  echo "Restored $file."
}

cd "$BACKUP_FOLDER"
case ${1:-} in
  list) list ;;
  backup)
    await_server
    backup
    ;;
  restore)
    await_server
    restore "${2:?which file}"
    ;;
  *) fail 'metadata.sh backup | list | restore FILE' ;;
esac
