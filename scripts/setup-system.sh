#!/usr/bin/env bash
# Installs system packages: libraries of the SQL Server drivers, and curl for tests.
set -euo pipefail

usage() {
  cat <<'TEXT'
Usage: scripts/setup-system.sh [--with-odbc | --with-curl | --help]

Checks for libltdl, libkrb5 and libgssapi_krb5, and installs what is missing with the system's package manager
(with sudo where it may be used without a password).

  --with-odbc  also libodbc, which the benchmark of dlt needs
  --with-curl  also curl, with which install-k3s.sh is tested
TEXT
}

is_missing() {
  local known
  known=$(ldconfig -p 2>/dev/null || /sbin/ldconfig -p)
  [[ $known != *"$1"* ]]
}

as_root() {
  if [[ $EUID -eq 0 ]]; then
    "$@"
  else
    sudo --non-interactive "$@"
  fi
}

install_packages() {
  if command -v apt-get >/dev/null; then
    as_root apt-get update --quiet=2 && as_root env DEBIAN_FRONTEND=noninteractive \
      apt-get install --quiet=2 --yes --no-install-recommends "${debian[@]}"
  elif command -v dnf >/dev/null; then
    as_root dnf install --quiet --assumeyes "${fedora[@]}"
  else
    return 1
  fi
}

main() {
  if [[ ${1:-} == --help ]]; then
    usage
    return
  fi
  local libraries=(libltdl.so.7 libkrb5.so.3 libgssapi_krb5.so.2) missing=()
  local debian=(libltdl7 libkrb5-3 libgssapi-krb5-2) fedora=(libtool-ltdl krb5-libs)
  if [[ ${1:-} == --with-odbc ]]; then
    libraries+=(libodbc.so.2)
    debian+=(libodbc2)
    fedora+=(unixODBC)
  fi
  if [[ ${1:-} == --with-curl ]]; then
    debian+=(curl)
    fedora+=(curl)
    if ! command -v curl >/dev/null; then missing+=(curl); fi
  fi
  for library in "${libraries[@]}"; do
    if is_missing "$library"; then missing+=("$library"); fi
  done
  if [[ ${#missing[@]} -eq 0 ]]; then return; fi
  echo "Installing what is missing on this system: ${missing[*]}"
  if ! install_packages; then
    echo "Could not install ${missing[*]}; install the packages that hold them" \
      "(Debian: ${debian[*]}) and try again." >&2
    return 1
  fi
}

main "$@"
