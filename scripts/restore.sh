#!/usr/bin/env bash
# Brings the databases back from a backup; `scripts/restore.sh --help` lists the options.
set -euo pipefail

exec "$(dirname "${BASH_SOURCE[0]}")/apply-all.sh" restore "$@"
