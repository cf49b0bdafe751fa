#!/usr/bin/env bash
# Removes one row for a person who asks for that; `scripts/erase.sh --help` lists the options.
set -euo pipefail

exec "$(dirname "${BASH_SOURCE[0]}")/apply-all.sh" erase "$@"
