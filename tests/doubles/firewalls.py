"""Doubles of firewalld and ufw on a bare machine: they keep rules in files, and answer as the real ones do."""

from tests.doubles.bare_machine import BareMachine

FIREWALL_CMD = """when=now
for option; do
  case $option in
    --permanent) when=always ;;
    --*-source=*) source=${option#*=} action=${option%%-source=*} ;;
  esac
done
rules=$K3S_ROOT/etc/firewalld.$when
touch "$rules"
case $action in
  --query) grep -qxF "$source" "$rules" ;;
  --add) grep -qxF "$source" "$rules" || echo "$source" >>"$rules" ;;
  --remove) grep -vxF "$source" "$rules" >"$rules.new"; mv "$rules.new" "$rules" ;;
esac"""
UFW = """rules=$K3S_ROOT/etc/ufw/rules
touch "$rules"
case $* in
  "show added") cat "$rules" ;;
  delete*) shift; grep -vxF "ufw $*" "$rules" >"$rules.new"; mv "$rules.new" "$rules" ;;
  *) echo "ufw $*" >>"$rules"; echo "Rule added" ;;
esac"""


def turn_on(machine: BareMachine, firewall: str) -> None:
    """Install the firewall, with a policy to reject all that no rule allows."""
    if firewall == "firewalld":
        machine.double("firewall-cmd", FIREWALL_CMD)
        machine.write("etc/firewalld.always", "")
        machine.write("etc/firewalld.now", "")
        machine.run_service("firewalld")
    else:
        machine.double("ufw", UFW)
        machine.write("etc/ufw/rules", "ufw allow from 10.1.42.0\nufw allow 22/tcp\n")
        machine.write("etc/ufw/ufw.conf", "# on at boot\nENABLED=yes\nLOGLEVEL=low\n")
        machine.run_service("ufw")
