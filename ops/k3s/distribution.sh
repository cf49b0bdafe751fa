# The distribution of this machine, as /etc/os-release names it.
# shellcheck shell=bash

# os_release NAME: the value of ID, VERSION_ID, …; empty if it is not set.
os_release() { sed -n "s/^$1=[\"']\{0,1\}\([^\"']*\).*/\1/p" "${K3S_ROOT:-}/etc/os-release" 2>/dev/null || true; }

# apt, dnf or zypper; empty for other distributions.
package_manager() {
  case " $(os_release ID) $(os_release ID_LIKE) " in
    *" debian "* | *" ubuntu "*) echo apt ;;
    *" rhel "* | *" fedora "* | *" centos "*) echo dnf ;;
    *suse*) echo zypper ;;
  esac
}
