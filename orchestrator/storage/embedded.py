"""The embedded database: nx-27017, a MongoDB-wire server over SQLite files in the data folder.

For development and small installations. It runs as a child process, dies with its parent, and holds a lock
on the data folder, so that two services never share one.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import IO
from urllib.parse import quote

from orchestrator.errors import InvalidInput, NotFound, Unavailable

PR_SET_PDEATHSIG = 1
START_SECONDS = 15.0
STOP_SECONDS = 3.0


class EmbeddedServer:
    """One nx-27017 process over one data folder. Its port stays the same through restarts."""

    def __init__(self, data_dir: Path, port: int | None = None) -> None:
        self.folder = (data_dir / "mongo").absolute()
        self.port = port or free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None

    @property
    def url(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}/?directConnection=true"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the process and wait until it takes connections. Raises Unavailable with one clear reason."""
        self._take_lock()
        pid_file = self.folder / "nx-27017.pid"
        pid_file.unlink(missing_ok=True)
        command = [
            str(Path(sys.executable).parent / "nx-27017"),
            *("--data-dir", str(self.folder), "--host", "127.0.0.1", "--port", str(self.port)),
            *("--log-file", str(self.folder / "nx-27017.log"), "--pid-file", str(pid_file)),
        ]
        with open(self.folder / "nx-27017.out", "ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,  # as all that `serve` starts
                preexec_fn=die_with_parent,
            )
        self._wait_until_up()

    def poll(self) -> int | None:
        """The exit code if the process has ended, else None."""
        return self._process.poll() if self._process else None

    def stop(self) -> None:
        """End the process and give the data folder back."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _take_lock(self) -> None:
        if self._lock is not None:
            return
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = open(self.folder / "lock", "w")  # noqa: SIM115 - held as long as the server runs
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise Unavailable(
                f"The data folder {self.folder} is in use by another service; "
                "stop that one or set INTERVIEW_DATA_DIR to another folder."
            ) from None
        self._lock = lock

    def _wait_until_up(self) -> None:
        give_up = time.monotonic() + START_SECONDS
        while time.monotonic() < give_up:
            if self.poll() is not None:
                break
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=0.5):
                    return
            except OSError:
                time.sleep(0.05)
        raise Unavailable(f"The embedded database did not start; see {self.folder / 'nx-27017.out'}.")


def back_up(data_dir: Path, to: Path) -> list[Path]:
    """Copy the embedded database to another data folder, used or not, with all that was acknowledged before.

    Returns the files written. Raises NotFound if there is no embedded database, InvalidInput if `to` has one already.
    """
    files = sorted((data_dir / "mongo").glob("*.db"))
    if not files:
        raise NotFound(f"There is no embedded database in {data_dir}; of a MongoDB, make backups with its own tools.")
    target = to / "mongo"
    if target.exists():
        raise InvalidInput(f"{target} is there already; name another folder.")
    target.mkdir(parents=True, mode=0o700)
    for file in files:
        with (
            contextlib.closing(sqlite3.connect(f"file:{quote(str(file.absolute()))}?mode=ro", uri=True)) as source,
            contextlib.closing(sqlite3.connect(target / file.name)) as copy,
        ):
            source.backup(copy)
    return [target / file.name for file in files]


def free_port() -> int:
    """A free TCP port on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def die_with_parent() -> None:
    """In a child before exec: have the kernel end it when its parent dies, or the thread that started it."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == 1:
        os._exit(1)
