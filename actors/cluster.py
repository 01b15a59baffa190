"""The only module that imports ray: connecting, naming, resources, calls and their failures.

What a call can end in:

    a value                the method's result
    OrchestratorError      the method returned one (errors travel as values, so no traceback is logged)
    ActorGone              the process is dead; whether the call ran is unknown
    ActorSilent            no answer in time; it may be hung or alive
    ActorAway              it cannot be reached just now: it is being restarted, or its node is lost or cut off

Actors are detached and named within one namespace, and named arguments are names, not handles.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import ray
from ray._private.state import available_resources_per_node
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayActorError, RayError, RayTaskError
from ray.util.metrics import Counter, Gauge
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orchestrator.errors import OrchestratorError, Retryable

log = logging.getLogger(__name__)

REGISTRY = "Registry"
HOUSEKEEPER = "Housekeeper"
JOURNAL_PREFIX = "JournalActor-"
FACE_PREFIX = "FaceActor-"
SYSTEM_ACTOR_MEMORY = 256 * 2**20
FACE_ACTOR_MEMORY = 512 * 2**20
CONTROL_SECONDS = 10.0

T = TypeVar("T")


class ActorGone(Retryable):
    code = "actor_gone"


class ActorSilent(Retryable):
    code = "actor_silent"


class ActorAway(ActorSilent):
    code = "actor_away"


@dataclass(frozen=True, slots=True)
class Node:
    """One node of the cluster and what it declares: cpu in cores, memory in bytes."""

    node_id: str
    address: str
    alive: bool
    cpu: float
    memory: float


def connect(address: str, namespace: str) -> None:
    """Join a Ray cluster as a driver. Blocking; 0.5-2 s."""
    if not ray.is_initialized():
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # It warns when it cannot set a SIGTERM handler, which is uvicorn's here.
        logging.getLogger("ray._private.worker").setLevel(logging.ERROR)
        ray.init(
            address=address,
            namespace=namespace,
            log_to_driver=False,
            configure_logging=False,
            logging_level=30,
        )


def restore_signal_handlers() -> None:
    """Put the process's own handler of SIGTERM back: joining a cluster replaces it with one that aborts.

    To be called in the main thread.
    """
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM) or signal.SIG_DFL)


def disconnect() -> None:
    ray.shutdown()


def is_connected() -> bool:
    return ray.is_initialized()


def own_node_id() -> str:
    """The id of the node this process runs on."""
    return ray.get_runtime_context().get_node_id()


def raise_priority(niceness: int) -> None:
    """Be scheduled before actors that are starting: Ray starts every worker with niceness 15.

    Only where the process may (as root, or with RLIMIT_NICE); elsewhere nothing changes.
    """
    with contextlib.suppress(OSError):
        for thread in os.listdir("/proc/self/task"):
            os.setpriority(os.PRIO_PROCESS, int(thread), niceness)


ActorHandle = Any
"""Ray's handle of an actor; opaque outside this module."""


async def call(
    actor: ActorHandle, method: str, *args: Any, label: str | None = None, timeout: float | None = 5.0
) -> Any:
    """Call an actor's method and wait for its result. `timeout` in seconds; None waits for ever.

    Raises what the method returned as an error, ActorGone, ActorSilent or ActorAway.
    """
    bound = getattr(actor, method)
    try:
        reference = (bound.options(name=label) if label else bound).remote(*args)
        result = await (asyncio.wait_for(_value(reference), timeout) if timeout else _value(reference))
    except TimeoutError as error:
        raise ActorSilent(f"The actor did not answer {method} in time.", retry_after=1) from error
    except ActorUnavailableError as error:
        raise ActorAway("The actor cannot be reached just now.", retry_after=1) from error
    except (ActorDiedError, RayActorError) as error:
        raise ActorGone("The actor's process has ended.", retry_after=1) from error
    except RayTaskError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, OrchestratorError):
            raise cause from None
        log.error("an actor's method failed", extra={"method": method, "error": type(cause).__name__})
        raise ActorAway(f"The actor's {method} failed: {type(cause).__name__}.", retry_after=1) from error
    except RayError as error:
        raise ActorAway(f"Ray could not make the call: {type(error).__name__}.", retry_after=1) from error
    if isinstance(result, OrchestratorError):
        raise result
    return result


async def _value(reference: Any) -> Any:
    return await reference


async def run(work: Callable[..., T], *args: Any, label: str, timeout: float, retries: int = 2) -> T:
    """Run a function as a Ray task, in a process of its own, again if the process dies. `timeout` in seconds.

    It declares no resources, so that it runs on a full cluster too, and takes no interview's place.
    Raises ActorSilent (it is ended then), ActorGone, ActorAway.
    """
    options = {"name": label, "num_cpus": 0, "max_retries": retries}
    try:
        reference = _remote_function(work).options(**options).remote(*args)
    except RayError as error:
        raise ActorAway(f"Ray could not run it: {type(error).__name__}.", retry_after=1) from error
    try:
        return await asyncio.wait_for(_value(reference), timeout)
    except TimeoutError as error:
        ray.cancel(reference, force=True)
        raise ActorSilent("The task did not end in time.", retry_after=1) from error
    except RayTaskError as error:
        log.error("a task failed", extra={"label": label, "error": type(error.cause).__name__})
        raise ActorAway(f"The task failed: {type(error.cause).__name__}.", retry_after=1) from error
    except RayError as error:
        raise ActorGone(f"The task's process has ended: {type(error).__name__}.", retry_after=1) from error


