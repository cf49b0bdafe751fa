# Removes K3s and what it leaves running, and nothing that is not K3s'.
# shellcheck shell=bash disable=SC2154  # install-k3s.sh, which reads this file, sets the variables

# The containers' shims outlive K3s. A process is one by the name it was started with and by the program it runs.
shims() {
  local process name
  for process in "$root"/proc/[0-9]*; do
    { IFS= read -r -d '' name <"$process/cmdline"; } 2>/dev/null || continue
    [[ $name == "$root$data"/data/*/bin/containerd-shim* ]] || continue
    [[ $(readlink "$process/exe") == "$root$data"/data/* ]] && echo "${process##*/}"
  done
}

# Asks /proc itself: minimal systems have no ps, and that of BusyBox cannot tell children.
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

# Only what the kubelet and containerd mounted: a disk that somebody mounted for K3s' data is left alone.
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

# delete FOLDER…: a volume that is still mounted there would lose its content, so then nothing is deleted.
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
    echo "K3s is removed. Rules of its network in iptables and limits of inotify go when this machine is restarted."
    rules=$(print_removable_rules)
    if [[ $rules ]]; then printf '%s\n' 'The firewall still lets pods in. Where nothing else needs that:' "$rules"; fi
  else
    echo "K3s is not installed: there is nothing to remove."
  fi
  if [[ -d $root$data ]]; then echo "The cluster's data is kept in $data; --uninstall --delete-data deletes it."; fi
}
