# Finds Python 3.11 or later. Sourced by the scripts that start Python, and by the Makefile.
# shellcheck shell=bash

# shellcheck source=ops/k3s/distribution.sh
source "$(dirname "${BASH_SOURCE[0]}")/../ops/k3s/distribution.sh"

# The package of Python 3.11 or later. Where it is not python3, its program is not python3 either.
python_package() {
  case $(package_manager)-$(os_release ID)-$(os_release VERSION_ID) in
    apt-ubuntu-22.04 | dnf-*-[89] | dnf-*-[89].*) echo python3.11 ;;
    zypper-*-15*) echo python311 ;;
    *) echo python3 ;;
  esac
}

# find_python: sets $python, or prints how to install one and fails.
find_python() {
  local install=''
  for python in python3 python3.14 python3.13 python3.12 python3.11; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then return; fi
  done
  case $(package_manager) in
    apt) install='sudo apt-get install' ;;
    dnf) install='sudo dnf install' ;;
    zypper) install='sudo zypper install' ;;
  esac
  echo "Python 3.11 or later is needed as python3, or as python3.11 to python3.14." \
    "Install it${install:+: $install $(python_package)}." >&2
  return 1
}

# run_module CODE NAME ARGUMENT…: runs a module of this checkout in place of this process; exits with CODE without Python.
run_module() {
  local root
  root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
  # sudo may leave out the folder of K3s.
  export PATH="$PATH:/usr/local/bin" PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
  find_python || exit "$1"
  # -P, and no change of folder: file arguments are relative to the caller's folder, and no modules are imported from it.
  exec "$python" -P -m "${@:2}"
}
