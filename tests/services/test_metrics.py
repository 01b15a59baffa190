"""Real figures of a real service in a real Prometheus: every panel of the dashboard shows something, every alert can be
evaluated, and an operator finds an interview in Ray's dashboard."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from playwright.async_api import async_playwright
from websockets.asyncio.client import connect

from orchestrator.storage.embedded import die_with_parent, free_port
from tests.chaos.processes import interview_actors
from tests.cluster.candidate import Candidate
from tests.documents import ROOT
from tests.receiver import Receiver, receiving
from tests.servers import Serve, cannot_run

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]

KEY = "metrics-key-of-32-characters-and-more"
STAFF = {"X-API-Key": KEY}
RULES = ROOT / "deploy/prometheus/alerts.yml"
CONFIG = ROOT / "deploy/prometheus/prometheus.yml"
DASHBOARD = ROOT / "deploy/grafana/interviews.json"
SHOTS = os.environ.get("INTERVIEW_SCREENSHOTS")
WAIT_SECONDS = 120


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    service = Serve(
        tmp_path_factory.mktemp("metrics"),
        INTERVIEW_API_KEY=KEY,
        INTERVIEW_WARM_ACTORS="2",
        INTERVIEW_WEBHOOK_PRIVATE_ADDRESSES="true",
        RAY_metrics_report_interval_ms="1000",
    )
    try:
        service.start("--workers", "2")
        yield service
    finally:
        service.stop()


@pytest.fixture
async def http(service: Serve) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=service.api, timeout=30, headers=STAFF) as http:
        yield http


def promtool(*arguments: str | Path, cwd: Path | None = None) -> str:
    if shutil.which("promtool") is None:
        cannot_run("promtool is not here; .ci/install-packages installs Debian's prometheus", needs="apt-get")
    done = subprocess.run(["promtool", *arguments], cwd=cwd, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Prometheus:
    """Debian's Prometheus over our own configuration, with our addresses in it."""

    def __init__(self, folder: Path, service: Serve) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self._folder = folder
        (folder / "key").write_text(KEY)
        config = yaml.safe_load(CONFIG.read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "2s"}
        config["rule_files"] = [str(RULES)]
        ray, front_ends = config["scrape_configs"]
        ray["file_sd_configs"] = [{"files": [service.note["prometheus_targets"]], "refresh_interval": "1s"}]
        front_ends["authorization"]["credentials_file"] = str(folder / "key")
        front_ends["static_configs"] = [{"targets": [f"127.0.0.1:{service.port}"]}]
        self.config = folder / "prometheus.yml"
        self.config.write_text(yaml.safe_dump(config))

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        command = ["prometheus", f"--config.file={self.config}", f"--storage.tsdb.path={self._folder / 'tsdb'}"]
        command += [f"--web.listen-address={self.url.removeprefix('http://')}", "--log.level=warn"]
        with open(self._folder / "prometheus.log", "ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=die_with_parent)
        try:
            yield
        finally:
            process.terminate()
            process.wait(20)

    async def get(self, path: str, **params: str) -> Any:
        async with httpx.AsyncClient(base_url=self.url, timeout=10) as http:
            response = await http.get(f"/api/v1/{path}", params=params)
        return response.raise_for_status().json()["data"]

    async def has(self, query: str) -> bool:
        """Whether a query has an answer that is a number."""
        with contextlib.suppress(httpx.HTTPError):  # it is only starting
            found = (await self.get("query", query=query))["result"]
            return any(one["value"][1] != "NaN" for one in found)
        return False


def queries() -> dict[str, str]:
    """Every panel's queries, by the panel's title and the query's letter."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return {f"{panel['title']} {t['refId']}": t["expr"] for panel in panels for t in panel.get("targets", ())}


async def until_all(prometheus: Prometheus, wanted: dict[str, str]) -> dict[str, str]:
    """Those that have no answer in time."""
    give_up = time.monotonic() + WAIT_SECONDS
    while wanted and time.monotonic() < give_up:
        wanted = {name: query for name, query in wanted.items() if not await prometheus.has(query)}
        await asyncio.sleep(0.5)
    return wanted


async def one_interview(http: httpx.AsyncClient, service: Serve, *, kill: bool) -> None:
    """Two questions answered, with a pause, and perhaps a crash; the time of the last one runs out."""
    candidate = Candidate(http)
    await candidate.create(3, text_question_timer=5)
    await candidate.start()
    await candidate.post("pause")
    await candidate.post("resume")
    await candidate.answer(0, "one")
    if kill:
        actor = (await candidate.session())["placement"]["actor"]
        os.kill(interview_actors(service)[actor], signal.SIGKILL)
    await candidate.answer_at_last(1, "two", "a2")
    url = f"ws://127.0.0.1:{service.port}/ws/interview?session_id={candidate.session_id}&token={KEY}&role=observer"
    async with asyncio.timeout(60), connect(url) as channel:
        async for text in channel:
            if json.loads(text)["type"] == "completed":
                return


async def load(http: httpx.AsyncClient, service: Serve) -> None:
    """Interviews until it is cancelled; every second one loses its actor."""
    for number in range(1_000):
        with contextlib.suppress(httpx.HTTPError, AssertionError):
            await one_interview(http, service, kill=number % 2 == 0)


def test_rules_and_configuration_are_good(tmp_path: Path) -> None:
    assert "SUCCESS" in promtool("check", "rules", RULES)
    assert "SUCCESS" in promtool("check", "config", "--syntax-only", CONFIG)
    promtool("test", "rules", ROOT / "tests/fixtures/alerts_test.yml", cwd=ROOT)


async def test_every_panel_shows_something(service: Serve, http: httpx.AsyncClient, tmp_path: Path) -> None:
    if shutil.which("prometheus") is None:
        cannot_run("prometheus is not here; .ci/install-packages installs Debian's", needs="apt-get")
    prometheus = Prometheus(tmp_path, service)
    promtool("check", "config", prometheus.config)
    async with receiving() as receiver:
        await add_webhook(http, receiver)
        with prometheus.running():
            work = asyncio.create_task(load(http, service))
            try:
                assert await until_all(prometheus, queries()) == {}
                await check_rules(prometheus)
            finally:
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)
            await check_scrapes(service)


async def add_webhook(http: httpx.AsyncClient, receiver: Receiver) -> None:
    answer = await http.post("/webhooks", json={"url": receiver.url})
    assert answer.status_code == 200, answer.text
    receiver.secrets.append(answer.json()["webhook"]["secret"])


async def check_rules(prometheus: Prometheus) -> None:
    """All were evaluated, and none of those that mean that all is lost fires."""
    give_up = time.monotonic() + 30
    rules: list[dict[str, Any]] = []
    while time.monotonic() < give_up:
        rules = [rule for group in (await prometheus.get("rules"))["groups"] for rule in group["rules"]]
        if all(rule["health"] != "unknown" for rule in rules):
            break
        await asyncio.sleep(0.5)
    assert rules and [rule["name"] for rule in rules if rule["health"] != "ok"] == []
    firing = {rule["name"] for rule in rules if rule["state"] == "firing"}
    assert firing.isdisjoint({"FrontEndDown", "RegistryAway", "SessionsParked", "JournalFailing"})


async def check_scrapes(service: Serve) -> None:
    """Whichever front end answers, it tells of all of them, and one that has died takes nothing along."""
    url = f"{service.url}/metrics"
    async with httpx.AsyncClient(timeout=10) as http:
        assert (await http.get(url)).status_code == 401
        assert (await http.get(url, headers={"Authorization": f"Bearer {KEY}x"})).status_code == 401

    async def health_checks() -> float:
        async with httpx.AsyncClient(timeout=10, headers=STAFF) as http:  # a connection of its own: any front end
            text = (await http.get(url)).text
        name = 'interview_http_requests_total{method="GET",route="/healthz",status="2xx"}'
        return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))

    before = await health_checks()
    for _ in range(20):
        async with httpx.AsyncClient(timeout=10) as http:
            assert (await http.get(f"{service.url}/healthz")).is_success
    assert {await health_checks() for _ in range(10)} == {before + 20}


async def test_an_interview_is_found_in_rays_dashboard(service: Serve, http: httpx.AsyncClient) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        cannot_run("chromium is not here; .ci/install-packages installs Debian's", needs="apt-get")
    candidate = Candidate(http)
    created = await candidate.create(2)
    placement = (await candidate.start())["placement"]
    assert placement["dashboard_url"].startswith(service.note["dashboard"] + "/#/actors/")
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {created['candidate_token']}"}) as own:
        mine = (await own.get(f"{service.api}/session/{candidate.session_id}")).json()["session"]
        assert "placement" not in mine and "dashboard" not in json.dumps(mine)
    token = Path(service.note["environment"]["RAY_AUTH_TOKEN_PATH"]).read_text()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = await browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(45_000)
        await page.goto(placement["dashboard_url"])
        await page.get_by_role("dialog").locator("input").fill(token)
        await page.get_by_role("dialog").get_by_role("button", name="Submit").click()
        await page.get_by_text(placement["actor"]).first.wait_for()
        await page.get_by_text("Tasks History").click()
        await page.get_by_text(f"interview {candidate.session_id}: run").first.wait_for()
        if SHOTS:
            await page.screenshot(path=Path(SHOTS) / "ray-actor.png", full_page=True)
        await browser.close()
    lines = logged(service, placement["actor"])
    assert any(line["message"] == "activated" for line in lines)
    assert all({"session_id", "epoch", "actor"} <= line.keys() for line in lines)
    assert {line["session_id"] for line in lines} == {candidate.session_id}
    await candidate.post("end")


def logged(service: Serve, actor: str) -> list[dict[str, Any]]:
    """What an actor has logged, from Ray's log files."""
    folder = Path(service.note["prometheus_targets"]).parent / "session_latest" / "logs"
    lines = [line for file in folder.glob("worker-*.err") for line in file.read_text(errors="replace").splitlines()]
    found = [json.loads(line) for line in lines if line.startswith("{")]
    return [line for line in found if line.get("actor") == actor]
