#!/usr/bin/env bash
# Prints the images that are pulled, each with its tag: those of k8s/components/images.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [[ ${1:-} == --help ]]; then
  echo "Usage: scripts/list-images.sh    prints the images that are pulled, one a line"
  exit
fi
sed -nE 's/^ +- \{name: [^,]+, newName: ([^,]+), newTag: ([^}]+)\}.*/\1:\2/p' k8s/components/images/kustomization.yaml |
  grep --invert-match '^localhost/'
