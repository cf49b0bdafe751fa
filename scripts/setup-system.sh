#!/usr/bin/env bash
# Installs the shared libraries that the SQL Server driver is linked with and that no Python package brings.
set -euo pipefail

usage() {
  cat <<'TEXT'
Usage: scripts/setup-system.sh [--help]

Checks for libltdl, libkrb5 and libgssapi_krb5, and installs what is missing with the system's package manager
(with sudo where it may be used without a password).
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
      apt-get install --quiet=2 --yes --no-install-recommends libltdl7 libkrb5-3 libgssapi-krb5-2
  elif command -v dnf >/dev/null; then
    as_root dnf install --quiet --assumeyes libtool-ltdl krb5-libs
  else
    return 1
  fi
}

main() {
  if [[ ${1:-} == --help ]]; then
    usage
    return
  fi
  local missing=()
  for library in libltdl.so.7 libkrb5.so.3 libgssapi_krb5.so.2; do
    if is_missing "$library"; then missing+=("$library"); fi
  done
  if [[ ${#missing[@]} -eq 0 ]]; then return; fi
  echo "Installing what the SQL Server driver needs: ${missing[*]}"
  if ! install_packages; then
    echo "Could not install ${missing[*]}; install the packages that hold them" \
      "(Debian: libltdl7 libkrb5-3 libgssapi-krb5-2) and try again." >&2
    return 1
  fi
}

main "$@"
