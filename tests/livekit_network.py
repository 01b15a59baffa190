"""A candidate on a network of their own, with a cable that can be cut."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from types import TracebackType

import pytest


class CandidateNetwork:
    """A network namespace with a cable to this host, and nothing else.

    Who runs in `namespace` reaches this host at `host` and is seen from here at `guest`.
    Skips the test where such a thing cannot be made.
    """

    def __init__(self) -> None:
        pid = os.getpid()
        self.namespace = f"pi-{pid}-candidate"
        self._cable = f"pi{pid}"
        block = pid % (256 * 64)
        self._prefix = f"10.231.{block // 64}"
        self.host = f"{self._prefix}.{block % 64 * 4 + 1}"
        self.guest = f"{self._prefix}.{block % 64 * 4 + 2}"

    def __enter__(self) -> CandidateNetwork:
        if shutil.which("ip") is None or shutil.which("tc") is None or os.geteuid() != 0:
            pytest.skip("network namespaces need iproute2 and root")
        try:
            self._make()
        except subprocess.CalledProcessError as error:
            self._remove()
            pytest.skip(f"this machine makes no network namespaces: {error.stderr.decode(errors='replace')[:200]}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def cut(self) -> None:
        """Lose all that is sent, either way. Nobody is told: connections and interfaces stay as they were."""
        self._lose("add")

    def mend(self) -> None:
        """End a cut."""
        self._lose("del")

    def unplug(self) -> None:
        """Take the cable out: the candidate's machine sees that it has no network."""
        _ip("-n", self.namespace, "link", "set", "cable", "down")

    def plug(self) -> None:
        """End an unplug."""
        _ip("-n", self.namespace, "link", "set", "cable", "up")

    def _lose(self, what: str) -> None:
        kind = ["blackhole"] if what == "add" else []
        for end in (["-n", self.namespace, "qdisc", what, "dev", "cable"], ["qdisc", what, "dev", self._cable]):
            _run("tc", *end, "root", *kind)

    def _make(self) -> None:
        _ip("netns", "add", self.namespace)
        _ip("-n", self.namespace, "link", "set", "lo", "up")
        _ip("link", "add", self._cable, "type", "veth", "peer", "name", "cable", "netns", self.namespace)
        _ip("addr", "add", f"{self.host}/30", "dev", self._cable)
        _ip("link", "set", self._cable, "up")
        _ip("-n", self.namespace, "addr", "add", f"{self.guest}/30", "dev", "cable")
        _ip("-n", self.namespace, "link", "set", "cable", "up")

    def _remove(self) -> None:
        for words in (("link", "del", self._cable), ("netns", "del", self.namespace)):
            with contextlib.suppress(subprocess.CalledProcessError):
                _ip(*words)


def _ip(*words: str) -> None:
    _run("ip", *words)


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)
