"""Three machines within this one, by deploy/three_machines.sh, each with the wheel and nothing of the source tree."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import wheel
from tests.documents import Block
from tests.servers import ROOT

SCRIPT = ROOT / "deploy" / "three_machines.sh"
MACHINES = ("one", "two", "three")
BLOCK_SECONDS = 120


class Machines:
    """Runs blocks on the machines; each goes on in the folder and with the variables of the block before it there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, block: Block, place: str) -> None:
        if place == "here":
            code = block.code.replace("sudo ", "").replace("~/practice", str(self.folder))
            self._check(block, subprocess.run(["bash", "-ec", code], cwd=ROOT, capture_output=True, text=True))
        else:
            for name in MACHINES if place == "each" else place.split(" and "):
                self._check(block, self.on(name, block.code))

    def on(self, name: str, code: str) -> subprocess.CompletedProcess[str]:
        script = "\n".join(
            (
                "[ ! -e ~/.shell ] || . ~/.shell",
                "trap '{ export -p; echo cd $PWD; } > ~/.shell' EXIT",
                "set -a -e -o pipefail",
                code,
            )
        )
        command = [str(SCRIPT), "on", str(self.folder), name]
        return subprocess.run(
            [*command, "timeout", "--foreground", str(BLOCK_SECONDS), "bash", "-c", script],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def check(self, name: str, code: str) -> str:
        """What it prints. Raises AssertionError where it fails."""
        done = self.on(name, code)
        assert done.returncode == 0, f"on {name}: {code}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def session(self) -> dict[str, Any]:
        """The interview that the blocks have made."""
        answer = self.on("one", 'curl --silent -H "X-API-Key: $INTERVIEW_API_KEY" $API/session/$ID').stdout
        return json.loads(answer)["session"]

    def node(self, name: str) -> str:
        """The id of the Ray node that runs there."""
        return self.on(name, "python -c 'from orchestrator import this_node as n; print(n.this_node())'").stdout.strip()

    def make(self) -> None:
        """The machines themselves, with what is in the folder's bundle."""
        made = subprocess.run([str(SCRIPT), "up", str(self.folder)], capture_output=True, text=True, check=False)
        if made.returncode != 0:
            pytest.skip(f"this machine makes no others: {made.stderr[-300:]}")

    @staticmethod
    def _check(block: Block, done: subprocess.CompletedProcess[str]) -> None:
        assert done.returncode == 0, f"line {block.line}:\n{block.code}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"


@contextmanager
def practice(folder: Path) -> Iterator[Machines]:
    """A folder with a bundle, and the wheel installed; machines that are made there are ended."""
    if os.geteuid() != 0 or any(shutil.which(tool) is None for tool in ("ip", "unshare", "nsenter", "pgrep")):
        pytest.skip("machines of one's own need root, iproute2, util-linux and procps")
    wheel.install(wheel.make_bundle(folder), folder / "venv")
    try:
        yield Machines(folder)
    finally:
        subprocess.run([str(SCRIPT), "down", str(folder)], check=False, capture_output=True)
