#!/usr/bin/env bash
# Diagnoses a running deployment; `scripts/doctor.sh --help` lists the options.
set -euo pipefail

# shellcheck source=scripts/python.sh
source "$(dirname "${BASH_SOURCE[0]}")/python.sh"
run_module 2 ops.doctor "$@"
