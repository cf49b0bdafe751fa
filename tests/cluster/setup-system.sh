#!/usr/bin/env bash
# Installs the programs of the system with which tests/cluster runs a Kubernetes node and builds images.
set -euo pipefail

usage() {
  cat <<'TEXT'
Usage: tests/cluster/setup-system.sh [--help]

Checks for the programs that tests/cluster calls, and installs what is missing with apt-get (as root, or with sudo
where it may be used without a password).
TEXT
}

# Each line: a program, and the Debian package that brings it.
programs() {
  cat <<'TEXT'
buildah buildah
ip iproute2
ipset ipset
iptables iptables
mmdebstrap mmdebstrap
mount mount
nsenter util-linux
openssl openssl
runc runc
unshare util-linux
TEXT
}

as_root() {
  if [[ $EUID -eq 0 ]]; then
    "$@"
  else
    sudo --non-interactive "$@"
  fi
}

install_packages() {
  command -v apt-get >/dev/null && as_root apt-get update --quiet=2 && as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install --quiet=2 --yes --no-install-recommends "$@" >/dev/null
}

missing_packages() {
  local program package
  while read -r program package; do
    if ! command -v "$program" >/dev/null; then echo "$package"; fi
  done < <(programs)
  # Where distributions and the plugins' own releases put them.
  if [[ ! -x /usr/lib/cni/ptp && ! -x /opt/cni/bin/ptp && ! -x /usr/libexec/cni/ptp ]]; then
    echo containernetworking-plugins
  fi
  if ! command -v chromium >/dev/null && ! command -v google-chrome >/dev/null; then echo chromium; fi
  # Without it mmdebstrap cannot verify Debian's packages.
  if [[ ! -e /usr/share/keyrings/debian-archive-keyring.gpg ]]; then echo debian-archive-keyring; fi
}

main() {
  if [[ ${1:-} == --help ]]; then
    usage
    return
  fi
  # A user's PATH often lacks the folders in which the system keeps its own programs.
  export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
  local missing
  mapfile -t missing < <(missing_packages | sort --unique)
  if [[ ${#missing[@]} -eq 0 ]]; then return; fi
  echo "Installing what the tests' cluster needs: ${missing[*]}"
  if ! install_packages "${missing[@]}"; then
    echo "Could not install ${missing[*]}: that takes apt-get, and root or sudo without a password." \
      "Install what these Debian packages hold and try again." >&2
    return 1
  fi
}

main "$@"
