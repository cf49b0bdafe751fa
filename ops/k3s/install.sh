# Installs K3s, changing only what differs, starts it, and waits until it works.
# shellcheck shell=bash disable=SC2154  # set by install-k3s.sh, which sources this file

# place FILE PATH MODE: atomically, so that no partial file is visible.
place() {
  mkdir --parents "$(dirname "$root$2")"
  install --mode "$3" "$1" "$root$2.new"
  mv --force "$root$2.new" "$root$2"
  if command -v restorecon >/dev/null; then restorecon "$root$2"; fi
}

# On disk, so that the next run does the restart if this one is interrupted before it.
note_change() {
  changed=yes
  [[ $dry_run ]] || : >"$root$restart_due"
}

# write PATH MODE TEXT: if it differs. The text is not an argument of a program, which other users could read.
write() {
  local path=$root$1
  if [[ -f $path && $(stat --format %a "$path") == "$2" && $(cat "$path" 2>/dev/null) == "$3" ]]; then return; fi
  note_change
  act "write $1" place /dev/stdin "$1" "$2" <<<"$3"
}

config_text() {
  cat <<TEXT
$mark
# Kubernetes' Secrets are encrypted at rest.
secrets-encryption: true
# The administrator's kubeconfig is for root alone.
write-kubeconfig-mode: "0600"
# Metrics tell when certificates expire.
supervisor-metrics: true
TEXT
}

# A separate file, since config.yaml may be older or edited. The + adds to existing arguments.
audit_text() {
  cat <<TEXT
$mark
# Who asked the Kubernetes API for what: 30 days of it, and at most 1.1 GB.
kube-apiserver-arg+:
  - audit-policy-file=$audit_policy
  - audit-log-path=$audit_log
  - audit-log-maxage=30
  - audit-log-maxbackup=10
  - audit-log-maxsize=100
TEXT
}

is_edited() { [[ -f $root$config && $(cat "$root$config" 2>/dev/null) != "$(config_text)" ]]; }

