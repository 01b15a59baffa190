"""The dashboard, the alerts and the documents speak of figures that there are, and figures are what they are called."""

from __future__ import annotations

import json
import logging
import re
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from actors import metrics
from actors.clock import wall_ms
from actors.interview import Activation, InterviewActor
from api.metrics import HttpMetrics
from orchestrator.errors import StateConflict, Unavailable
from orchestrator.interview.entry import new_entry
from orchestrator.logs import JsonFormatter
from tests.documents import ROOT
from tests.unit.api_world import serving

DASHBOARD = json.loads((ROOT / "deploy/grafana/interviews.json").read_text())
RULES = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"][0]["rules"]
OPERATING = (ROOT / "docs/OPERATING.md").read_text()
NAME = re.compile(r"\b(?:ray_)?interview_\w+")
UNITS = {"counter": r"_total$", "histogram": r"_(seconds|entries)$", "gauge": r"(?<!_total)$"}


def known() -> set[str]:
    """Every name that Prometheus can have of us."""
    names: set[str] = set()
    for metric in metrics.ALL:
        parts = ("_bucket", "_count", "_sum") if metric.kind == "histogram" else ("",)
        names |= {f"ray_{metric.name}{part}" for part in parts}
    for family in HttpMetrics().registry.collect():
        suffixes = {"histogram": ("_bucket", "_count", "_sum"), "counter": ("_total",)}.get(family.type, ("",))
        names |= {family.name + suffix for suffix in suffixes}
    return names


def expressions() -> list[str]:
    panels = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
    return [*panels, *(rule["expr"] for rule in RULES)]


def test_the_dashboard_and_the_alerts_ask_for_what_there_is() -> None:
    asked = {name for expression in expressions() for name in NAME.findall(expression)}
    assert len(asked) > 25 and asked - known() == set()


def test_every_figure_is_in_the_runbook_and_in_a_panel() -> None:
    names = {metric.name for metric in metrics.ALL}
    assert {name for name in names if f"`{name}`" not in OPERATING} == set()
    shown = " ".join(expressions())
    assert {name for name in names if f"ray_{name}" not in shown} == {metrics.STILLS_CHECKED.name}


def test_the_dashboard_can_be_imported() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids)) and DASHBOARD["schemaVersion"] >= 27 and DASHBOARD["uid"]
    [variable] = DASHBOARD["templating"]["list"]
    assert (variable["type"], variable["query"], variable["name"]) == ("datasource", "prometheus", "datasource")
    panels = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    assert all(panel["datasource"]["uid"] == "${datasource}" and panel["targets"] for panel in panels)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_says_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["annotations"]["runbook"] == f"docs/OPERATING.md#{rule['alert'].lower()}"
    assert f"\n### {rule['alert']}\n" in OPERATING
    assert rule["labels"]["severity"] in ("critical", "warning") and rule["annotations"]["summary"].endswith(".")


@pytest.mark.parametrize("metric", metrics.ALL, ids=lambda metric: metric.name)
def test_names_are_as_prometheus_wants_them(metric: metrics.Metric) -> None:
    assert re.fullmatch(r"interview_[a-z]+(_[a-z]+)*", metric.name) and metric.help.endswith(".")
    assert re.search(UNITS[metric.kind], metric.name)
    assert bool(metric.buckets) == (metric.kind == "histogram") and list(metric.buckets) == sorted(metric.buckets)
    assert not {"session", "session_id", "actor", "candidate", "email"} & set(metric.labels)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float, dict[str, str]]]:
    found: list[tuple[str, float, dict[str, str]]] = []
    monkeypatch.setattr(
        "actors.cluster.record",
        lambda kind, name, help, labels, buckets, value, tags: found.append((name, value, tags)),
    )
    return found


def test_entries_tell_of_late_timers_and_of_credit(recorded: list[Any]) -> None:
    events = [
        {"type": "clock_credited", "ms": 2_500, "cause": "crash", "until": 1},
        {"type": "question_closed", "index": 0, "answer": "", "late_by": 300},
        {"type": "question_closed", "index": 1, "answer": 'not "clock_credited", nor "late_by":1'},
    ]
    metrics.note_entry(new_entry("s1", 1, 1, 0, events).body)
    metrics.note_entry(new_entry("s1", 4, 1, 0, events[2:]).body)
    assert recorded == [
        ("interview_credited_seconds_total", 2.5, {"cause": "crash"}),
        ("interview_timer_lateness_seconds", 0.3, {}),
    ]


def test_commands_are_told_apart_by_what_became_of_them(recorded: list[Any]) -> None:
    for outcome, error in (
        ("refused", StateConflict("no")),
        ("retryable", Unavailable("no")),
        ("failed", ValueError()),
    ):
        with pytest.raises(type(error)), metrics.timed("answer"):
            raise error
        assert recorded[-1][2] == {"command": "answer", "outcome": outcome}
    with metrics.timed("answer") as one:
        one.replayed = True
    assert recorded[-1][2]["outcome"] == "replayed" and recorded[-1][0] == "interview_command_seconds"


async def test_requests_are_counted_by_their_route() -> None:
    async with serving() as (_, http, _):
        session_id = "00000000-0000-4000-8000-000000000000"
        for path in ("/healthz", f"/api/parallel_interview/session/{session_id}", "/nothing/here", "/nothing/there"):
            await http.get(path)
        answer = await http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert session_id not in answer.text and "nothing" not in answer.text
    samples = [sample for family in text_string_to_metric_families(answer.text) for sample in family.samples]
    counted = {
        (s.labels["route"], s.labels["status"]): s.value for s in samples if s.name == "interview_http_requests_total"
    }
    assert counted[("/healthz", "2xx")] == 1 and counted[("none", "4xx")] == 2
    assert counted[("/api/parallel_interview/session/{session_id}", "4xx")] == 1
    assert next(s.value for s in samples if s.name == "interview_http_requests_in_flight") == 1, "this one"


class Silent:
    """A journal that nobody reaches."""

    async def load(self, session_id: str) -> None:
        raise ValueError("a fault of ours")


async def test_every_line_of_an_interview_actor_says_whose_it_is(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    actor = InterviewActor("InterviewActor-0001", Silent(), "node", wall_ms)  # pyright: ignore[reportArgumentType]
    formatter = JsonFormatter(actor.log_fields)
    await actor.run(Activation("s1", None, "start"))
    logging.getLogger("somebody.else").warning("a line\nof another\u2028library")
    lines = [formatter.format(record) for record in caplog.records]
    assert len(lines) >= 2 and all(len(line.splitlines()) == 1 and line.isascii() for line in lines)
    for line in map(json.loads, lines):
        assert {"time", "level", "logger", "message", "actor", "session_id", "epoch"} <= line.keys()
        assert (line["actor"], line["session_id"]) == ("InterviewActor-0001", "s1")
    assert any("a fault of ours" in json.loads(line).get("exception", "") for line in lines)
