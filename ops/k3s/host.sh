# Settings of the machine for K3s: kernel limits, time to end pods at shutdown, proxy, SELinux, journal.
# shellcheck shell=bash disable=SC2154  # set by install-k3s.sh, which sources this file

limits=/etc/sysctl.d/90-k3s.conf
logind=/etc/systemd/logind.conf.d/zz-k3s.conf
kubelet=$data/agent/etc/kubelet.conf.d/50-shutdown.conf
selinux=/etc/rancher/k3s/config.yaml.d/50-selinux.yaml

environment_file() { echo "$(unit_file "$1").env"; }

# --- inotify: each container's shim, the kubelet and log readers use an instance; Linux allows root 128.

limit() { cat "$root/proc/sys/fs/inotify/$1" 2>/dev/null || echo 0; }

larger() { echo $(($1 > $2 ? $1 : $2)); }

raise_limits() {
  local instances watches
  instances=$(larger 8192 "$(limit max_user_instances)")
  watches=$(larger 524288 "$(limit max_user_watches)")
  if [[ $instances == $(limit max_user_instances) && $watches == $(limit max_user_watches) ]]; then return; fi
  write "$limits" 644 "$mark
fs.inotify.max_user_instances = $instances
fs.inotify.max_user_watches = $watches"
  act "allow $instances instances of inotify and $watches watches" apply_limits "$instances" "$watches"
}

apply_limits() {
  { echo "$1" >"$root/proc/sys/fs/inotify/max_user_instances" &&
    echo "$2" >"$root/proc/sys/fs/inotify/max_user_watches"; } 2>/dev/null ||
    echo "The limits of inotify cannot be raised in this container: raise them on its host."
}

# --- shutdown: without this pods are not terminated, and databases are killed with the machine.

# 120 s, the longest grace period of this project's pods, and 30 s for those of the system.
let_pods_end() {
  write "$kubelet" 644 "$mark
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
shutdownGracePeriod: 150s
shutdownGracePeriodCriticalPods: 30s"
  if [[ $(cat "$root$logind" 2>/dev/null) == "$(logind_text)" ]]; then return; fi
  write "$logind" 644 "$(logind_text)"
  if systemctl is-active --quiet systemd-logind; then
    act "have systemd-logind read it" systemctl kill --signal=HUP systemd-logind
  fi
}

# Its name sorts after the file of unattended-upgrades, which sets 30 s: the last file takes precedence.
logind_text() {
  cat <<TEXT
$mark
[Login]
InhibitDelayMaxSec=150
TEXT
}

# --- proxy: K3s reads it from its service's environment; sudo keeps the caller's with --preserve-env.

server_host() {
  local host=${server#https://}
  case $host in
    \[*) host=${host#?} && echo "${host%%]*}" ;;
    *) echo "${host%%[:/]*}" ;;
  esac
}

# K3s adds pods and services to NO_PROXY, but not the server that an agent joins.
no_proxy_of() {
  local list=$1 place
  for place in 127.0.0.0/8 localhost "$pod_range" "$service_range" .svc .cluster.local "$(server_host)"; do
    [[ ! $place || ,$list, == *",$place,"* ]] || list+=${list:+,}$place
  done
  echo "$list"
}

# Names in capitals, which Go prefers; values quoted for systemd.
proxy_text() {
  local name lower value prefix
  for prefix in '' CONTAINERD_; do
    if ! has_proxy "$prefix"; then continue; fi
    for name in HTTP_PROXY HTTPS_PROXY NO_PROXY; do
      lower=$prefix${name,,} name=$prefix$name
      value=${!name:-${!lower:-}}
      if [[ $name == *NO_PROXY ]]; then value=$(no_proxy_of "$value"); fi
      if [[ ! $value ]]; then continue; fi
      [[ $value != *[[:cntrl:]]* ]] || fail "$name has a line break or another control character."
      # shellcheck disable=SC2001  # each character is kept, with a backslash before it
      printf '%s="%s"\n' "$name" "$(sed 's/[\\"$`]/\\&/g' <<<"$value")"
    done
  done
}

# has_proxy PREFIX: whether the caller's environment sets one.
has_proxy() {
  local name
  for name in "$1"{HTTP,HTTPS}_PROXY "$1"{http,https}_proxy; do
    if [[ ${!name:-} ]]; then return; fi
  done
  return 1
}

check_proxy() { proxy_settings=$(proxy_text) || exit 1; }

# Without a proxy the file of an earlier run stays: sudo easily drops the variables.
pass_proxy() {
  [[ ! $proxy_settings ]] || write "$(environment_file "$unit")" 600 "$mark
$proxy_settings"
}

# --- SELinux: K3s confines containers only with this setting.

confine_containers() {
  if is_enforcing; then
    write "$selinux" 600 "$mark
selinux: true"
  fi
}

# --- journal: Fluent Bit mounts /var/log/journal, which systemd uses only after a flush or restart.

keep_journal() {
  local id
  id=$(cat "$root/etc/machine-id" 2>/dev/null) || return 0
  if [[ -d $root/var/log/journal/$id ]] || ! command -v journalctl >/dev/null; then return; fi
  act "keep the journal on disk, in /var/log/journal" flush_journal
  if [[ ! $dry_run && ! -d $root/var/log/journal/$id ]]; then
    echo "systemd keeps the journal in memory (Storage= in journald.conf): the node's own log will not be in Loki."
  fi
}

flush_journal() {
  mkdir --parents "$root/var/log/journal"
  if command -v systemd-tmpfiles >/dev/null; then systemd-tmpfiles --create --prefix /var/log/journal; fi
  journalctl --flush || true
}

prepare_host() {
  raise_limits
  keep_journal
  let_pods_end
  confine_containers
  pass_proxy
}

remove_host_files() {
  local file
  for file in "$limits" "$logind" "$kubelet" "$selinux" "$(environment_file k3s)" "$(environment_file k3s-agent)"; do
    if is_ours "$file"; then rm "$root$file"; fi
  done
}
