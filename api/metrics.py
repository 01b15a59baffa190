"""What /metrics tells: the HTTP side of the front ends, for Prometheus.

`serve` gives its front ends one folder (PROMETHEUS_MULTIPROC_DIR), in which each keeps what it counts; whichever of
them is asked answers for all. A front end by itself keeps it in memory. What a front end that has ended had counted
stays counted; what it had under way is forgotten.
"""

from __future__ import annotations

import os
import time
from http import HTTPStatus
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from actors import metrics
from actors.channels import Channels

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
PREFIX = "interview_http_"
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
NO_ROUTE = "none"
"""The route of requests to addresses that there are not."""


class HttpMetrics:
    """The figures of one front end."""

    def __init__(self) -> None:
        self._folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        self.registry = CollectorRegistry()
        of_route = ("route", "method")
        self.requests = self._counter("requests_total", "Requests answered.", *of_route, "status")
        self.seconds = Histogram(
            f"{PREFIX}request_seconds",
            "From a request until its answer is sent.",
            of_route,
            registry=self.registry,
            buckets=BUCKETS,
        )
        self.in_flight = self._gauge("requests_in_flight", "Requests being answered.", "livesum")
        self.rate_limited = self._counter("rate_limited_total", "Requests answered 429.")
        self.wrong_credentials = self._counter("wrong_credentials_total", "Keys and tokens that were not good.")
        self.channels = self._gauge("live_channels", "Live channels (WebSockets), by role.", "livesum", "role")
        self.loop_lag = self._gauge("loop_lag_seconds", "Longest delay of an event loop lately.", "livemax")

    def _counter(self, name: str, help: str, *labels: str) -> Counter:
        return Counter(PREFIX + name, help, labels, registry=self.registry)

    def _gauge(self, name: str, help: str, mode: Any, *labels: str) -> Gauge:
        return Gauge(PREFIX + name, help, labels, registry=self.registry, multiprocess_mode=mode)

    def text(self) -> bytes:
        """All figures in Prometheus' text format, of all front ends of this `serve`."""
        if self._folder is None:
            return generate_latest(self.registry)
        for pid in _gone(Path(self._folder)):
            multiprocess.mark_process_dead(pid, self._folder)
        together = CollectorRegistry()
        multiprocess.MultiProcessCollector(together, self._folder)
        return generate_latest(together)

    async def report(self, channels: Channels) -> None:
        """Keep the gauges fresh, here and in Ray. Does not end."""
        lag = metrics.Lag()
        while True:
            late = await lag.tick()
            self.loop_lag.set(late)
            metrics.gauge(metrics.LOOP_LAG, late, process="front end")
            metrics.gauges(metrics.CHANNELS, "role", channels.open_now)
            for role, number in channels.open_now.items():
                self.channels.labels(role).set(number)


def _gone(folder: Path) -> set[int]:
    """Pids of front ends that have left gauges behind."""
    pids = {int(path.stem.rpartition("_")[2]) for path in folder.glob("gauge_live*_*.db")}
    return {pid for pid in pids if not Path(f"/proc/{pid}").exists()}


class CountRequests:
    """Counts every request by its route's template, with its answer's status class and the time it took."""

    def __init__(self, app: ASGIApp, figures: HttpMetrics) -> None:
        self._app = app
        self._figures = figures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = HTTPStatus.INTERNAL_SERVER_ERROR.value  # what is answered to an exception, outside of here
        began = time.perf_counter()

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._figures.in_flight.inc()
        try:
            await self._app(scope, receive, noted)
        finally:
            self._figures.in_flight.dec()
            self._count(scope, status, time.perf_counter() - began)

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", NO_ROUTE)
        method = scope["method"] if scope["method"] in METHODS else "other"
        self._figures.requests.labels(route, method, f"{status // 100}xx").inc()
        self._figures.seconds.labels(route, method).observe(seconds)
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            self._figures.rate_limited.inc()
