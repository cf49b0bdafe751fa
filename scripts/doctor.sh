#!/usr/bin/env bash
# Says what is wrong with a running deployment, and what to do; `scripts/doctor.sh --help` lists the options.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# sudo may leave out the folder in which K3s lies.
export PATH="$PATH:/usr/local/bin"

if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
  echo 'Python 3.11 or later is needed as python3; install it (Debian 12, Ubuntu 24.04: apt-get install python3).' >&2
  exit 2
fi
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
exec python3 -P -m scripts.doctor "$@"
