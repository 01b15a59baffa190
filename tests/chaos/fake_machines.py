"""Ray's autoscaler on this machine: it starts and ends raylets here, as it does machines in a cloud.

`ray.cluster_utils.AutoscalingCluster` is made of the same parts. It is not used itself, as it begins by ending every
Ray process on the machine, and needs a file that Ray's wheel does not contain.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID, FakeMultiNodeProvider

HEAD_TYPE = "ray.head.default"
ENVIRONMENT = {
    "RAY_FAKE_CLUSTER": "1",
    "RAY_enable_autoscaler_v2": "1",
    "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
    "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
    "RAY_NODE_TYPE_NAME": HEAD_TYPE,
    "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
}
"""Of the head."""


class Machines(FakeMultiNodeProvider):
    """Runs in Ray's monitor process. Ray's own cannot give a machine a certain memory."""

    def _create_node_with_resources_and_labels(
        self, node_config: Any, tags: Any, count: int, resources: dict[str, float], labels: Any
    ) -> None:
        rest = dict(resources)
        os.environ["RAY_OVERRIDE_RESOURCES"] = json.dumps({"memory": rest.pop("memory")})
        try:
            super()._create_node_with_resources_and_labels(node_config, tags, count, rest, labels)
        finally:
            del os.environ["RAY_OVERRIDE_RESOURCES"]


def write_config(
    file: Path,
    address: str,
    head: Mapping[str, float],
    worker: Mapping[str, float],
    workers: tuple[int, int],
    idle: float,
) -> Path:
    """What `ray start --autoscaling-config` takes. `head` and `worker`: their resources; `workers`: how many at least
    and at most; `idle`: seconds after which an idle one is ended."""
    least, most = workers
    types = {
        HEAD_TYPE: {"resources": dict(head), "node_config": {}, "min_workers": 0, "max_workers": 0},
        "worker": {"resources": dict(worker), "node_config": {}, "min_workers": least, "max_workers": most},
    }
    provider = {
        "type": "external",
        "module": f"{Machines.__module__}.{Machines.__name__}",
        "gcs_address": address,
        "head_node_id": FAKE_HEAD_NODE_ID,
        "launch_multiple": True,
    }
    commands = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
    unused: dict[str, Any] = {f"{name}_commands": [] for name in commands}
    config = {
        **unused,
        "file_mounts": {},
        "cluster_synced_files": [],
        "cluster_name": "fake",
        "provider": provider,
        "auth": {},
        "max_workers": most,
        "idle_timeout_minutes": idle / 60,
        "upscaling_speed": 100,
        "head_node_type": HEAD_TYPE,
        "available_node_types": types,
    }
    file.write_text(json.dumps(config))
    return file
