#!/usr/bin/env bash
# Deploys this checkout, or updates the deployment; `scripts/apply-all.sh --help` lists the options.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# sudo may leave out the folder of K3s.
export PATH="$PATH:/usr/local/bin"

# shellcheck source=scripts/python.sh
source "$root/scripts/python.sh"
find_python || exit 1
# -P, and no change of folder: file arguments are relative to the caller's folder, and no modules are imported from it.
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
exec "$python" -P -m ops.deploy "$@"
