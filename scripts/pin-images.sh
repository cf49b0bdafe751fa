#!/usr/bin/env bash
# Prints a kustomize component that pins every pulled image to its present digest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
  cat <<'TEXT'
Usage: scripts/pin-images.sh > FOLDER/kustomization.yaml

Asks the registries, with skopeo or else docker's buildx, for the digests of the images in k8s/components/images.
Name FOLDER, one beside your overlay, among its components after all others. Images that are built here (localhost/…)
have no digest in a registry and are left out.
TEXT
}

digest_of() {
  if command -v skopeo >/dev/null; then
    skopeo inspect --no-tags --format '{{.Digest}}' "docker://$1"
  elif command -v docker >/dev/null; then
    docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$1"
  else
    echo "Install skopeo, or docker with buildx, to read digests from a registry." >&2
    return 1
  fi
}

main() {
  if [[ ${1:-} == --help ]]; then
    usage
    return
  fi
  local image name tag digest debian
  echo "# Written by scripts/pin-images.sh: the images as their registries had them then."
  echo "apiVersion: kustomize.config.k8s.io/v1alpha1"
  echo "kind: Component"
  echo "images:"
  while read -r image; do
    name=${image%:*} tag=${image##*:}
    digest=$(digest_of "$image")
    if [[ ! $digest =~ ^sha256:[0-9a-f]{64}$ ]]; then
      echo "$name:$tag: the registry named no digest (${digest:-nothing})." >&2
      return 1
    fi
    echo "  - {name: $name, newName: $name, digest: $digest} # $tag"
  done < <(scripts/list-images.sh)
  debian=docker.io/library/debian
  echo "# The base image of the images built here, for apply-all.sh: DEBIAN_IMAGE=$debian@$(digest_of $debian:trixie-slim)"
}

main "$@"
