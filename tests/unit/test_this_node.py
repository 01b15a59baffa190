"""Which Ray node this machine is, and `drain --this-node`."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.errors import NotFound
from orchestrator.this_node import this_node


def process(folder: Path, pid: int, *command: str) -> None:
    (folder / str(pid)).mkdir()
    (folder / str(pid) / "cmdline").write_bytes(b"\0".join(part.encode() for part in command) + b"\0")


def test_the_raylet_says_which_node_it_is(tmp_path: Path) -> None:
    process(tmp_path, 1, "/sbin/init")
    process(tmp_path, 20, "/venv/ray/core/src/ray/raylet/raylet", "--raylet_socket_name=x", "--node_id=abc123")
    process(tmp_path, 21, "python", "/venv/ray/agent.py", "--node_id=other")
    process(tmp_path, 22)
    (tmp_path / "23").mkdir()
    assert this_node(tmp_path) == "abc123"


@pytest.mark.parametrize(("nodes", "said"), [([], "No Ray node runs"), (["a", "b"], "2 Ray nodes run")])
def test_none_or_several_are_no_answer(tmp_path: Path, nodes: list[str], said: str) -> None:
    for pid, node in enumerate(nodes):
        process(tmp_path, pid, "/x/raylet", f"--node_id={node}")
    with pytest.raises(NotFound, match=said):
        this_node(tmp_path)


@pytest.mark.parametrize("options", [[], ["--node", "a", "--this-node"]])
def test_drain_needs_to_know_which_node(options: list[str]) -> None:
    done = CliRunner().invoke(app, ["drain", *options])
    assert done.exit_code == 2 and "either --node or" in done.output
