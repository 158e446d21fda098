"""The folder in which an exchange keeps its log, snapshots of it to go back to, and forks for other processes to go on from."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from mbats.errors import UsageError
from mbats.simulator.log import Log, MemoryLog, SqliteLog

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
LOG = "log.sqlite"


class LogFolder:
    """One exchange's folder, or, without a path, an exchange that keeps nothing: then there is nothing to go back to either."""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def open(self) -> Log:
        """The log, made when there is none. Raises ConfigError when the file is not one, or in use."""
        return SqliteLog(self.path / LOG) if self.path else MemoryLog()

    def clear(self) -> None:
        """Delete the log, which must be closed. Snapshots and forks stay."""
        if self.path:
            for end in ("", "-wal", "-shm"):
                (self.path / f"{LOG}{end}").unlink(missing_ok=True)

    def snapshots(self) -> list[str]:
        """The names of the snapshots."""
        folder = self.path / "snapshots" if self.path else None
        return sorted(path.stem for path in folder.glob("*.sqlite")) if folder else []

    def snapshot(self, log: Log, name: str) -> Path:
        """Keep the log as it is now under this name. Raises UsageError when the name is taken or none."""
        return self._copy(log, self._snapshot(name))

    def restore(self, name: str) -> None:
        """Put a snapshot in the place of the log, which must be closed."""
        path = self.find(name)
        assert self.path is not None
        self.clear()
        shutil.copyfile(path, self.path / LOG)

    def find(self, name: str) -> Path:
        """The file of a snapshot. Raises UsageError when there is none of that name."""
        path = self._snapshot(name)
        if not path.exists():
            raise UsageError(f"No snapshot '{name}'. Known: {', '.join(self.snapshots()) or 'none'}. Nothing was changed.")
        return path

    def fork(self, log: Log, name: str) -> Path:
        """A folder for another simulator (MBATS_SIMULATOR_DATA), which goes on from where the log is now."""
        return self._copy(log, self._folder("forks", name) / LOG).parent

    def _copy(self, log: Log, path: Path) -> Path:
        if path.exists():
            raise UsageError(f"{path} is there already. Nothing was changed; choose another name.")
        path.parent.mkdir(parents=True, exist_ok=True)
        log.copy_to(path)
        return path

    def _snapshot(self, name: str) -> Path:
        return self._folder("snapshots", name).with_suffix(".sqlite")

    def _folder(self, kind: str, name: str) -> Path:
        if not NAME.fullmatch(name):
            raise UsageError(f"'{name}' is no name: letters, digits, - and _, at most 64. Nothing was changed.")
        if self.path is None:
            raise UsageError("This simulator keeps nothing on disk, so there are no snapshots and forks.")
        return self.path / kind / name
