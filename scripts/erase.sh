#!/usr/bin/env bash
# Removes one row from sink and staging; `scripts/erase.sh --help` lists the options.
set -euo pipefail

exec "$(dirname "${BASH_SOURCE[0]}")/apply-all.sh" erase "$@"
