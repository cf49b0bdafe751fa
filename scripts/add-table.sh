#!/usr/bin/env bash
# Adds tables of the source to the deployment; `scripts/add-table.sh --help` lists the options.
set -euo pipefail

exec "$(dirname "${BASH_SOURCE[0]}")/apply-all.sh" add-table "$@"
