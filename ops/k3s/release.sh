# Release files of K3s: downloaded or copied from a folder, and verified.
# shellcheck shell=bash disable=SC2154  # set by install-k3s.sh, which sources this file

# download FILE FOLDER
download() {
  local url=${mirror%/}/${version/+/%2B}/$1 show=(--silent --show-error)
  if [[ -t 2 ]]; then show=(--progress-bar); fi
  command -v curl >/dev/null || fail 'curl is missing: install it, or use --from-files.'
  echo "Download $url."
  curl --fail --location "${show[@]}" --proto "=${mirror%%:*}" --proto-redir =https --retry 3 --connect-timeout 20 \
    --output "$2/$1" "$url" || fail "$url could not be downloaded." \
    'Behind a proxy, keep its variables: sudo --preserve-env=HTTPS_PROXY,NO_PROXY …' \
    'Without internet, run --download-to FOLDER on a machine that has it, and --from-files FOLDER here.'
}

# verify FOLDER FILE: whether the file matches the release's checksums, and also the known ones, since the former come from
# the same place as the file. Sets $against to the checksums that were compared last.
verify() {
  local expected found known=''
  against=$release_sums
  expected=$(awk -v name="$2" '$2 == name || $2 == "*" name {print $1}' "$1/$release_sums")
  found=$(sha256_of "$1/$2")
  [[ $expected && $found == "$expected" ]] || return 1
  if [[ -e $known_sums ]]; then
    known=$(awk -v release="$version" -v name="$2" '$1 == release && $2 == name {print $3}' "$known_sums")
  fi
  against=$known_sums
  [[ $found == "${known:-$found}" ]]
}

download_all() {
  local file
  mkdir --parents "$download_to"
  download "$release_sums" "$download_to"
  for file in "$release_binary" "$release_images"; do
    if verify "$download_to" "$file"; then continue; fi
    download "$file" "$download_to"
    verify "$download_to" "$file" || { rm "$download_to/$file" && fail "$file does not match $against: deleted."; }
  done
  mkdir --parents "$download_to/install-k3s"
  [[ $here -ef $download_to/install-k3s ]] || cp --recursive "$here/." "$download_to/install-k3s"
  echo "All is verified. Take $download_to to the other machine; there, as root and in that folder:" \
    "install-k3s/install-k3s.sh --version $version --from-files ."
  echo "Where SELinux is enforcing there (RHEL, Rocky, …), it also needs the packages container-selinux and k3s-selinux:" \
    'the installation says how to get them.'
}

# provide FILE…: verified files in the folder $stage, which only root can change.
provide() {
  local file found
  stage=$(mktemp --directory "$root/var/lib/install-k3s.XXXXXX")
  for file in "$release_sums" "$@"; do
    if [[ $from_files ]]; then
      cp "$from_files/$file" "$stage/" || fail "$from_files lacks $file; --download-to gets all that is needed."
    else
      download "$file" "$stage"
    fi
  done
  for file in "$@"; do
    verify "$stage" "$file" || fail "$file does not match $against: it is damaged, or not what K3s released." \
      'Nothing was installed.'
  done
  if [[ ! -e $stage/$release_binary ]]; then return; fi
  chmod +x "$stage/$release_binary"
  found=$("$stage/$release_binary" --version | awk 'NR == 1 {print $3}') || found='a program that does not run here'
  [[ $found == "$version" ]] || fail "$release_binary is $found, not $version; --version chooses another." \
    'Nothing was installed.'
}
