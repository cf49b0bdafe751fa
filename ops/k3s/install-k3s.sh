#!/usr/bin/env bash
# Installs K3s as a service of systemd, and removes it again.
set -euo pipefail
umask 022

# Tests set a folder that replaces / in every path that is read, written or unmounted.
root=${K3S_ROOT:-}
# sudo and su may leave these folders out.
export PATH="$PATH:$root/usr/local/sbin:$root/usr/local/bin:$root/usr/sbin:$root/usr/bin:$root/sbin:$root/bin"

pinned=v1.36.5+k3s1
version=$pinned
mirror=https://github.com/k3s-io/k3s/releases/download
timeout=300
pod_range=10.42.0.0/16
service_range=10.43.0.0/16
from_files='' download_to='' server='' token_file='' overwrite_config='' open_firewall='' uninstall='' delete_data='' dry_run=''

mark='# Written by install-k3s.sh, which replaces and removes the files that carry this line.'
here=$(dirname "$(readlink --canonicalize "${BASH_SOURCE[0]}")")
known_sums=${root:-$here}/sha256sums
binary=/usr/local/bin/k3s
kubectl=/usr/local/bin/kubectl
config=/etc/rancher/k3s/config.yaml
audit_config=/etc/rancher/k3s/config.yaml.d/audit.yaml
audit_policy=/etc/rancher/k3s/audit-policy.yaml
audit_log=/var/log/kubernetes/audit.log
token=/etc/rancher/k3s/agent-token
data=/var/lib/rancher/k3s
restart_due=/run/install-k3s.restart

usage() {
  cat <<TEXT
Usage: install-k3s.sh [option…]

Installs K3s $pinned as a server, as root, on Linux with systemd (amd64 or arm64), and waits until its node is Ready and
the cluster's DNS is Available. Proxies of the environment (HTTPS_PROXY, NO_PROXY, …) are passed on to K3s.
Safe to run again: it changes only what differs, and upgrades to another version.

  --version VERSION       another version than $pinned
  --mirror URL            downloads URL/VERSION/FILE, instead of from $mirror
  --server URL            joins the server at URL (https://…:6443) as one more node, an agent
  --token-file FILE       the file that holds that server's token (there: $data/server/node-token)
  --overwrite-config      replaces a $config that was changed by hand
  --open-firewall         lets pods through firewalld or ufw if one is active; without it the commands are printed
  --timeout SECONDS       how long to wait for the node, and then for the cluster's DNS ($timeout)

Without internet:
  --download-to FOLDER    downloads and verifies the files of an installation; needs no root, installs nothing
  --from-files FOLDER     installs from that folder

  --uninstall             removes K3s and its running containers, and keeps the cluster's data
  --delete-data           with --uninstall: also deletes the data, below $data and /var/lib/kubelet
  --dry-run               prints what would be done, and changes nothing
  --help                  prints this
TEXT
}

fail() {
  printf '%s\n' "$@" >&2
  exit 1
}

misuse() {
  printf '%s\n' "$1" 'install-k3s.sh --help lists the options.' >&2
  exit 2
}

# act WHAT COMMAND…: prints the action and runs it; a dry run only prints it.
act() {
  local what=$1
  shift
  if [[ $dry_run ]]; then
    echo "Would $what."
  else
    echo "${what^}."
    "$@"
  fi
}

read_options() {
  local name
  while (($#)); do
    name=${1#--}
    case $1 in
      --version | --mirror | --from-files | --download-to | --server | --token-file | --timeout)
        [[ ${2:-} ]] || misuse "$1 needs a value."
        printf -v "${name//-/_}" %s "$2"
        shift
        ;;
      --overwrite-config | --open-firewall | --uninstall | --delete-data | --dry-run) printf -v "${name//-/_}" yes ;;
      --help) usage && exit ;;
      *) misuse "There is no option $1." ;;
    esac
    shift
  done
  [[ $version =~ ^v1\.[0-9]+\.[0-9]+(-rc[0-9]+)?\+k3s[0-9]+$ ]] || misuse "$version is no version such as $pinned."
  [[ $mirror =~ ^(https://|http://(127\.0\.0\.1|localhost)[:/]) ]] || misuse "A mirror's URL begins with https://."
  [[ ! $server || $server =~ ^https://[^[:space:]]+$ ]] || misuse "A server's URL begins with https://."
  [[ ${server:+yes} == "${token_file:+yes}" ]] || misuse '--server and --token-file belong together.'
  [[ $timeout =~ ^[0-9]+$ ]] || misuse "--timeout takes a number of seconds, not $timeout."
  [[ ! $delete_data || $uninstall ]] || misuse '--delete-data belongs to --uninstall.'
  [[ ! $download_to || ! $from_files$server$uninstall ]] || misuse '--download-to installs and removes nothing.'
}

choose_names() {
  local suffix=''
  case $(uname -s)/$(uname -m) in
    Linux/x86_64) arch=amd64 ;;
    Linux/aarch64 | Linux/arm64) arch=arm64 suffix=-arm64 ;;
    *) fail "K3s is installed here on Linux for amd64 or arm64; this is $(uname -s) on $(uname -m)." ;;
  esac
  release_binary=k3s$suffix
  release_sums=sha256sum-$arch.txt
  release_images=k3s-airgap-images-$arch.tar.zst
  images=$data/agent/images/$release_images
  unit=k3s other_unit=k3s-agent
  if [[ $server ]]; then unit=k3s-agent other_unit=k3s; fi
}

# shellcheck source=ops/k3s/distribution.sh
source "$here/distribution.sh"
# shellcheck source=ops/k3s/host.sh
source "$here/host.sh"
# shellcheck source=ops/k3s/firewall.sh
source "$here/firewall.sh"
# shellcheck source=ops/k3s/checks.sh
source "$here/checks.sh"
# shellcheck source=ops/k3s/release.sh
source "$here/release.sh"
# shellcheck source=ops/k3s/install.sh
source "$here/install.sh"
# shellcheck source=ops/k3s/remove.sh
source "$here/remove.sh"

main() {
  read_options "$@"
  choose_names
  if [[ $uninstall ]]; then
    uninstall_k3s
  elif [[ $download_to ]]; then
    act "download $version to $download_to" download_all
  else
    install_k3s
  fi
}

main "$@"
