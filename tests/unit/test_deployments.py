"""compose.yaml and deploy/kuberay.yaml against their schemas, the Dockerfile, and each against our settings."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema
import pytest
import yaml

from orchestrator.settings import Settings
from tests.servers import ROOT

SCHEMAS = ROOT / "tests" / "fixtures" / "schemas"
KUBERNETES = json.loads((SCHEMAS / "kubernetes.json").read_text())
RAY_CLUSTER = json.loads((SCHEMAS / "raycluster.json").read_text())
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
OBJECTS: list[dict[str, Any]] = list(yaml.safe_load_all((ROOT / "deploy" / "kuberay.yaml").read_text()))
NAMES = {f"INTERVIEW_{name.upper()}" for name in Settings.model_fields} | {
    *("MONGODB_URL", "MONGODB_DATABASE", "LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET")
}
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|API_KEY")


def strict(schema: Any) -> Any:
    """With every property that is not named refused: Kubernetes would drop it without a word."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: strict(one) for name, one in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        made.setdefault("additionalProperties", False)
    return made


def kubernetes(schema: dict[str, Any], value: Any) -> None:
    jsonschema.validate(value, {**schema, "$defs": KUBERNETES["$defs"]}, jsonschema.Draft7Validator)


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [one for one in OBJECTS if one["kind"] == kind]


def cluster() -> dict[str, Any]:
    (found,) = of_kind("RayCluster")
    return found["spec"]


def pods() -> dict[str, dict[str, Any]]:
    spec = cluster()
    (worker,) = spec["workerGroupSpecs"]
    (deployment,) = of_kind("Deployment")
    templates = {"head": spec["headGroupSpec"], "worker": worker, "front end": deployment["spec"]}
    return {name: of["template"]["spec"] for name, of in templates.items()}


@pytest.mark.parametrize("thing", OBJECTS, ids=lambda one: f"{one['kind']} {one['metadata']['name']}")
def test_kubernetes_takes_it(thing: dict[str, Any]) -> None:
    if thing["kind"] != "RayCluster":
        kubernetes(KUBERNETES["kinds"][thing["kind"]], thing)
        return
    jsonschema.validate(thing, strict(RAY_CLUSTER) | {"additionalProperties": True})
    spec = thing["spec"]
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        kubernetes({"$ref": "#/$defs/io.k8s.api.core.v1.PodTemplateSpec"}, group["template"])


def test_a_wrong_word_is_seen() -> None:
    thing = json.loads(json.dumps(of_kind("RayCluster")[0]))
    thing["spec"]["gcsFaultToleranceOptions"]["redisAdress"] = "x"
    with pytest.raises(jsonschema.ValidationError, match="redisAdress"):
        jsonschema.validate(thing, strict(RAY_CLUSTER) | {"additionalProperties": True})


def test_the_head_is_safe_and_workers_come_and_go() -> None:
    spec = cluster()
    assert spec["gcsFaultToleranceOptions"]["redisAddress"] and spec["authOptions"]["mode"] == "token"
    (worker,) = spec["workerGroupSpecs"]
    assert spec["enableInTreeAutoscaling"] and worker["minReplicas"] < worker["maxReplicas"]
    assert "resources" not in spec["headGroupSpec"]["rayStartParams"], "no interviews on the head"


def test_a_worker_has_room_for_what_it_declares() -> None:
    of = Settings(_env_file=None)  # pyright: ignore[reportCallIssue]
    (worker,) = cluster()["workerGroupSpecs"]
    declared = json.loads(json.loads(worker["rayStartParams"]["resources"].strip("'")))  # as a shell passes it on
    (container,) = pods()["worker"]["containers"]
    memory = int(container["resources"]["limits"]["memory"].removesuffix("Gi")) * 1024
    assert declared["interviews"] * of.actor_memory_mb + 256 <= memory * 0.9, "Ray declares about 90 % of the limit"
    assert declared["interviews"] * of.actor_cpus + 0.1 <= float(container["resources"]["limits"]["cpu"])


def test_a_worker_that_has_to_go_hands_its_interviews_over_first() -> None:
    pod = pods()["worker"]
    (container,) = pod["containers"]
    command = container["lifecycle"]["preStop"]["exec"]["command"][-1]
    (wait,) = re.findall(r"drain --this-node --wait (\d+)", command)
    assert int(wait) + 20 <= pod["terminationGracePeriodSeconds"]
    (front_end,) = re.findall(r"--url http://([\w-]+):8005", command)
    assert front_end in {one["metadata"]["name"] for one in of_kind("Service")}


