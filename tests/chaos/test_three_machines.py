"""What docs/OPERATING.md says about three nodes, done word by word on three machines within this one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import wheel
from tests.chaos.conftest import say
from tests.documents import Block, blocks
from tests.servers import ROOT

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

SCRIPT = ROOT / "deploy" / "three_machines.sh"
PLACE = re.compile(r"not run: on ([\w ]+), by tests/chaos/test_three_machines.py")
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

    def session(self) -> dict[str, Any]:
        """The interview that the blocks have made."""
        answer = self.on("one", 'curl --silent -H "X-API-Key: $INTERVIEW_API_KEY" $API/session/$ID').stdout
        return json.loads(answer)["session"]

    def node(self, name: str) -> str:
        """The id of the Ray node that runs there."""
        return self.on(name, "python -c 'from orchestrator import this_node as n; print(n.this_node())'").stdout.strip()

    @staticmethod
    def _check(block: Block, done: subprocess.CompletedProcess[str]) -> None:
        assert done.returncode == 0, f"line {block.line}:\n{block.code}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"


@pytest.fixture
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    if os.geteuid() != 0 or any(shutil.which(tool) is None for tool in ("ip", "unshare", "nsenter", "pgrep")):
        pytest.skip("machines of one's own need root, iproute2, util-linux and procps")
    folder = tmp_path_factory.mktemp("practice")
    wheel.install(wheel.make_bundle(folder), folder / "venv")
    yield Machines(folder)
    subprocess.run([str(SCRIPT), "down", str(folder)], check=False, capture_output=True)


def test_three_nodes_as_the_runbook_says(machines: Machines, capsys: pytest.CaptureFixture[str]) -> None:
    found = [(block, PLACE.fullmatch(block.note)) for block in blocks(ROOT / "docs" / "OPERATING.md")]
    steps = [(block, place[1]) for block, place in found if place is not None]
    assert {place for _, place in steps} >= {"here", "each", *MACHINES}
    began = time.monotonic()
    for block, place in steps:
        started = time.monotonic()
        if "make_bundle" in block.code:
            _make(machines, block)
            continue
        if "drain" in block.code:
            _move_to_three(machines)
        machines.run(block, place)
        if "drain" in block.code:
            assert _held_by(machines) == machines.node("two")
        elif '"question_index": 1' in block.code:
            session = machines.session()
            assert _held_by(machines) == machines.node("three")
            assert [answer["answer"] for answer in session["answers"]] == ["Yes.", "Still here."]
            assert session["clock"]["credited_seconds"] > 0
        say(capsys, f"line {block.line} on {place}: {time.monotonic() - started:.1f} s")
    say(capsys, f"three machines: {time.monotonic() - began:.0f} s in all")


def _make(machines: Machines, block: Block) -> None:
    """The fixture has made the bundle; the settings are as the block says."""
    _, rest = block.code.split("\n", 1)
    wheel.run("bash", "-ec", rest, cwd=machines.folder)
    made = subprocess.run([str(SCRIPT), "up", str(machines.folder)], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"this machine makes no others: {made.stderr[-300:]}")


def _move_to_three(machines: Machines) -> None:
    """The interview, which Ray has placed on two or on three."""
    if _held_by(machines) == machines.node("two"):
        for options in ("", " --cancel"):
            done = machines.on("two", f"parallel-interview drain --this-node{options}")
            assert done.returncode == 0, done.stdout + done.stderr
    assert _held_by(machines) == machines.node("three")


def _held_by(machines: Machines) -> str:
    placement: dict[str, str] = machines.session()["placement"]
    return placement["node"]
