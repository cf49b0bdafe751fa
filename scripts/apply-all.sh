#!/usr/bin/env bash
# Deploys this checkout, or updates the deployment; `scripts/apply-all.sh --help` lists the options.
set -euo pipefail

# shellcheck source=scripts/python.sh
source "$(dirname "${BASH_SOURCE[0]}")/python.sh"
run_module 1 ops.deploy "$@"