unit_text() {
  local command="$binary server"
  if [[ $server ]]; then command="$binary agent --server $server --token-file $token"; fi
  cat <<TEXT
$mark
# version $version
# sha256 $1
[Unit]
Description=K3s, a small Kubernetes
Documentation=https://docs.k3s.io
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
# HTTPS_PROXY and the like, from the environment of install-k3s.sh, and settings of one's own.
EnvironmentFile=-$(environment_file "$unit")
EnvironmentFile=-/etc/default/$unit
ExecStartPre=-/sbin/modprobe br_netfilter
ExecStartPre=-/sbin/modprobe overlay
ExecStart=${command//%/%%}
# Containers outlive a restart of K3s, which manages their cgroups.
KillMode=process
Delegate=yes
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
TimeoutStartSec=0
Restart=always
RestartSec=5s

[Install]
WantedBy=multi-user.target
TEXT
}

start() {
  systemctl daemon-reload
  systemctl enable --quiet "$unit"
  # Without --no-block this would wait for ever for an agent that cannot reach its server.
  systemctl restart --no-block "$unit"
  rm --force "$root$restart_due"
}

# The node's version, and whether it is Ready, by the node's own credentials, on servers and agents alike.
node_state() {
  local ask=("$root$binary" kubectl --kubeconfig "$root$data/agent/kubelet.kubeconfig" --request-timeout 5s) name
  name=$("${ask[@]}" auth whoami --output 'jsonpath={.status.userInfo.username}' 2>/dev/null) || return 0
  "${ask[@]}" get node "${name#system:node:}" --output \
    "jsonpath={.status.nodeInfo.kubeletVersion} {.status.conditions[?(@.type=='Ready')].status}" 2>/dev/null || true
}

is_running() { [[ $(systemctl is-active "$unit") =~ ^(active|activating|reloading)$ ]]; }

# Whether an earlier run replaced the binary but did not restart K3s.
is_outdated() {
  local state
  state=$(node_state)
  [[ $state && $state != "$version "* ]]
}

dns_state() {
  "$root$binary" kubectl --kubeconfig "$root$data/server/cred/admin.kubeconfig" --request-timeout 5s \
    --namespace kube-system get deployment coredns --output \
    "jsonpath={.status.conditions[?(@.type=='Available')].status}" 2>/dev/null || true
}

# wait_for WHAT STATE WANTED COMMAND WHERE: until COMMAND prints WANTED.
wait_for() {
  local what=$1 state=$2 wanted=$3 command=$4 end=$((SECONDS + timeout)) say_at=$SECONDS found
  while found=$("$command") && [[ $found != "$wanted" ]]; do
    if ((SECONDS >= say_at)); then
      echo "Wait for $what to be $state, up to $((end - SECONDS)) s (it says: ${found:-nothing yet})."
      say_at=$((SECONDS + 15))
    fi
    ((SECONDS < end)) || fail "${what^} is not ${state##* } after $timeout seconds (it says: ${found:-nothing})." "$5" \
      'Then run this again, with a longer --timeout where it is slow.'
    sleep 1
  done
}

# A node is Ready even if no pod reaches the API server; CoreDNS is Available only then.
wait_until_ready() {
  wait_for 'the node' "$version and Ready" "$version True" node_state \
    "'journalctl --unit $unit --lines 50' shows why."
  if [[ $server ]] || grep -qsw coredns "$root$config" "$root$config".d/*.yaml; then return; fi
  wait_for "the cluster's DNS (CoreDNS)" Available True dns_state \
    "Its image cannot be pulled, or a firewall keeps pods from the API server; these show which:
$binary kubectl --namespace kube-system describe pods --selector k8s-app=kube-dns
$binary kubectl --namespace kube-system logs deployment/coredns"
}

# Certificates are valid for a year. K3s renews those with less than 90 days left, but only at its start.
is_expiring() {
  local certificate
  if ! command -v openssl >/dev/null; then return 1; fi
  for certificate in "$root$data"/{server/tls/serving-kube-apiserver,agent/serving-kubelet}.crt; do
    [[ ! -e $certificate ]] || openssl x509 -checkend $((90 * 86400)) -noout -in "$certificate" >/dev/null || return 0
  done
  return 1
}

# An existing file is kept, even if it is not in sudo's PATH.
link_kubectl() {
  if [[ -e $root$kubectl || -L $root$kubectl ]] || command -v kubectl >/dev/null; then return; fi
  act "link $kubectl to k3s" ln --symbolic k3s "$root$kubectl"
}

install_k3s() {
  local new_binary='' new_images='' sum
  changed='' stage=''
  check_system
  check_change
  check_machine
  check_proxy
  if [[ -e $root$restart_due ]]; then changed=yes; fi
  [[ $dry_run ]] || rm --recursive --force "$root"/var/lib/install-k3s.*
  sum=$(recorded sha256)
  if [[ $(recorded version) != "$version" || $(sha256_of "$root$binary") != "$sum" ]]; then
    new_binary=$release_binary
  fi
  if [[ $from_files ]] && ! grep -qs "^$(sha256_of "$root$images") " "$from_files/$release_sums"; then
    new_images=$release_images
  fi
  if [[ $new_binary$new_images ]]; then
    trap 'rm -rf "$stage"' EXIT
    # shellcheck disable=SC2086  # one of them may be empty
    act "get ${new_binary:-$new_images} and its checksum" provide $new_binary $new_images
    note_change
  fi
  apply_firewall_rules
  prepare_host
  if [[ $server ]]; then
    write "$token" 600 "$token_text"
  else
    if is_edited && [[ ! $overwrite_config ]]; then
      echo "$config differs from what this script writes, and is kept; --overwrite-config replaces it."
    else
      write "$config" 600 "$(config_text)"
    fi
    write "$audit_policy" 600 "$mark"$'\n'"$(<"$here/audit-policy.yaml")"
    write "$audit_config" 600 "$(audit_text)"
  fi
  if [[ $new_binary && $stage ]]; then sum=$(sha256_of "$stage/$release_binary"); fi
  write "$(unit_file "$unit")" 644 "$(unit_text "$sum")"
  if [[ $new_images ]]; then act "write $images" place "$stage/$release_images" "$images" 600; fi
  if [[ $new_binary ]]; then act "install $version as $binary" place "$stage/$release_binary" "$binary" 755; fi
  link_kubectl
  if [[ ! $changed ]] && is_running && ! is_outdated && ! is_expiring; then
    [[ $dry_run ]] || wait_until_ready
    echo "K3s $version runs: there is nothing to do."
    return
  fi
  act "start $unit" start
  if [[ $dry_run ]]; then return; fi
  wait_until_ready
  echo "K3s $version is ready. 'journalctl --unit $unit' shows its log."
  if [[ ! $server ]]; then echo "'sudo $binary kubectl get nodes' shows the cluster."; fi
}
