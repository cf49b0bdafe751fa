#!/usr/bin/env bash
# Restores the databases from backups; `scripts/restore.sh --help` lists the options.
set -euo pipefail

exec "$(dirname "${BASH_SOURCE[0]}")/apply-all.sh" restore "$@"
