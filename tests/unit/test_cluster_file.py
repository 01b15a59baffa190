"""ray_cluster.yaml, by Ray's own validation, and against what our actors declare."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import hash_runtime_conf, prepare_config, validate_config

from actors.cluster import FACE_ACTOR_MEMORY, SYSTEM_ACTOR_MEMORY
from orchestrator.settings import Settings
from tests.servers import ROOT

FILE = ROOT / "ray_cluster.yaml"
ENVIRONMENT = ROOT / "deploy" / "cluster.env.example"
CLOUDS = ("aws", "gcp")
JOURNAL_CPUS = 0.1


def text_for(kind: str) -> str:
    """The file for AWS as it stands; else what the command in its head makes of it."""
    if kind == "aws":
        return FILE.read_text()
    command = re.search(
        rf"^#\s+(sed .* 's/\^#{kind} //' ray_cluster\.yaml) > my_cluster\.yaml$", FILE.read_text(), re.M
    )
    assert command is not None
    return subprocess.run(["sh", "-c", command[1]], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def loaded(kind: str) -> dict[str, Any]:
    """As `ray up` has it, with Ray's defaults filled in."""
    return prepare_config(yaml.safe_load(text_for(kind)))


def settings() -> Settings:
    return Settings(_env_file=ENVIRONMENT)  # pyright: ignore[reportCallIssue]


@pytest.fixture(params=["aws", "gcp", "own"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def test_ray_takes_it(kind: str) -> None:
    config = loaded(kind)
    validate_config(config)
    assert config["provider"]["type"] == {"own": "local"}.get(kind, kind)
    assert not re.search(r"#(own|gcp) ", "".join(config["head_setup_commands"] + config["worker_start_ray_commands"]))
    head = config["available_node_types"][config["head_node_type"]]
    assert kind == "own" or head["max_workers"] == 0, "one head"


def test_every_line_with_a_choice_belongs_to_one(kind: str) -> None:
    text = text_for(kind)
    tagged = {"aws": "#aws", "gcp": "#gcp ", "own": "#own "}
    if kind != "aws":
        assert tagged[kind] not in text.partition("cluster_name:")[2] and "#aws\n" not in text
    assert text.count("CHANGE:") >= 3


@pytest.mark.parametrize("cloud", CLOUDS)
def test_workers_grow_and_shrink_and_the_head_holds_no_interview(cloud: str) -> None:
    config, resource = loaded(cloud), settings().resource
    types = config["available_node_types"]
    assert resource is not None and resource not in types["head"]["resources"]
    worker = types["worker"]
    assert 0 < worker["min_workers"] < worker["max_workers"] <= config["max_workers"]
    idle = settings().idle_node_seconds
    assert idle is not None and idle > 0 and config["idle_timeout_minutes"] > 0


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_worker_declares_what_its_interviews_take(cloud: str) -> None:
    of = settings()
    assert of.resource is not None
    worker = loaded(cloud)["available_node_types"]["worker"]["resources"]
    interviews = worker[of.resource]
    assert interviews * of.actor_cpus + JOURNAL_CPUS <= worker["CPU"]
    assert interviews * of.actor_memory_mb * 2**20 + SYSTEM_ACTOR_MEMORY <= worker["memory"]
    spare = 16 * 2**30 - worker["memory"] - 128 * 2**20  # a machine has 16 GiB, and an object store
    assert spare >= 2 * 2**30, "for the system and Ray's own processes"


@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_head_has_room_for_the_actors_that_are_there_once(cloud: str) -> None:
    head = loaded(cloud)["available_node_types"]["head"]["resources"]
    of = settings()
    assert head["CPU"] >= 0.2 + 0.1 + JOURNAL_CPUS + of.face_actors * of.face_cpus
    assert head["memory"] >= 3 * SYSTEM_ACTOR_MEMORY + of.face_actors * FACE_ACTOR_MEMORY


def test_nodes_of_ones_own_declare_as_many_as_those_of_clouds() -> None:
    (command,) = [one for one in loaded("own")["worker_start_ray_commands"] if "ray start" in one]
    found = re.search(r'--resources=\'{"interviews":(\d+)}\'', command)
    assert found and int(found[1]) == loaded("aws")["available_node_types"]["worker"]["resources"]["interviews"]


def test_files_that_are_copied_are_those_that_are_made(kind: str, tmp_path: Path) -> None:
    config = loaded(kind)
    assert set(config["file_mounts"].values()) == {"bundle"}
    script = (ROOT / "deploy" / "make_bundle.sh").read_text()
    commands = " ".join(config["setup_commands"] + config["head_start_ray_commands"])
    for name in re.findall(r"bundle/([\w.-]+)", commands):
        assert name.partition("-")[0] in script
    for name in ("cluster.env", "ray-token"):
        (tmp_path / name).write_text("x")
    hash_runtime_conf({"~/parallel-interview/bundle": str(tmp_path)}, None, [])


def test_ray_asks_for_the_token_and_has_the_settings(kind: str) -> None:
    config = loaded(kind)
    starts = [c for c in config["head_start_ray_commands"] + config["worker_start_ray_commands"] if "ray start" in c]
    assert len(starts) == 2
    for command in starts:
        assert ". bundle/cluster.env" in command and "ulimit -n 65536" in command and "--disable-usage-stats" in command
    assert re.search(r"^RAY_AUTH_MODE=token$", ENVIRONMENT.read_text(), re.M)


def test_every_setting_in_the_example_is_one() -> None:
    names = set(re.findall(r"^(?:# )?((?:INTERVIEW|MONGODB|LIVEKIT)_\w+)=", ENVIRONMENT.read_text(), re.M))
    known = {f"INTERVIEW_{name.upper()}" for name in Settings.model_fields}
    known |= {"MONGODB_URL", "LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"}
    assert names <= known, names - known


def test_a_shell_reads_the_example(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-euc", f"set -a; . {ENVIRONMENT}; env"],
        capture_output=True,
        text=True,
        env={"HOME": "/home/x", "PATH": os.environ["PATH"]},
        check=True,
    )
    assert "RAY_AUTH_TOKEN_PATH=/home/x/parallel-interview/bundle/ray-token" in done.stdout
