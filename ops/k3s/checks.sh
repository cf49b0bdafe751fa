# Checks of the machine before anything is changed. Each failure says what to do.
# shellcheck shell=bash disable=SC2154  # set by install-k3s.sh, which sources this file

unit_file() { echo "/etc/systemd/system/$1.service"; }

# recorded version|sha256: a value of the installed binary, kept in a comment of the unit.
recorded() { sed -n "s/^# $1 //p" "$root$(unit_file "$unit")" 2>/dev/null || true; }

sha256_of() {
  local sum=''
  if [[ -f $1 ]]; then sum=$(sha256sum "$1"); fi
  echo "${sum%% *}"
}

check_system() {
  local name
  [[ $dry_run || $(id -u) == 0 ]] || fail 'Only root may do this: run it again with sudo.'
  if [[ ! -d $root/run/systemd/system ]] && grep -qsi microsoft "$root/proc/sys/kernel/osrelease"; then
    fail 'WSL was not started with systemd, which has to run K3s here: write these lines into /etc/wsl.conf,' \
      "run 'wsl --shutdown' in Windows, and open it again." '[boot]' 'systemd=true'
  fi
  if [[ ! -d $root/run/systemd/system ]] || ! command -v systemctl >/dev/null; then
    fail 'This machine was not started by systemd, which has to run K3s here.'
  fi
  for name in k3s k3s-agent; do
    [[ ! -e $root$(unit_file $name) ]] || is_ours "$(unit_file $name)" ||
      fail "Something else installed K3s here, with $(unit_file $name): it is left as it is." \
        'What the installer of K3s made, k3s-uninstall.sh or k3s-agent-uninstall.sh removes.'
  done
}

# is_ours PATH: whether this script wrote the file.
is_ours() { grep -qsxF "$mark" "$root$1"; }

is_enforcing() { grep -qsx 1 "$root/sys/fs/selinux/enforce"; }

# is_taken PORT tcp|udp: whether a socket has the port. In /proc/net a local address ends with it, in hexadecimal; 0A is the
# state of a TCP listener, and 07 that of an unconnected UDP socket.
is_taken() {
  local state=0A
  if [[ $2 == udp ]]; then state=07; fi
  grep -qsE "^ *[0-9]+: [0-9A-F]+:$(printf %04X "$1") [0-9A-F:]+ $state " "$root/proc/net/$2"{,6}
}

# The ports in K3s' requirements; an agent does not need those of the server.
check_ports() {
  local port taken=() ports=(6444 10010 10248 10249 10250 10256)
  [[ $server ]] || ports+=(6443 10257 10258 10259)
  for port in "${ports[@]}"; do
    if is_taken "$port" tcp; then taken+=("$port"); fi
  done
  ! is_taken 8472 udp || fail 'The network between nodes needs UDP port 8472, which something else has taken, for example' \
    "another VXLAN; 'ss -lunp sport = :8472' shows what."
  if ((${#taken[@]} == 0)); then return; fi
  fail "K3s needs TCP port ${taken[*]}, which something else has taken; these show what:" \
    "$(printf "ss -ltnp 'sport = :%s'\n" "${taken[@]}")"
}

# Without a default route K3s finds no address for its node, and Services do not work: it restarts repeatedly.
check_route() {
  if awk '$2 == "00000000" && $8 == "00000000" {found = 1} END {exit !found}' "$root/proc/net/route" 2>/dev/null; then return; fi
  fail 'There is no default route, which K3s needs even if it goes nowhere. These commands, as root, add one:' "$(route_commands)"
}

# Addresses reserved for documentation, as K3s' documentation has them: no machine uses them.
route_commands() {
  if systemctl is-active --quiet NetworkManager; then
    echo 'nmcli connection add type dummy ifname dummy0 ipv4.method manual ipv4.addresses 203.0.113.254/31' \
      'ipv4.gateway 203.0.113.255 ipv4.route-metric 1000 ipv6.method disabled'
    return
  fi
  cat <<TEXT
ip link add dummy0 type dummy
ip link set dummy0 up
ip addr add 203.0.113.254/31 dev dummy0
ip route add default via 203.0.113.255 dev dummy0 metric 1000
They last until this machine is restarted: put the same into the configuration of its network.
TEXT
}

# Kernels for small machines and clouds, and RHEL 10, have some modules in a separate package.
check_modules() {
  local module missing=() install='install the package that has them'
  if ! command -v modprobe >/dev/null || [[ ! -e $root/lib/modules/$(uname -r)/modules.dep ]]; then return; fi
  for module in overlay br_netfilter vxlan ip_set xt_set; do
    modprobe --dry-run --quiet "$module" || missing+=("$module")
  done
  if ((${#missing[@]} == 0)); then return; fi
  case $(package_manager) in
    apt) install="apt-get install linux-modules-extra-$(uname -r)" ;;
    dnf) install="dnf install kernel-modules-extra-$(uname -r)" ;;
    zypper) install='zypper install kernel-default' ;;
  esac
  fail "Linux lacks modules that K3s needs (${missing[*]}): $install"
}

# The folder of Rancher's repository for this distribution, chosen as K3s' own installer does.
selinux_folder() {
  local version
  version=$(os_release VERSION_ID)
  version=${version%%.*}
  case $(package_manager)-$(os_release ID)-$version in
    zypper-sle-micro-* | zypper-sl-micro-*) echo slemicro ;;
    zypper-*) echo microos ;;
    dnf-*-9 | dnf-*-10) echo "centos/$version" ;;
    *) echo centos/8 ;;
  esac
}

# Commands that install k3s-selinux, which no distribution has.
selinux_commands() {
  local repositories=/etc/yum.repos.d install='dnf install --assumeyes'
  case $(package_manager) in
    zypper) repositories=/etc/zypp/repos.d install='zypper install' ;;
    apt)
      echo 'There is no such package for this distribution: let SELinux be permissive (setenforce 0, /etc/selinux/config).'
      return
      ;;
  esac
  cat <<TEXT
tee $repositories/rancher-k3s-common.repo <<'REPO'
[rancher-k3s-common-stable]
name=Rancher K3s Common (stable)
baseurl=https://rpm.rancher.io/k3s/stable/common/$(selinux_folder)/noarch
enabled=1
gpgcheck=1
repo_gpgcheck=0
gpgkey=https://rpm.rancher.io/public.key
REPO
$install container-selinux k3s-selinux
TEXT
}

check_selinux() {
  if ! is_enforcing || [[ -e $root/usr/share/selinux/packages/k3s.pp ]]; then return; fi
  fail 'SELinux is enforcing, and its policy for K3s, the package k3s-selinux, is missing. These commands, as root, install it:' \
    "$(selinux_commands)" \
    'Without internet: get both packages on a machine of the same release that has it, with' \
    "'dnf download --resolve container-selinux k3s-selinux', and install the files here."
}

check_machine() {
  local controllers=$root/sys/fs/cgroup/cgroup.controllers
  [[ -e $controllers ]] ||
    fail 'Kubernetes needs cgroup v2: start Linux with systemd.unified_cgroup_hierarchy=1 on its command line.'
  grep -qw memory "$controllers" || fail 'Linux runs without the cgroup controller for memory:' \
    'start it with cgroup_enable=memory cgroup_memory=1 on its command line (Raspberry Pi: cmdline.txt).'
  check_selinux
  check_modules
  check_route
  check_firewall
  if [[ ! -e $root$(unit_file "$unit") ]]; then check_ports; fi
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
