#!/usr/bin/env bash
# Diagnoses a running deployment; `scripts/doctor.sh --help` lists the options.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# sudo may leave out the folder of K3s.
export PATH="$PATH:/usr/local/bin"

# shellcheck source=scripts/python.sh
source "$root/scripts/python.sh"
find_python || exit 2
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
exec "$python" -P -m ops.doctor "$@"
