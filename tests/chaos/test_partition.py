"""A node is cut off from the network and comes back, in network namespaces of the test's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.servers import ROOT

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(400)]


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextmanager
def two_hosts() -> Iterator[tuple[str, str]]:
    """Two namespaces with a cable between them: 10.77.0.1 and 10.77.0.2, and nothing else."""
    one, other = f"pi-{os.getpid()}-a", f"pi-{os.getpid()}-b"
    try:
        for name in (one, other):
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("-n", one, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", other)
        for name, address in ((one, "10.77.0.1/24"), (other, "10.77.0.2/24")):
            ip("-n", name, "addr", "add", address, "dev", "cable")
            ip("-n", name, "link", "set", "cable", "up")
        yield one, other
    finally:
        for name in (one, other):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def test_a_node_that_is_cut_off_writes_nothing_and_its_interviews_go_on_elsewhere() -> None:
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("network namespaces need iproute2 and root")
    try:
        with two_hosts() as (one, other):
            command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/chaos/partition.py"]
            done = subprocess.run(
                ["ip", "netns", "exec", one, *command],
                cwd=ROOT,
                env=os.environ | {"OTHER_HOST": other},
                capture_output=True,
                text=True,
                timeout=360,
            )
    except subprocess.CalledProcessError as error:
        pytest.skip(f"this machine makes no network namespaces: {error.stderr.decode(errors='replace')[:200]}")
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
