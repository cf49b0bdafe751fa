# Rules for firewalld and ufw, which by default drop packets of pods to this machine, also to the API server's port: the
# node becomes Ready, and no pod reaches the API or the cluster's DNS.
# shellcheck shell=bash disable=SC2154  # set by install-k3s.sh, which sources this file

# The active firewalls. The service of ufw is also active while ufw is off, so its configuration counts.
active_firewalls() {
  if command -v firewall-cmd >/dev/null && systemctl is-active --quiet firewalld; then echo firewalld; fi
  if command -v ufw >/dev/null && grep -qsx 'ENABLED=yes' "$root/etc/ufw/ufw.conf"; then echo ufw; fi
}

# The networks to allow: pods, Services, and for an agent its server, whose packets for pods arrive at UDP port 8472.
trusted_sources() {
  local host
  printf '%s\n' "$pod_range" "$service_range"
  host=$(server_host)
  if [[ $host =~ ^[0-9.]+$ ]]; then echo "$host"; fi
}

# lets_in FIREWALL SOURCE: whether it is allowed, now and after a restart.
lets_in() {
  case $1 in
    firewalld)
      firewall-cmd --quiet --permanent --zone=trusted --query-source="$2" &&
        firewall-cmd --quiet --zone=trusted --query-source="$2"
      ;;
    ufw) grep -qE "^ufw allow (in )?from ${2//./\\.}( |$)" <<<"$(ufw show added)" ;;
  esac
}

# firewall_commands FIREWALL SOURCE [remove]: one a line. Not firewalld's --reload, which drops other runtime rules.
firewall_commands() {
  case $1 in
    firewalld) printf "firewall-cmd %s--zone=trusted --${3:-add}-source=$2\n" '--permanent ' '' ;;
    ufw) echo "ufw ${3:+delete }allow from $2" ;;
  esac
}

# The commands for missing rules, one a line.
missing_rules() {
  local firewall source
  for firewall in $(active_firewalls); do
    for source in $(trusted_sources); do
      lets_in "$firewall" "$source" || firewall_commands "$firewall" "$source"
    done
  done
}

# Only root may query firewalls; a dry run without root skips this.
check_firewall() {
  local firewalls
  firewall_rules=''
  if [[ $(id -u) != 0 ]]; then return; fi
  firewalls=$(active_firewalls)
  firewall_rules=$(missing_rules)
  if [[ ! $firewall_rules || $open_firewall ]]; then return; fi
  fail "${firewalls//$'\n'/ and } would keep pods from the API server and from DNS." \
    'Run these commands as root, or run this again with --open-firewall, which does:' "$firewall_rules"
}

run_rules() {
  local command
  while read -ra command; do
    "${command[@]}" >/dev/null || fail "'${command[*]}' failed: put it right, then run this again."
  done <<<"$firewall_rules"
}

apply_firewall_rules() { [[ ! $firewall_rules ]] || act "let pods through the firewall" run_rules; }

# Only prints the commands: the rules may not be this script's.
print_removable_rules() {
  local firewall source
  for firewall in $(active_firewalls); do
    for source in "$pod_range" "$service_range"; do
      if lets_in "$firewall" "$source"; then firewall_commands "$firewall" "$source" remove; fi
    done
  done
}
