"""Capabilities of the file system below a folder."""

import subprocess
from pathlib import Path


def can_overlay(folder: Path) -> bool:
    """Whether overlayfs works there: not if the folder is itself in an overlay."""
    command = ["stat", "--file-system", "--format=%T", str(folder)]
    kind = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    return kind in {"btrfs", "ext2/ext3", "tmpfs", "xfs"}
