"""What operators look at: stats, the cluster, health and readiness."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from api.routes.sessions import Client
from api.security import Staff

router = APIRouter(tags=["operations"])


@router.get("/api/parallel_interview/stats")
async def stats(client: Client, caller: Staff) -> dict[str, Any]:
    """Sessions by state and end reason, and what the cluster holds."""
    await client.catch_up()
    stored = await client.store.stats()
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
        "by_end_reason": ends,
        **actors,
    }
    return {"status": "success", "stats": figures}


@router.get("/api/parallel_interview/cluster")
async def cluster(client: Client, caller: Staff) -> dict[str, Any]:
    """Live and warm actors, capacity, and the nodes."""
    return {"status": "success", "cluster": await client.cluster()}


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """This process answers."""
    return {"status": "success"}


@router.get("/readyz")
async def readyz(client: Client) -> Response:
    """Whether MongoDB and Ray answer."""
    parts = await client.ready()
    ready = all(parts.values())
    body = {"status": "success" if ready else "unavailable", **parts}
    return JSONResponse(body, 200 if ready else 503, {} if ready else {"Retry-After": "1"})
