# Removes K3s and the processes that it leaves running, and nothing else.
# shellcheck shell=bash disable=SC2154  # set by install-k3s.sh, which sources this file

# The containers' shims outlive K3s. They are identified by command line and executable.
shims() {
  local process name
  for process in "$root"/proc/[0-9]*; do
    { IFS= read -r -d '' name <"$process/cmdline"; } 2>/dev/null || continue
    [[ $name == "$root$data"/data/*/bin/containerd-shim* ]] || continue
    [[ $(readlink "$process/exe") == "$root$data"/data/* ]] && echo "${process##*/}"
  done
}

# Reads /proc: minimal systems have no ps, and BusyBox's does not list children.
children() {
  local process name parent
  for process in "$root"/proc/[0-9]*; do
    while IFS=$' \t' read -r name parent _; do
      [[ $name == PPid: ]] || continue
      if [[ $parent == "$1" ]]; then echo "${process##*/}"; fi
      break
    done 2>/dev/null <"$process/status" || continue
  done
}

with_descendants() {
  local process
  for process in "$@"; do
    echo "$process"
    # shellcheck disable=SC2046  # a list of numbers
    with_descendants $(children "$process")
  done
}

end_containers() {
  local processes _
  for _ in {1..50}; do
    mapfile -t processes < <(shims)
    if ((${#processes[@]} == 0)); then return; fi
    mapfile -t processes < <(with_descendants "${processes[@]}")
    kill -KILL "${processes[@]}" 2>/dev/null || true
    sleep 0.2
  done
  fail "Containers do not end (processes ${processes[*]}): restart this machine, then run --uninstall again."
}

# mounts PREFIX…: the mount points that begin so, the deepest first.
mounts() {
  local path prefix
  while read -r _ path _; do
    printf -v path %b "$path"
    for prefix in "$@"; do
      if [[ $path == "$prefix"* ]]; then echo "$path"; fi
    done
  done <"$root/proc/self/mounts" | sort --reverse
}

# Only mounts of kubelet and containerd: a disk mounted for K3s' data is kept.
unmount_all() {
  local path
  while IFS= read -r path; do
    umount "$root$path" || true
  done < <(mounts /run/k3s/ /var/lib/kubelet/pods/ /var/lib/kubelet/plugins/ "$data/agent/containerd/")
}

remove_interfaces() {
  local interface
  for interface in "$root"/sys/class/net/cni0/brif/* "$root"/sys/class/net/{cni0,flannel.1}; do
    if [[ -e $interface ]]; then ip link delete "${interface##*/}" || true; fi
  done
}

# delete FOLDER…: deletes nothing while a volume is mounted there, which would lose its content.
delete() {
  local mounted folder
  mounted=$(mounts "$@")
  [[ ! $mounted ]] || fail "Nothing is deleted in $*, because these are mounted there:" "$mounted" \
    'Unmount them, or restart this machine, and run this again.'
  for folder in "$@"; do rm --recursive --force --one-file-system "${root:?}$folder"; done
}

remove_files() {
  if [[ $(readlink "$root$kubectl") == k3s ]]; then rm "$root$kubectl"; fi
  rm --force "$root$binary" "$root$token" "$root/etc/rancher/k3s/k3s.yaml" "$root$audit_policy" "$root$audit_config"
  if is_edited; then echo "$config was changed by hand, and is kept."; else rm --force "$root$config"; fi
  remove_host_files
  rm --force "$root$(unit_file k3s)" "$root$(unit_file k3s-agent)"
  rmdir --ignore-fail-on-non-empty "$root/etc/rancher/k3s"{/config.yaml.d,} 2>/dev/null || true
  systemctl daemon-reload
}

uninstall_k3s() {
  local name found='' rules
  check_system
  for name in k3s k3s-agent; do
    if [[ ! -e $root$(unit_file $name) ]]; then continue; fi
    found=yes
    act "stop $name" systemctl disable --quiet --now $name
  done
  if [[ $found ]]; then
    act "end its containers" end_containers
    act "unmount their volumes" unmount_all
    act "remove its network interfaces" remove_interfaces
    act "delete /run/k3s and /run/flannel" delete /run/k3s /run/flannel
    act "remove $binary, its configuration and its service" remove_files
  fi
  if [[ $delete_data ]]; then act "delete the cluster's data" delete "$data" /var/lib/kubelet /var/lib/cni "${audit_log%/*}"; fi
  if [[ $dry_run ]]; then
    return
  elif [[ $found ]]; then
    echo "K3s is removed. Its iptables rules and inotify limits last until this machine is restarted."
    rules=$(print_removable_rules)
    if [[ $rules ]]; then printf '%s\n' 'The firewall still lets pods in. If nothing else needs that:' "$rules"; fi
  else
    echo "K3s is not installed: there is nothing to remove."
  fi
  if [[ -d $root$data ]]; then echo "The cluster's data is kept in $data; --uninstall --delete-data deletes it."; fi
}
