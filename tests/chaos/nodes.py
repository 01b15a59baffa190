"""A Ray cluster of several nodes on this machine: a head and raylets of their own, each of which can be killed.

Everything listens on 127.0.0.1, or on the addresses of network namespaces that a test has made. A driver or a front end
with a node's `environment` is attached to the head's raylet while there is one: Ray prefers it among several on one
machine.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from orchestrator.serve import PR_SET_CHILD_SUBREAPER
from orchestrator.storage.embedded import die_with_parent, free_port
from tests.servers import command_of, descendants

START_SECONDS = 60.0
STOP_SECONDS = 5.0
OBJECT_STORE_BYTES = 80 * 2**20
LOOPBACK = "127.0.0.1"
HEALTH = {  # a raylet that is stopped is dead to the cluster after about 4 s; Ray's own figures make it 30 s
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}


@dataclass
class Node:
    """One node: `ray start --block`, below which are its raylet and everything that the raylet started."""

    environment: dict[str, str]
    """With these variables a driver or `parallel-interview serve` joins the cluster."""
    launcher: subprocess.Popen[bytes]
    log: Path
    node_id: str = ""
    raylet: int = 0
    _seen: dict[int, str] = field(default_factory=dict)
    """Every process that was found here, by pid, with its start: pids are used again."""

    def pids(self) -> list[int]:
        """The raylet and every process below it: its agents, and the workers that are the actors."""
        return self._note(self.raylet) if self._is_ours(self.raylet) else []

    def pid_of(self, program: str) -> int:
        """The one process of this program, for example `gcs_server`."""
        found = [pid for pid in descendants(self.launcher.pid) if command_of(pid).split(" ")[0].endswith(f"/{program}")]
        assert len(found) == 1, found
        return found[0]

    def send(self, signum: signal.Signals) -> None:
        """A signal to everything on the node; SIGSTOP and SIGCONT make it hang and go on."""
        for pid in self.pids():
            send(pid, signum)

    def kill(self) -> None:
        """End everything on the node at once, as when a machine loses its power."""
        if self._is_ours(self.raylet):
            send(self.raylet, signal.SIGSTOP)  # it starts nothing between the look and the kill
        if self.launcher.poll() is None:
            self._note(self.launcher.pid)
        everything = [pid for pid in self._seen if self._is_ours(pid)]
        for pid in sorted(everything, key=lambda pid: pid != self.raylet):
            send(pid, signal.SIGKILL)
        self.launcher.wait()
        give_up = time.monotonic() + STOP_SECONDS
        while any(map(self._is_ours, everything)) and time.monotonic() < give_up:
            time.sleep(0.01)

    def _note(self, top: int) -> list[int]:
        found = {pid: start_of(pid) for pid in (top, *descendants(top))}
        self._seen.update(found)
        return [pid for pid, start in found.items() if start]

    def _is_ours(self, pid: int) -> bool:
        return bool(self._seen.get(pid)) and start_of(pid) == self._seen[pid]

    def wait_until_up(self) -> None:
        give_up = time.monotonic() + START_SECONDS
        while time.monotonic() < give_up and self.launcher.poll() is None:
            if "--block" in self.log.read_text(errors="replace"):  # it says so once the node is in
                self._find_raylet()
                return
            time.sleep(0.05)
        pytest.fail(f"a Ray node did not start:\n{self.log.read_text(errors='replace')[-4000:]}")

    def _find_raylet(self) -> None:
        for pid in descendants(self.launcher.pid):
            program, _, options = command_of(pid).partition(" ")
            if program.endswith("/raylet"):
                self.raylet = pid
                self.node_id = options.partition("--node_id=")[2].split()[0]
                self._note(pid)


class RayCluster:
    """A head, started at once, and the nodes that are added to it. Give it a fresh folder.

    `RayCluster(folder, cpus=1, memory=2**30)`; `memory` in bytes, as actors declare it. `settings` are environment
    variables of every node and so of the actors: MONGODB_URL and INTERVIEW_* are for them, RAY_* for Ray;
    `head_settings` are the head's alone.
    """

    def __init__(
        self,
        folder: Path,
        cpus: int = 1,
        memory: int = 2**30,
        dashboard: bool = False,
        address: str = LOOPBACK,
        port: int | None = None,
        head_options: tuple[str, ...] = (),
        head_settings: Mapping[str, str] | None = None,
        **settings: str,
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.temp = Path(tempfile.mkdtemp(prefix="pi-", dir="/tmp"))  # sockets' paths must be short
        token = folder / "ray-token"
        token.write_text(secrets.token_hex(32))
        token.chmod(0o600)
        port, web = port or free_port(), free_port()
        self.dashboard = f"http://127.0.0.1:{web}" if dashboard else None
        self.environment = {
            "RAY_ADDRESS": f"{address}:{port}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0" if address == LOOPBACK else "1",  # "0": keep to loopback
        }
        self._settings = {
            "REPORTER_UPDATE_INTERVAL_MS": "60000",
            "RAY_metrics_report_interval_ms": "60000",
            "RAY_task_events_report_interval_ms": "3000",
            "RAY_maximum_gcs_destroyed_actor_cached_count": "1000",
            **HEALTH,
            **settings,
        }
        self.nodes: list[Node] = []
        self._heads: list[Node] = []
        head = ("--head", f"--node-ip-address={address}", f"--port={port}", f"--ray-client-server-port={free_port()}")
        web_options = ("--dashboard-host=127.0.0.1", f"--dashboard-port={web}", f"--include-dashboard={dashboard}")
        self._head = (cpus, memory, *head, *web_options, *head_options)
        self._head_settings = head_settings or {}
        self.start_head()

    def start_head(self) -> Node:
        """Start a head, or the next one at the same address; the one before has ended. It is the first of the nodes."""
        node = self._start(f"head-{len(self._heads)}", (), *self._head, **self._head_settings)
        self._heads.append(node)
        self.nodes.remove(node)
        self.nodes[:1] = [node]
        return node

    @property
    def head(self) -> Node:
        return self.nodes[0]

    def add_node(
        self,
        cpus: int = 1,
        memory: int = 2**30,
        at: str | None = None,
        within: tuple[str, ...] = (),
        **settings: str,
    ) -> Node:
        """Start one more raylet and wait until it belongs to the cluster.

        `at` is its address, and `within` the command that runs it in a network namespace, if the cluster is in some.
        `settings` are environment variables of this node alone.
        """
        if at is not None:
            options = (f"--address={self.environment['RAY_ADDRESS']}", f"--node-ip-address={at}")
            return self._start(f"node-{len(self.nodes)}", within, cpus, memory, *options, **settings)
        # Ray takes no second node in while it keeps to loopback, and without that makes 127.0.0.1 and "localhost"
        # the machine's outer address. It does not know this spelling, and finds by it that we are at 127.0.0.1.
        address = f"LOCALHOST:{self.environment['RAY_ADDRESS'].rpartition(':')[2]}"
        settings["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "1"
        return self._start(f"node-{len(self.nodes)}", (), cpus, memory, f"--address={address}", **settings)

    def stop(self) -> None:
        """End every process of every node. Front ends that joined should have been ended before."""
        for node in reversed(self.nodes):
            node.kill()
        shutil.rmtree(self.temp, ignore_errors=True)

    def _start(
        self, name: str, within: tuple[str, ...], cpus: int, memory: int, *options: str, **settings: str
    ) -> Node:
        ray = [
            *within,
            *(str(Path(sys.executable).parent / "ray"), "start", "--block", "--disable-usage-stats"),
            *("--log-style=record", "--include-log-monitor=false", f"--temp-dir={self.temp / name}"),
            *(f"--num-cpus={cpus}", f"--memory={memory}", f"--object-store-memory={OBJECT_STORE_BYTES}"),
            *(f"--dashboard-agent-listen-port={free_port()}", *options),
        ]
        ours = ("INTERVIEW_", "MONGODB_", "LIVEKIT_", "RAY_")
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
        environment = inherited | self.environment | self._settings | settings
        environment.pop("RAY_ADDRESS")  # the command line says it
        log = self.folder / f"{name}.log"
        with open(log, "wb") as output:
            launcher = subprocess.Popen(
                ray,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_die_with_parent_and_adopt,
                env=environment,
            )
        node = Node(self.environment, launcher, log)
        self.nodes.append(node)
        try:
            node.wait_until_up()
        except BaseException:
            node.kill()
            raise
        return node


def _die_with_parent_and_adopt() -> None:
    """`ray start` ends with us, and processes whose parent was killed stay below it, where they are found."""
    die_with_parent()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def send(pid: int, signum: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signum)


def start_of(pid: int) -> str:
    """When a process was started, in ticks; empty if it has ended, or is a zombie."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    return ""


def is_running(pid: int) -> bool:
    return bool(start_of(pid))
