#!/usr/bin/env bash
# Brings the deployment to what this checkout says; `scripts/apply-all.sh --help` lists the options.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# sudo may leave out the folder in which K3s lies.
export PATH="$PATH:/usr/local/bin"

if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
  echo 'Python 3.11 or later is needed as python3; install it (Debian 12, Ubuntu 24.04: apt-get install python3).' >&2
  exit 1
fi
# -P, and no change of folder: files named on the command line are those of the caller's folder, modules never are.
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
exec python3 -P -m scripts.deploy "$@"