def test_front_ends_are_asked_whether_they_are_there_and_one_always_is() -> None:
    pod = pods()["front end"]
    (container,) = pod["containers"]
    paths = [container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("readiness", "liveness")]
    assert paths == ["/readyz", "/healthz"]
    (delay,) = [float(one["value"]) for one in container["env"] if one["name"] == "INTERVIEW_STOP_DELAY_SECONDS"]
    probe = container["readinessProbe"]
    assert probe["periodSeconds"] * (probe["failureThreshold"] + 1) <= delay < pod["terminationGracePeriodSeconds"] - 10
    (deployment,) = of_kind("Deployment")
    assert deployment["spec"]["replicas"] > 1
    selected = {json.dumps(one["spec"]["selector"]["matchLabels"]) for one in of_kind("PodDisruptionBudget")}
    assert json.dumps(deployment["spec"]["selector"]["matchLabels"]) in selected and len(selected) == 2


def test_nothing_runs_as_root_and_all_have_the_settings() -> None:
    for name, pod in pods().items():
        assert pod["securityContext"]["runAsNonRoot"], name
        for container in pod["containers"]:
            assert {"secretRef": {"name": "interviews"}} in container["envFrom"]
    (settings,) = of_kind("ConfigMap")
    assert set(settings["data"]) <= NAMES


def test_compose_takes_it() -> None:
    schema = json.loads((SCHEMAS / "compose.json").read_text())
    jsonschema.validate(COMPOSE, schema, jsonschema.Draft7Validator)
    assert set(COMPOSE["services"]) >= {"front-end", "mongo", "livekit", "redis", "prometheus", "grafana", "worker"}


def test_compose_has_no_password_of_its_own() -> None:
    example = (ROOT / "deploy" / "compose.env.example").read_text()
    assert not re.search(r"^\w+=.+$", example, re.M), "the example has no values"
    text = (ROOT / "compose.yaml").read_text()
    used = re.findall(r"(?<!\$)\$\{(\w+)(:\?|:-[^}]*)?\}", text)
    without = {name for name, unset in used if unset != ":?"}
    assert without == {"INTERVIEW_FORWARDED_ALLOW_IPS", "FRONT_END_ADDRESS"}, "what else is not set ends it"
    secrets = {secret["environment"] for secret in COMPOSE["secrets"].values()}
    assert {name for name, _ in used} | secrets == set(re.findall(r"^(\w+)=", example, re.M))
    for name, service in COMPOSE["services"].items():
        for key, value in service.get("environment", {}).items():
            assert not SECRET.search(key) or ":?}" in value, f"{name}: {key}"
            assert not key.startswith(("INTERVIEW_", "MONGODB_")) or key in NAMES, f"{name}: {key}"


def test_what_speaks_no_tls_is_published_on_this_machine_only() -> None:
    """All but LiveKit, which browsers reach directly and which has ports of its own for that."""
    for name, service in COMPOSE["services"].items():
        for port in service.get("ports", []) if name != "livekit" else []:
            assert re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", port).startswith("127.0.0.1:"), f"{name}: {port}"


def test_compose_passes_on_whose_word_on_addresses_is_believed() -> None:
    given = COMPOSE["services"]["front-end"]["environment"]
    assert given["INTERVIEW_FORWARDED_ALLOW_IPS"] == "${INTERVIEW_FORWARDED_ALLOW_IPS:-}"
    assert set(COMPOSE["services"]["head"]["environment"]) & set(given) == set(COMPOSE["x-service"]["environment"])


def test_files_that_compose_mounts_are_there() -> None:
    """Docker would make a folder of a file that is not."""
    volumes = [volume for service in COMPOSE["services"].values() for volume in service.get("volumes", [])]
    for path in (volume.split(":")[0] for volume in volumes if volume.startswith("./")):
        assert (ROOT / path).exists(), path


def test_the_image_has_what_the_wheel_is_made_of() -> None:
    text = (ROOT / "Dockerfile").read_text()
    copied = {word for line in re.findall(r"^COPY (?!--)(.*) \S+$", text, re.M) for word in line.split()}
    allowed = set(re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(), re.M))
    assert copied == allowed and all((ROOT / name).exists() for name in copied)
    stages = re.findall(r"^FROM (\S+)", text, re.M)
    assert not any("/" in stage for stage in stages), "no registry by name"
    last = text.rpartition("\nFROM")[2]
    assert "\nUSER interview" in last and "/healthz" in last and "libpango" in last
    for command in re.findall(r"^(?:\s*)?CMD (\[.*\])$", last, re.M):
        assert json.loads(command)
