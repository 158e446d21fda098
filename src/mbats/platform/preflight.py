"""What must be true of the machine before anything is started."""

from __future__ import annotations

import shutil
from pathlib import Path

import psutil

from mbats.errors import PlatformError
from mbats.settings import Settings

GB = 1_000_000_000
CONTROL_GROUP = Path("/sys/fs/cgroup")


def require_room(settings: Settings) -> None:
    """Raises PlatformError that names each of disk and memory of which there is too little."""
    disk = shutil.disk_usage(settings.home).free / GB
    memory = available_memory() / GB
    lacking = []
    if disk < settings.min_free_disk_gb:
        lacking.append(
            f"Too little disk: {settings.home} has {disk:.1f} GB free, and the platform wants {settings.min_free_disk_gb:g} GB "
            "(free some, choose another disk with MBATS_HOME, or set MBATS_MIN_FREE_DISK_GB)."
        )
    if memory < settings.min_free_memory_gb:
        lacking.append(
            f"Too little memory: {memory:.1f} GB can be had, and the platform wants {settings.min_free_memory_gb:g} GB "
            "(end something, or set MBATS_MIN_FREE_MEMORY_GB)."
        )
    if lacking:
        raise PlatformError(" ".join([*lacking, "Nothing was started."]))


def available_memory(control_group: Path = CONTROL_GROUP) -> int:
    """Bytes that new processes can have: the machine's, or what the limit of this container leaves when that is less."""
    machine: int = psutil.virtual_memory().available
    try:
        limit = (control_group / "memory.max").read_text().strip()
        used = int((control_group / "memory.current").read_text())
        lines = (control_group / "memory.stat").read_text().splitlines()
    except FileNotFoundError:
        return machine  # no limit of this kind: the root group has none of these files
    if limit == "max":
        return machine
    cached = next((int(line.split()[1]) for line in lines if line.startswith("inactive_file ")), 0)
    return min(machine, int(limit) - used + cached)


__all__ = ["available_memory", "require_room"]
