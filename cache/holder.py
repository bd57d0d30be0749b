"""Who holds the lock of a store: a record that other processes, and other machines, read and judge."""

import os
import secrets
import shlex
import socket
import sys
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from .checks import brief, fit_fields, require_keys

MAX_RECORD = 1 << 14
ALIVE, GONE, UNKNOWN = "alive", "gone", "unknown"
_PROC = Path("/proc")


@dataclass(frozen=True, kw_only=True)
class Holder:
    """A process as its lock describes it.

    token: random, so that no two locks are alike; host: name of its machine; machine: /etc/machine-id; boot: of
    that machine's system, new with each start; pids: its space of process numbers (containers have their own); pid;
    started: when the process began, in the system's ticks, because numbers are used again; since: date and time
    (UTC); command: its command line. What a system does not tell is ''.
    """

    token: str
    host: str
    machine: str
    boot: str
    pids: str
    pid: int
    started: str
    since: str
    command: str

    def __post_init__(self) -> None:
        fit_fields(self)

    def __str__(self) -> str:
        where = f"pid {self.pid} on {brief(self.host)}"
        return f"{where} since {brief(self.since)} ({brief(self.command, 200)})"

    @classmethod
    def here(cls) -> Self:
        """This process."""
        pid = os.getpid()
        return cls(
            token=secrets.token_hex(16),
            host=socket.gethostname(),
            machine=_text(Path("/etc/machine-id")),
            boot=_text(_PROC / "sys/kernel/random/boot_id"),
            pids=_pid_space(),
            pid=pid,
            started=_started(pid) or "",
            since=datetime.now(UTC).isoformat(timespec="seconds"),
            command=brief(shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]), 500),
        )

    def to_json(self) -> dict[str, Any]:
        """A dictionary of plain JSON values; `from_json` is its inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """The holder that a lock names. CacheError when it is none."""
        return cls(**require_keys(value, (f.name for f in fields(cls)), "the lock"))

    @property
    def is_of_this_system(self) -> bool:
        """Whether it runs, or ran, on this machine since its last start, perhaps in another container."""
        return bool(self.boot) and self.boot == type(self).here().boot

    def state(self, *, lock_is_free: bool) -> str:
        """ALIVE, GONE, or UNKNOWN where this machine cannot tell.

        lock_is_free: the system's own lock on the file was free, which it is not while a process of this system
        holds it; False where the file system has no such locks.
        """
        me = type(self).here()
        if self.is_of_this_system:
            if self.pids and self.pids == me.pids:
                return ALIVE if _started(self.pid) == self.started else GONE
            return GONE if lock_is_free else UNKNOWN
        restarted = self.machine and (self.host, self.machine) == (me.host, me.machine) and self.boot and me.boot
        return GONE if restarted else UNKNOWN


def _started(pid: int) -> str | None:
    """Start of a process in ticks since the system's start; '' where the system has no such list, None: no process."""
    if not (_PROC / "self/stat").exists():
        return "" if _exists(pid) else None
    # The name, in brackets, may hold spaces and brackets itself. Field 22 is the 20th after it; 3 is the state.
    after = _text(_PROC / str(pid) / "stat").rpartition(")")[2].split()
    return None if len(after) < 20 or after[0] in ("Z", "X") else after[19]


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _pid_space() -> str:
    try:
        return str((_PROC / "self/ns/pid").readlink())
    except OSError:
        return ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
