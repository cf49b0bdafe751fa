"""The README's commands on minimal systems: a chroot with only the README's prerequisites."""