async def find(name: str) -> ActorHandle | None:
    """The handle of a named actor, or None. (Ray's own look-up blocks, so it runs in a thread.)"""

    def look_up() -> ActorHandle | None:
        try:
            return ray.get_actor(name)
        except ValueError:
            return None

    return await _in_thread(look_up)


async def names() -> list[str]:
    """The names of all actors in our namespace. Raises ActorAway while Ray's control plane is away, as `find` does."""
    return await _in_thread(lambda: list(ray.util.list_named_actors()))


async def _in_thread(work: Callable[[], T]) -> T:
    """Ray's blocking calls, in a thread and not for ever. Raises ActorAway."""
    try:
        return await asyncio.wait_for(asyncio.to_thread(work), CONTROL_SECONDS)
    except (RayError, TimeoutError, ConnectionError, RuntimeError) as error:
        raise ActorAway(f"Ray's control plane does not answer: {type(error).__name__}.", retry_after=1) from error


def kill(actor: ActorHandle) -> None:
    """End an actor's process at once, for good."""
    try:
        ray.kill(actor, no_restart=True)
    except RayError:
        log.debug("the actor was gone already")


def restart(actor: ActorHandle) -> None:
    """End a process that does not answer; Ray starts the actor again, if it may."""
    with contextlib.suppress(RayError):
        ray.kill(actor, no_restart=False)


def exit_process() -> None:
    """End this actor's own process, for good, with Ray's knowledge if Ray can be reached."""
    threading.Timer(1.0, os._exit, (0,)).start()
    with contextlib.suppress(RayError):
        ray.kill(ray.get_runtime_context().current_actor, no_restart=True)


def count(name: str, description: str, **tags: str) -> None:
    """Add one to a counter that Ray's dashboard and Prometheus show."""
    _metric(Counter, name, description, tuple(tags)).inc(1, tags)


def gauge(name: str, description: str, value: float) -> None:
    """Set a figure that Ray's dashboard and Prometheus show."""
    _metric(Gauge, name, description, ()).set(value)


@lru_cache
def _metric(kind: Any, name: str, description: str, tags: tuple[str, ...]) -> Any:
    return kind(name, description=description, tag_keys=tags)


async def nodes() -> list[Node]:
    """Every node that Ray knows of."""
    found = await _in_thread(ray.nodes)
    return [
        Node(
            node["NodeID"],
            node["NodeManagerAddress"],
            bool(node["Alive"]),
            float(node["Resources"].get("CPU", 0)),
            float(node["Resources"].get("memory", 0)),
        )
        for node in found
    ]


async def free_resources() -> dict[str, tuple[float, float]]:
    """What is declared free on each live node, by its id: (cpu in cores, memory in bytes)."""
    free = await _in_thread(available_resources_per_node)
    return {node: (float(has.get("CPU", 0)), float(has.get("memory", 0))) for node, has in free.items()}


def start_interview_actor(
    name: str, cpus: float, memory: int, avoid: Collection[str] = (), hooks: Mapping[str, str] | None = None
) -> ActorHandle:
    """Start one actor for one interview, anywhere but on the nodes to avoid. Returns before it is up."""
    from actors.interview import InterviewActor

    options: dict[str, Any] = {
        "name": name,
        "lifetime": "detached",
        "num_cpus": cpus,
        "memory": memory,
        "max_restarts": 0,
        "max_task_retries": 0,
        "max_concurrency": 100,
    }
    if avoid:
        options["label_selector"] = {"ray.io/node-id": f"!in({','.join(sorted(avoid))})"}
    return _remote_class(InterviewActor).options(**options).remote(name, hooks=hooks)


async def ensure_registry() -> ActorHandle:
    """The cluster's Registry, started if there is none."""
    from actors.registry import Registry

    return await _ensure(Registry, REGISTRY, 0.2)


async def ensure_housekeeper() -> ActorHandle:
    """The cluster's Housekeeper, started if there is none."""
    from actors.housekeeper import Housekeeper

    return await _ensure(Housekeeper, HOUSEKEEPER, 0.1)


async def ensure_journal(node_id: str) -> ActorHandle:
    """The JournalActor of one node, started there if there is none."""
    from actors.journal import JournalActor

    return await _ensure(JournalActor, f"{JOURNAL_PREFIX}{node_id[:12]}", 0.1, node_id=node_id)


async def ensure_face_actor(number: int, of: int, cpus: float) -> ActorHandle:
    """One of the actors that look at stills, started if it is not there."""
    from actors.faces import FaceActor

    return await _ensure(FaceActor, f"{FACE_PREFIX}{number}-of-{of}", cpus, args=(number, of), memory=FACE_ACTOR_MEMORY)


async def _ensure(
    actor_class: type,
    name: str,
    cpus: float,
    node_id: str | None = None,
    args: tuple[Any, ...] = (),
    memory: int = SYSTEM_ACTOR_MEMORY,
) -> ActorHandle:
    options: dict[str, Any] = {
        "name": name,
        "get_if_exists": True,
        "lifetime": "detached",
        "num_cpus": cpus,
        "memory": memory,
        "max_restarts": -1,
        "max_task_retries": 0,
        "max_concurrency": 10_000,
    }
    if node_id is not None:
        options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node_id, soft=False)

    def ensure() -> ActorHandle:
        try:
            return ray.get_actor(name)
        except ValueError:
            return _remote_class(actor_class).options(**options).remote(name, *args)

    return await _in_thread(ensure)


@lru_cache
def _remote_function(work: Callable[..., Any]) -> Any:
    return ray.remote(work)


@lru_cache
def _remote_class(actor_class: type) -> Any:
    """Ray's version of a class. Making one takes tens of ms: hundreds of actors in trouble must not do so at once."""
    return ray.remote(actor_class)
