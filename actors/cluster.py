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
import math
import os
import signal
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, TypeVar

import ray
from ray._private.state import available_resources_per_node, state, total_resources_per_node
from ray._private.worker import global_worker
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayActorError, RayError, RayTaskError
from ray.util.metrics import Counter, Gauge, Histogram
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.scaling import Amount, NodeRoom
from orchestrator.errors import OrchestratorError, Retryable

log = logging.getLogger(__name__)

REGISTRY = "Registry"
HOUSEKEEPER = "Housekeeper"
JOURNAL_PREFIX = "JournalActor-"
FACE_PREFIX = "FaceActor-"
SYSTEM_ACTOR_MEMORY = 256 * 2**20
FACE_ACTOR_MEMORY = 512 * 2**20
CONTROL_SECONDS = 10.0
HEAD = "node:__internal_head__"
"""A resource that Ray gives to the head node, and only to it."""

T = TypeVar("T")

CONTROL_THREADS = 32
_threads = ThreadPoolExecutor(CONTROL_THREADS, thread_name_prefix="ray-control")
_waiting = 0


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
        _listen_to_no_errors()


def _listen_to_no_errors() -> None:
    """End the thread that prints the cluster's errors to a driver's console: while the head is away it asks without a
    pause, and takes most of a core from each front end just then. (Ray has no setting for it; seen with 2.60.)"""
    stopped = getattr(global_worker, "threads_stopped", None)
    if stopped is not None:
        stopped.set()


def restore_signal_handlers() -> None:
    """Put the process's own handler of SIGTERM back: joining a cluster replaces it with one that aborts.

    To be called in the main thread.
    """
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM) or signal.SIG_DFL)


def disconnect() -> None:
    ray.shutdown()


def is_connected() -> bool:
    return ray.is_initialized()


def own_actor_id() -> str:
    """Ray's id of the actor that this process is, in hexadecimal: its dashboard knows actors by it."""
    return ray.get_runtime_context().get_actor_id() or ""


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
    """Ray's blocking calls, in a thread and not for ever. Raises ActorAway.

    The threads are these calls' own: while Ray's control plane is away they hang in it, and others must not wait.
    """
    global _waiting
    if _waiting >= CONTROL_THREADS:
        raise ActorAway("Ray's control plane does not answer: too many calls wait for it.", retry_after=1)
    future = asyncio.get_running_loop().run_in_executor(_threads, work)
    _waiting += 1
    future.add_done_callback(_has_returned)
    try:
        return await asyncio.wait_for(asyncio.shield(future), CONTROL_SECONDS)
    except (RayError, TimeoutError, ConnectionError, RuntimeError) as error:
        raise ActorAway(f"Ray's control plane does not answer: {type(error).__name__}.", retry_after=1) from error


def _has_returned(future: asyncio.Future[Any]) -> None:
    global _waiting
    _waiting -= 1
    if not future.cancelled():
        future.exception()  # whoever waited has it, or has gone


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


def record(
    kind: str,
    name: str,
    description: str,
    labels: tuple[str, ...],
    buckets: tuple[float, ...],
    value: float,
    tags: Mapping[str, str],
) -> None:
    """Add to a counter, set a gauge, or enter a value into a histogram (upper bounds `buckets`). Some 2 us.

    Ray's dashboard and Prometheus show it. (By `_record`, since `inc` refuses the 0 with which a counter begins.)
    """
    _metric(kind, name, description, labels, buckets)._record(value, dict(tags))


