"""What docs/OPERATING.md says about three nodes, and what ray_cluster.yaml starts, done word by word on three machines
within this one."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config

from tests import wheel
from tests.chaos.conftest import say
from tests.chaos.machines import MACHINES, Machines, practice
from tests.documents import Block, blocks
from tests.servers import ROOT

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

PLACE = re.compile(r"not run: on ([\w ]+), by tests/chaos/test_three_machines.py")
DATABASE = "mongodb://10.78.0.11:27017/?directConnection=true"
PAGES = ("/docs", "/openapi.json", "/interview/x")


@pytest.fixture
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    with practice(tmp_path_factory.mktemp("practice")) as machines:
        yield machines


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
    machines.make()


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


def own_cluster_file() -> dict[str, Any]:
    """ray_cluster.yaml for machines of one's own, as its head says; no other machine is logged in to."""
    (command,) = re.findall(r"^#\s+(sed .*#own .*) ray_cluster\.yaml >", (ROOT / "ray_cluster.yaml").read_text(), re.M)
    config = yaml.safe_load(wheel.run("sh", "-c", f"{command} ray_cluster.yaml", cwd=ROOT))
    config["provider"] |= {"head_ip": "10.78.0.11", "worker_ips": []}
    return config


def test_what_the_cluster_file_starts(machines: Machines, capsys: pytest.CaptureFixture[str]) -> None:
    config = own_cluster_file()
    settings = machines.folder / "bundle" / "cluster.env"
    settings.write_text(re.sub(r"^MONGODB_URL=.*", f'MONGODB_URL="{DATABASE}"', settings.read_text(), flags=re.M))
    machines.make()
    began = time.monotonic()
    (machines.folder / "one" / "ray_bootstrap_config.yaml").write_text(json.dumps(prepare_config(config)))
    database = "nx-27017 --host 10.78.0.11 --port 27017 --data-dir database --pid-file database/nx.pid"
    machines.check("one", f"mkdir -p database; nohup {database} >> database.log 2>&1 < /dev/null &")
    for command in config["head_start_ray_commands"]:
        machines.check("one", command)
    for command in config["worker_start_ray_commands"]:
        machines.check("two", f"export RAY_HEAD_IP=10.78.0.11; {command}")
    get = "curl --silent --show-error --fail --retry 90 --retry-all-errors --retry-delay 1"
    machines.check("two", f"{get} http://10.78.0.11:8005/readyz")
    say(capsys, f"what ray_cluster.yaml starts is ready after {time.monotonic() - began:.0f} s")
    for page in PAGES:  # which are files in the wheel
        machines.check("two", f"curl --silent --show-error --fail http://10.78.0.11:8005{page}")
    address = "http://10.78.0.11:8005/api/parallel_interview"
    call = f'{get} -H "X-API-Key: $INTERVIEW_API_KEY" -H "Content-Type: application/json" {address}'
    machines.check("two", ". ~/parallel-interview/bundle/cluster.env")
    person = json.dumps({"name": "Ada", "email": "ada@example.com"})
    made = json.loads(machines.check("two", f"{call}/create -d '{person}'"))
    machines.check("two", f"{call}/session/{made['session_id']}/start -X POST")
    session = json.loads(machines.check("two", f"{call}/session/{made['session_id']}"))["session"]
    assert session["status"] == "in_progress"
    assert session["placement"]["node"] == machines.node("two"), "and not on the head"
