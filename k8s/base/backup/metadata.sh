#!/usr/bin/env bash
# Airflow's metadata database in a file, and back. Runs in PostgreSQL's image; where the database is, say PGHOST,
# PGUSER, who owns it, PGPASSWORD and PGDATABASE; to restore also METADATA_ADMIN_PASSWORD, of the server's `postgres`.
#
#   metadata.sh backup         writes metadata-TIME.dump to BACKUP_FOLDER, reads it again, and keeps the newest KEEP
#   metadata.sh list           says which backups there are, of both databases: bytes and name
#   metadata.sh restore FILE   puts a backup in the place of the database
set -euo pipefail
umask 077

fail() {
  echo "$1" >&2
  exit 1
}

# In its first seconds a pod is not known to the network's policies, and is refused.
await_server() {
  local said
  for _ in {1..30}; do
    said=$(psql --quiet --no-psqlrc --dbname=postgres --command='SELECT 1' 2>&1) && return
    sleep 1
  done
  fail "$said"
}

# What only a superuser may do.
administer() {
  local PGUSER=postgres PGPASSWORD=$METADATA_ADMIN_PASSWORD
  export PGUSER PGPASSWORD
  local statements=()
  for statement in "$@"; do statements+=(--command="$statement"); done
  psql --quiet --no-psqlrc --set=ON_ERROR_STOP=1 --dbname=postgres "${statements[@]}"
}

# Reads all of a file: its table of contents alone would also be there in half of one.
check() {
  pg_restore --file=/dev/null "$1" || fail "$1 is damaged, or was written by a later version of PostgreSQL."
}

backup() {
  local file
  file=metadata-$(date --utc +%Y%m%dT%H%M%SZ).dump
  rm --force -- metadata-*.part # left by an attempt that was killed
  trap 'rm --force -- metadata-*.part' EXIT
  # It waits until the file is on the disk.
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
