#!/usr/bin/env bash
# Sets up K3s on this machine, or removes it; `scripts/install-k3s.sh --help` lists the options.
set -euo pipefail

here=$(dirname "$(readlink --canonicalize "${BASH_SOURCE[0]}")")
exec bash "$here/../ops/k3s/install-k3s.sh" "$@"
