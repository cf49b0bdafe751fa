"""The README's commands on minimal systems: a root file system of nothing but what README asks for, in a chroot."""
