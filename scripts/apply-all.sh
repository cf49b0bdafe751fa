#!/usr/bin/env bash
# Brings the deployment to what this checkout says; `scripts/apply-all.sh --help` lists the options.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# sudo may leave out the folder in which K3s lies.
export PATH="$PATH:/usr/local/bin"

# shellcheck source=scripts/python.sh
source "$root/scripts/python.sh"
find_python || exit 1
# -P, and no change of folder: files named on the command line are those of the caller's folder, modules never are.
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
exec "$python" -P -m ops.deploy "$@"