@lru_cache
def _metric(kind: str, name: str, description: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> Any:
    if kind == "histogram":
        return Histogram(name, description, list(buckets), labels)
    return (Counter if kind == "counter" else Gauge)(name, description, labels)


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


async def rooms(resource: str | None) -> dict[str, NodeRoom]:
    """What each live node declares and has free, by its id. `resource`: what only nodes for interviews declare."""

    def amount(has: Mapping[str, float]) -> Amount:
        own = float(has.get(resource, 0)) if resource else math.inf
        return Amount(float(has.get("CPU", 0)), float(has.get("memory", 0)), own)

    def look() -> dict[str, NodeRoom]:
        free, total = available_resources_per_node(), total_resources_per_node()
        return {
            node: NodeRoom(amount(total[node]), amount(free[node]), HEAD in total[node]) for node in free & total.keys()
        }

    return await _in_thread(look)


async def ending_nodes() -> set[str]:
    """Ids of the nodes that Ray itself is about to end: idle ones, and those whose machine is being taken away."""
    return set(await _in_thread(state.get_draining_nodes))


async def request_total(pieces: Sequence[tuple[Amount, int]], resource: str | None) -> None:
    """Tell Ray's autoscaler what the cluster has to declare in all, as (amount, how often); nothing: no matter what.

    Without an autoscaler it is noted and nothing else happens. Raises ActorAway.
    """

    def bundle(amount: Amount) -> dict[str, float]:
        parts = {"CPU": amount.cpu, "memory": math.ceil(amount.memory)}
        return {name: size for name, size in (parts | ({resource: amount.own} if resource else {})).items() if size > 0}

    def request() -> None:
        from ray.autoscaler.sdk import request_resources  # some MB that no interview needs

        wanted = [bundle(amount) for amount, count in pieces for _ in range(count)]
        request_resources(bundles=[parts for parts in wanted if parts])

    await _in_thread(request)


async def request_is_infeasible() -> bool:
    """Whether Ray's autoscaler says that it cannot meet the last request. (The older one does what it can.)"""

    def look() -> bool:
        from ray.autoscaler.v2.utils import is_autoscaler_v2
        from ray.core.generated import autoscaler_pb2
        from ray.experimental.internal_kv import internal_kv_get_gcs_client

        gcs: Any = internal_kv_get_gcs_client()
        if not is_autoscaler_v2():
            return False
        reply: Any = autoscaler_pb2.GetClusterStatusReply()  # pyright: ignore[reportAttributeAccessIssue]
        reply.ParseFromString(gcs.get_cluster_status(timeout_s=CONTROL_SECONDS / 2))
        return bool(reply.autoscaling_state.infeasible_cluster_resource_constraints)

    return await _in_thread(look)


def start_interview_actor(
    name: str,
    cpus: float,
    memory: int,
    avoid: Collection[str] = (),
    hooks: Mapping[str, str] | None = None,
    resource: str | None = None,
    dashboard: str | None = None,
    *,
    spread: bool = False,
) -> ActorHandle:
    """Start one actor for one interview, anywhere but on the nodes to avoid. Returns before it is up.

    `resource`: what only nodes for interviews declare, and of which it takes 1. `dashboard`: the address of Ray's
    dashboard, if people can reach it. `spread`: over the nodes in turn, instead of filling one to half before the next.
    """
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
    if resource:
        options["resources"] = {resource: 1}
    if spread:
        options["scheduling_strategy"] = "SPREAD"
    if avoid:
        options["label_selector"] = {"ray.io/node-id": f"!in({','.join(sorted(avoid))})"}
    return _remote_class(InterviewActor).options(**options).remote(name, hooks=hooks, dashboard=dashboard)


async def ensure_registry() -> ActorHandle:
    """The cluster's Registry, started on the head if there is none."""
    from actors.registry import Registry

    return await _ensure(Registry, REGISTRY, 0.2, partial(_on_head, 0.2))


async def ensure_housekeeper() -> ActorHandle:
    """The cluster's Housekeeper, started on the head if there is none."""
    from actors.housekeeper import Housekeeper

    return await _ensure(Housekeeper, HOUSEKEEPER, 0.1, partial(_on_head, 0.1))


async def ensure_journal(node_id: str) -> ActorHandle:
    """The JournalActor of one node, started there if there is none."""
    from actors.journal import JournalActor

    return await _ensure(JournalActor, _journal_name(node_id), 0.1, lambda: _on_node(node_id, soft=False))


async def ensure_face_actor(number: int, of: int, cpus: float) -> ActorHandle:
    """One of the actors that look at stills, started if it is not there."""
    from actors.faces import FaceActor

    name = f"{FACE_PREFIX}{number}-of-{of}"
    return await _ensure(FaceActor, name, cpus, _near_head, (number, of), FACE_ACTOR_MEMORY)


async def end_journal(node_id: str) -> None:
    """End the JournalActor of a node that holds no interviews, so that nothing of ours is left on it."""
    journal = await find(_journal_name(node_id))
    if journal is not None:
        kill(journal)


def _journal_name(node_id: str) -> str:
    return f"{JOURNAL_PREFIX}{node_id[:12]}"


async def _ensure(
    actor_class: type,
    name: str,
    cpus: float,
    place: Callable[[], dict[str, Any]],
    args: tuple[Any, ...] = (),
    memory: int = SYSTEM_ACTOR_MEMORY,
) -> ActorHandle:
    """A system actor by its name, started if there is none. `place`: the options that say where.

    Nodes that hold interviews come and go; nothing that stays belongs on them.
    """
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

    def ensure() -> ActorHandle:
        try:
            return ray.get_actor(name)
        except ValueError:
            return _remote_class(actor_class).options(**options | place()).remote(name, *args)

    return await _in_thread(ensure)


def _on_head(cpus: float) -> dict[str, Any]:
    """Options that place an actor on the head, whichever node that is when it is restarted.

    Where the head declares no CPUs, so that nothing else is placed there, none are taken of it.
    """
    head = next((total for total in total_resources_per_node().values() if HEAD in total), {})
    return {"resources": {HEAD: 0.001}, "num_cpus": cpus if head.get("CPU") else 0} if head else {}


def _on_node(node_id: str, *, soft: bool) -> dict[str, Any]:
    """Options that place an actor on a node; `soft`: elsewhere if there is no room."""
    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node_id, soft=soft)}


def _near_head() -> dict[str, Any]:
    """Options that place an actor on the head if it has room."""
    head = next((node for node, total in total_resources_per_node().items() if HEAD in total), None)
    return _on_node(head, soft=True) if head else {}


@lru_cache
def _remote_function(work: Callable[..., Any]) -> Any:
    return ray.remote(work)


@lru_cache
def _remote_class(actor_class: type) -> Any:
    """Ray's version of a class. Making one takes tens of ms: hundreds of actors in trouble must not do so at once."""
    return ray.remote(actor_class)
