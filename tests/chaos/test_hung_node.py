"""How long a node that hangs is taken for alive, with the health check that ray_cluster.yaml sets."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.conftest import say
from tests.chaos.nodes import RayCluster
from tests.servers import ROOT

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(180)]

PROMISED_SECONDS = 15.0
WATCHER = """
import sys, time, ray
ray.init(address=sys.argv[1], logging_level=40, log_to_driver=False)
alive = lambda: any(node["Alive"] for node in ray.nodes() if node["NodeID"] == sys.argv[2])
assert alive()
print("watching", flush=True)
while alive():
    time.sleep(0.05)
"""


def health_of(text: str) -> dict[str, str]:
    """The settings of the health check in a file, each of which it has once or always the same."""
    return dict(re.findall(r"\b(RAY_health_check_\w+)=(\d+)", text))


@pytest.mark.parametrize("file", ["deploy/cluster.env.example", "deploy/kuberay.yaml"])
def test_other_files_have_the_same_settings(file: str) -> None:
    settings = health_of((ROOT / "ray_cluster.yaml").read_text())
    text = (ROOT / file).read_text()
    assert len(settings) == 4
    found = health_of(text) or dict(re.findall(r"name: (RAY_health_check_\w+), value: \"(\d+)\"", text))
    assert found == settings


def test_a_node_that_hangs_is_dead_in_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings: dict[str, Any] = {**health_of((ROOT / "ray_cluster.yaml").read_text())}
    ray = RayCluster(tmp_path, 1, 2**30, **settings)
    try:
        node = ray.add_node(1, 2**30)
        time.sleep(6)  # RAY_health_check_initial_delay_ms: it is not asked before
        watcher = subprocess.Popen(
            [sys.executable, "-c", WATCHER, ray.environment["RAY_ADDRESS"], node.node_id],
            env=os.environ | ray.environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert watcher.stdout is not None and watcher.stdout.readline() == "watching\n"
        node.send(signal.SIGSTOP)
        began = time.monotonic()
        try:
            watcher.wait(60)
        finally:
            watcher.kill()
            watcher.wait()
        took = time.monotonic() - began
        say(capsys, f"a node that hangs is taken for dead after {took:.1f} s")
        assert watcher.returncode == 0 and took < PROMISED_SECONDS
    finally:
        ray.stop()
