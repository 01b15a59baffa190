"""What operators look at: stats, the cluster, health and readiness."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from api.answers import work as views
from api.described import answers
from api.metrics import CONTENT_TYPE, HttpMetrics
from api.routes.sessions import Client
from api.schemas import DrainBody, RecoverBody
from api.security import Admin, Reader

FIGURES = {"type": "string", "description": "Prometheus' text format."}

router = APIRouter(tags=["operations"])


@router.get("/api/parallel_interview/stats")
@answers(views.StatsAnswer)
async def get_stats(client: Client, caller: Reader) -> dict[str, Any]:
    """Sessions by state and end reason, and what the cluster holds.

    With tens of thousands of sessions the figures may be some seconds old.
    """
    await client.catch_up()
    stored = await client.figures.get()
    actors = await client.actor_counts()
    states, ends = stored["by_status"], stored["by_end_reason"]
    completed, finished = states.get("completed", 0), ends.get("finished", 0)
    durations = stored["duration_count"]
    average = stored["duration_ms_sum"] / durations / 1000 if durations else 0
    figures = {
        "total_sessions": sum(states.values()),
        "initialized_sessions": states.get("initialized", 0),
        "active_sessions": states.get("in_progress", 0),
        "completed_sessions": completed,
        "average_duration_seconds": round(average, 3),
        "completion_rate": round(finished / completed, 4) if completed else 0,
        "parked_sessions": stored["parked"],
        "by_end_reason": ends,
        **actors,
    }
    return {"status": "success", "stats": figures}


@router.get("/api/parallel_interview/cluster")
@answers(views.ClusterAnswer)
async def get_cluster(client: Client, caller: Reader) -> dict[str, Any]:
    """Live and warm actors, capacity, and the nodes."""
    return {"status": "success", "cluster": await client.cluster()}


@router.post("/api/parallel_interview/cluster/drain")
@answers(views.DrainAnswer, 404)
async def drain_node(body: DrainBody, client: Client, caller: Admin) -> dict[str, Any]:
    """Empty a node of live interviews and place none there, or (`draining: false`) take it into use again.

    Answers at once; repeat it to see how many interviews are still there.
    """
    left = await client.drain(body.node, body.draining)
    return {"status": "success", "node": body.node, "draining": body.draining, "live_interviews": left or 0}


@router.post("/api/parallel_interview/cluster/recover")
@answers(views.RecoverAnswer)
async def recover_sessions(client: Client, caller: Admin, body: RecoverBody | None = None) -> dict[str, Any]:
    """Take up every interview in progress that no actor holds, soonest deadline first; or only show them."""
    found = await client.recover(body is not None and body.dry_run)
    return {"status": "success", "sessions": [{"session_id": s, "outcome": outcome} for s, outcome in found.items()]}


@router.get("/metrics")
@answers(None, media={"text/plain": FIGURES})
async def get_metrics(request: Request, caller: Reader) -> Response:
    """The HTTP side of this service's front ends, for Prometheus. What actors do is told by Ray's own targets."""
    figures: HttpMetrics = request.app.state.metrics
    text = await asyncio.to_thread(figures.text)
    return Response(text, media_type=CONTENT_TYPE)


@router.get("/healthz")
@answers(views.Alive)
async def check_health() -> dict[str, str]:
    """This process answers."""
    return {"status": "success"}


@router.get("/readyz")
@answers(views.Ready, models={503: views.NotReady})
async def check_readiness(request: Request, client: Client) -> Response:
    """Whether MongoDB and Ray answer, and this front end is not on its way out; and how it stands with LiveKit.

    Without LiveKit interviews run without video, so it does not make the service unready.
    """
    parts = await client.ready()
    draining = bool(request.app.state.draining)
    ready = all(parts.values()) and not draining
    body = {"status": "success" if ready else "unavailable", **parts, "livekit": client.livekit.status}
    if draining:
        body["draining"] = True
    return JSONResponse(body, 200 if ready else 503, {} if ready else {"Retry-After": "1"})
