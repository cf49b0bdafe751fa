# What a machine needs, said in words where it is missing.
# shellcheck shell=bash disable=SC2154  # install-k3s.sh, which reads this file, sets the variables

unit_file() { echo "/etc/systemd/system/$1.service"; }

# recorded version|sha256: what the unit says of the binary that was verified and installed with it.
recorded() { sed -n "s/^# $1 //p" "$root$(unit_file "$unit")" 2>/dev/null || true; }

sha256_of() {
  local sum=''
  if [[ -f $1 ]]; then sum=$(sha256sum "$1"); fi
  echo "${sum%% *}"
}

check_system() {
  local name
  [[ $dry_run || $(id -u) == 0 ]] || fail 'Only root may do this: run it again with sudo.'
  if [[ ! -d $root/run/systemd/system ]] || ! command -v systemctl >/dev/null; then
    fail 'This machine was not started by systemd, which has to run K3s here.'
  fi
  for name in k3s k3s-agent; do
    [[ ! -e $root$(unit_file $name) ]] || grep -qxF "$mark" "$root$(unit_file $name)" ||
      fail "Something else installed K3s here, with $(unit_file $name): it is left as it is." \
        'What the installer of K3s made, k3s-uninstall.sh or k3s-agent-uninstall.sh removes.'
  done
}

# In /proc/net/tcp a local address ends with the port, in hexadecimal, and 0A means that it listens.
is_taken() { grep -qsE "^ *[0-9]+: [0-9A-F]+:$(printf %04X "$1") [0-9A-F:]+ 0A " "$root"/proc/net/tcp{,6}; }

check_machine() {
  local controllers=$root/sys/fs/cgroup/cgroup.controllers port
  [[ -e $controllers ]] ||
    fail 'Kubernetes needs cgroup v2: start Linux with systemd.unified_cgroup_hierarchy=1 on its command line.'
  grep -qw memory "$controllers" || fail 'Linux runs without the cgroup controller for memory:' \
    'start it with cgroup_enable=memory cgroup_memory=1 on its command line (Raspberry Pi: cmdline.txt).'
  if grep -qsx 1 "$root/sys/fs/selinux/enforce" && [[ ! -e $root/usr/share/selinux/packages/k3s.pp ]]; then
    fail 'SELinux is enforcing, and its policy for K3s is missing: install the package k3s-selinux first.'
  fi
  if [[ -e $root$(unit_file "$unit") ]]; then return; fi
  for port in 6443 10250; do
    ! is_taken "$port" || fail "Port $port, which K3s needs, is taken; 'ss -ltnp sport = :$port' shows by what."
  done
}

minor() { cut --delimiter=. --fields=2 <<<"$1"; }

check_change() {
  local installed
  installed=$(recorded version)
  [[ ! -e $root$(unit_file "$other_unit") ]] ||
    fail "This machine runs $other_unit already, and is a server or an agent, not both: --uninstall first."
  [[ ! $installed || $(printf '%s\n' "$version" "$installed" | sort --version-sort | tail -n 1) == "$version" ]] ||
    fail "$installed is installed, and K3s cannot go back to $version."
  [[ ! $installed || $(minor "$version") -le $(($(minor "$installed") + 1)) ]] ||
    fail "$installed is installed; K3s must not skip v1.$(($(minor "$installed") + 1)) on its way to $version."
  if [[ ! $server ]]; then return; fi
  token_text=$(cat "$token_file") || fail "The server's token could not be read from $token_file."
  [[ $token_text ]] || fail "$token_file is empty, and should hold the server's token."
}
