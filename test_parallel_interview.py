"""Tries a running service: `--test` goes through the whole life of sessions, and without it there is a menu.

    python test_parallel_interview.py --test                    every check with its result; exits with 1 if one failed
    python test_parallel_interview.py                           list, create, take, watch, and look at interviews

    --base-url http://localhost:8005    --api-key (or INTERVIEW_API_KEY): a staff key, if the service has one

Exit codes of `--test`: 0 all is well, 1 a check failed, 2 the service cannot be used at all. What it makes it removes.
"""

from __future__ import annotations

import argparse
import codecs
import contextlib
import os
import select
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

try:
    import httpx
    from rich.console import Console
    from rich.markup import escape
    from rich.panel import Panel
    from rich.prompt import Confirm, IntPrompt, Prompt
    from rich.table import Table

    from parallel_interview_client import (
        ApiError,
        BadRequest,
        Candidate,
        Channel,
        ChannelClosed,
        Client,
        ClientError,
        Conflict,
        Ended,
        Forbidden,
        NotFound,
        Retry,
        Unauthorized,
        calls,
    )
    from parallel_interview_client.types import Created, CurrentQuestion, Details, Frame, Kind, Report, Session, Status
except ModuleNotFoundError as missing:
    sys.exit(f"error: {missing.name} is not installed; run `make install`, and this with .venv/bin/python")

DEFAULT_URL = "http://localhost:8005"
MADE_BY = "test_parallel_interview"
API = "/api/parallel_interview"
ONE_TRY = Retry(limit_seconds=0)

# --- the checks


class CheckFailed(Exception):
    """What was expected, and what came instead."""


class Skipped(Exception):
    """Why a check cannot be made here."""


def expect(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise CheckFailed(f"{what} is {found!r}, and should be {wanted!r}")


@contextlib.contextmanager
def refused(kind: type[ApiError], what: str) -> Iterator[None]:
    """What is done inside must be refused so."""
    try:
        yield
    except kind:
        return
    raise CheckFailed(f"{what} was not refused")


@dataclass
class World:
    """The service under test, and what was made there."""

    staff: Client
    http: httpx.Client
    has_key: bool
    made: list[str] = field(default_factory=list)
    jobs: list[str] = field(default_factory=list)
    label: str = field(default_factory=lambda: f"try-{uuid.uuid4().hex[:8]}")

    def create(self, *questions: str, **details: Any) -> tuple[Created, Candidate]:
        """A session of this run, and its candidate."""
        details.setdefault("metadata", {"made_by": MADE_BY})
        asked = list(questions or ("Why this job?", "Why now?"))
        created = self.staff.create("Ada Lovelace", "ada@example.com", questions=asked, **details)
        self.made.append(created["session_id"])
        return created, self.staff.candidate(created["session_id"], created["candidate_token"])

    def tidy(self) -> None:
        for session_id in self.made:
            with contextlib.suppress(NotFound):
                self.staff.delete(session_id)
        for job_id in self.jobs:
            with contextlib.suppress(NotFound):
                self.staff.delete_job(job_id)


Check = Callable[[World], None]
CHECKS: list[tuple[str, Check]] = []


def check(name: str) -> Callable[[Check], Check]:
    def add(function: Check) -> Check:
        CHECKS.append((name, function))
        return function

    return add


@check("stats add up")
def check_stats(world: World) -> None:
    world.create()
    stats = world.staff.stats()
    states = stats["initialized_sessions"] + stats["active_sessions"] + stats["completed_sessions"]
    expect("the sum of the states", states, stats["total_sessions"])
    expect("a completion rate between 0 and 1", 0 <= stats["completion_rate"] <= 1, True)


@check("create keeps every field")
def check_create(world: World) -> None:
    created, _ = world.create(
        "Why this job?",
        "Reverse a list.",
        "Why now?",
        question_types=["text", "coding", "text"],
        phone="+44 20 7946 0000",
        job_id=world.label,
        max_questions=2,
        text_question_timer=60,
        coding_question_timer=600,
        scheduled_at="2030-05-01T09:00:00Z",
        expires_at="2030-05-02T09:00:00Z",
        accommodations={"time_multiplier": 1.5, "camera_exempt": True},
        metadata={"made_by": MADE_BY, "team": "engines"},
    )
    session = world.staff.session(created["session_id"])
    expect("session", session["status"], "initialized")
    person = {"name": "Ada Lovelace", "email": "ada@example.com", "phone": "+44 20 7946 0000"}
    expect("candidate", session["candidate"], person)
    expect("job_id", session["job_id"], world.label)
    expect("max_questions", session["max_questions"], 2)
    limits = [question["time_limit_seconds"] for question in session.get("questions", [])]
    expect("time limits, half as long again", limits, [90.0, 900.0, 90.0])
    expect("scheduled_at", session["scheduled_at"], "2030-05-01T09:00:00.000Z")
    expect("expires_at", session["expires_at"], "2030-05-02T09:00:00.000Z")
    expect("camera_exempt", session["accommodations"]["camera_exempt"], True)
    expect("metadata", session.get("metadata"), {"made_by": MADE_BY, "team": "engines"})
    expect("the candidate's link", created["links"]["candidate"].endswith(f"#{created['candidate_token']}"), True)
    expect("room", created["livekit"]["room"], f"interview-{created['session_id']}")


@check("a repeated create makes one session")
def check_replay(world: World) -> None:
    call = calls.create("Ada Lovelace", "ada@example.com", key=str(uuid.uuid4()), questions=["Why?"])
    first, second = world.staff.send(call), world.staff.send(call)
    world.made.append(first.value["session_id"])
    expect("session_id of the repeat", second.value["session_id"], first.value["session_id"])
    expect("Idempotency-Replayed", second.replayed, True)


@check("wrong input is a problem document that names the field")
def check_bad_input(world: World) -> None:
    good = {"name": "Ada Lovelace", "email": "ada@example.com", "questions": ["Why?"]}
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"email": "ada@example.com"}, "/name"),
        (good | {"email": "nobody"}, "/email"),
        (good | {"colour": "blue"}, "/colour"),
        (good | {"questions": []}, "/questions"),
        (good | {"questions": "Why?"}, "/questions"),
        (good | {"text_question_timer": 1}, "/text_question_timer"),
        (good | {"max_questions": 0}, "/max_questions"),
        (good | {"scheduled_at": "tomorrow"}, "/scheduled_at"),
    ]
    for body, pointer in wrong:
        problem = _problem(world.http.post(f"{API}/create", json=body), 400)
        expect(f"the pointers for {pointer}", pointer in [one["pointer"] for one in problem["errors"]], True)
    _problem(world.http.post(f"{API}/create", content=b"{", headers={"Content-Type": "application/json"}), 400)
    _problem(world.http.get(f"{API}/sessions?limit=0"), 400)


def _problem(response: httpx.Response, status: int) -> dict[str, Any]:
    """The problem document, which must be one."""
    where = f"{response.request.method} {response.request.url.path}"
    expect(f"the status of {where}", response.status_code, status)
    expect(f"the type of {where}", response.headers.get("content-type"), "application/problem+json")
    problem = response.json()
    missing = {"type", "title", "status", "detail", "code", "request_id"} - problem.keys()
    expect(f"what the problem document of {where} lacks", missing, set())
    return problem


@check("an unknown session is 404 for every call")
def check_unknown(world: World) -> None:
    nobody = str(uuid.uuid4())
    staff = world.staff
    tries: list[Callable[[], object]] = [
        lambda: staff.session(nobody),
        lambda: staff.start(nobody),
        lambda: staff.answer(nobody, 0, "x"),
        lambda: staff.draft(nobody, 0, "x"),
        lambda: staff.end(nobody),
        lambda: staff.journal(nobody),
        lambda: staff.report(nobody),
        lambda: staff.delete(nobody),
    ]
    for attempt in tries:
        with refused(NotFound, "an unknown session"):
            attempt()


@check("the list is newest first, filtered, a page at a time")
def check_list(world: World) -> None:
    made = [world.create(job_id=world.label)[0]["session_id"] for _ in range(3)]
    listed = [session["session_id"] for session in world.staff.sessions(limit=1, job_id=world.label)]
    expect("the list", [one for one in listed if one in made], made[::-1])
    page = world.staff.session_page(limit=2, job_id=world.label, total=True)
    expect("count", page["count"], 2)
    expect("has_more", page["has_more"], True)
    expect("a total of 3 or more", page.get("total", 0) >= 3, True)
    world.staff.end(made[0])
    done = [session["session_id"] for session in world.staff.sessions(job_id=world.label, status="completed")]
    expect("the completed ones", made[0] in done and made[1] not in done, True)


@check("a session that has not changed is not sent again")
def check_etag(world: World) -> None:
    created, _ = world.create()
    session_id = created["session_id"]
    version = world.staff.send(calls.session(session_id)).version
    expect("an ETag", version is not None, True)
    assert version is not None
    expect("the answer to If-None-Match", world.staff.session_if_changed(session_id, version), None)
    world.staff.update(session_id, if_match=version, phone="1")
    changed = world.staff.session_if_changed(session_id, version)
    expect("the phone after a change", changed and changed["candidate"]["phone"], "1")
    with refused(ApiError, "a change of an old version"):
        world.staff.update(session_id, if_match=version, phone="2")


@check("start opens the first question, once")
def check_start(world: World) -> None:
    created, ada = world.create()
    with refused(Conflict, "an answer before the start"):
        ada.answer(0, "x")
    first = _open(ada.start())
    expect("the open question", (first["index"], first["text"]), (0, "Why this job?"))
    again = _open(world.staff.start(created["session_id"]))
    expect("opened_at after a second start", again["opened_at"], first["opened_at"])
    expect("a clock that runs", 0 < again.get("remaining_seconds", 0) <= again["time_limit_seconds"], True)


def _open(session: Session) -> CurrentQuestion:
    question = session["current_question"]
    if question is None:
        raise CheckFailed(f"no question is open; the session is {session['status_detail']}")
    return question


@check("answers of text and code complete the interview")
def check_answers(world: World) -> None:
    created, ada = world.create("Why this job?", "Reverse a list.", question_types=["text", "coding"])
    ada.start()
    call = calls.answer(created["session_id"], 0, "I like engines. ✓", key=str(uuid.uuid4()))
    expect("the next question", _open(ada.client.send(call).value)["index"], 1)
    expect("the repeat of an answer", ada.client.send(call).replayed, True)
    with refused(Conflict, "another answer to a closed question"):
        ada.answer(0, "something else")
    with refused(BadRequest, "an answer to a question that is not there"):
        ada.answer(9, "x")
    done = ada.answer(1, "items[::-1]", "python")
    expect("the end", (done["status"], done["end_reason"]), ("completed", "finished"))
    kept = [(one["answer"], one["language"], one["source"]) for one in done["answers"]]
    expect("the answers", kept, [("I like engines. ✓", None, "submitted"), ("items[::-1]", "python", "submitted")])


@check("a draft becomes the answer when time runs out")
def check_drafts(world: World) -> None:
    created, ada = world.create("Why?", text_question_timer=5)
    ada.start()
    expect("a draft is saved", ada.draft(0, "I like eng", revision=2)["saved"], True)
    expect("an older draft is saved", ada.draft(0, "I", revision=1)["saved"], False)
    give_up = time.monotonic() + 20
    while (session := world.staff.session(created["session_id"]))["status"] != "completed":
        if time.monotonic() > give_up:
            raise CheckFailed("the question was not closed within 20 s, and its limit was 5 s")
        time.sleep(0.25)
    kept = [(one["answer"], one["source"]) for one in session["answers"]]
    expect("the answer", kept, [("I like eng", "draft")])


@check("pause, resume and extend move the clock")
def check_clock(world: World) -> None:
    created, ada = world.create()
    session_id = created["session_id"]
    ada.start()
    paused = world.staff.pause(session_id, "a fire alarm")
    expect("status_detail", paused["status_detail"], "paused")
    expect("the deadline while paused", _open(paused).get("deadline"), None)
    with refused(Conflict, "an answer while paused"):
        ada.answer(0, "x")
    expect("the deadline after resuming", bool(_open(world.staff.resume(session_id)).get("deadline")), True)
    before = _open(world.staff.session(session_id)).get("remaining_seconds", 0)
    after = _open(world.staff.extend(session_id, 60, "the alarm")).get("remaining_seconds", 0)
    expect("60 s more", 55 < after - before <= 60.5, True)
    path = f"{API}/session/{session_id}/extend"
    _problem(world.http.post(path, json={"seconds": 60, "reason": "no key"}), 400)


@check("end works in every state, and again")
def check_end(world: World) -> None:
    created, _ = world.create()
    expect("the end of what never began", world.staff.end(created["session_id"])["end_reason"], "cancelled")
    created, ada = world.create()
    ada.start()
    expect("the end by staff", world.staff.end(created["session_id"])["end_reason"], "ended_by_staff")
    expect("the end of what is over", world.staff.end(created["session_id"])["end_reason"], "ended_by_staff")
    with refused(Conflict, "a start after the end"):
        ada.start()


@check("the live channel shows everything once, in order, and takes answers")
def check_channel(world: World) -> None:
    created, ada = world.create()
    session_id = created["session_id"]
    with world.staff.channel(session_id) as observer, ada.channel() as live:
        first = observer.receive(timeout=15)
        live.start()
        for frame in live:
            if frame["type"] == "question":
                live.answer(frame["question"]["index"], "An answer.")
        expect("the end of the channel", live.ended and live.ended.why, Ended.COMPLETED)
        seen = [first, *observer]
    since = first["as_of"] if first["type"] == "state" else 0
    told = [event["seq"] for event in world.staff.journal(session_id) if event["seq"] > since]
    expect("the events that were shown", [frame["seq"] for frame in seen if "seq" in frame], told)
    with world.staff.candidate(session_id, "wrong").channel() as stranger:
        try:
            stranger.receive(timeout=15)
            raise CheckFailed("a wrong token was let in")
        except ChannelClosed as closed:
            expect("the end for a wrong token", closed.why, Ended.UNAUTHORIZED)


@check("a report is made, as JSON and as a page")
def check_report(world: World) -> None:
    created, ada = world.create("Why?")
    session_id = created["session_id"]
    with refused(Conflict, "a report before the end"):
        world.staff.report(session_id)
    ada.start()
    ada.answer(0, "I like engines.")
    report = world.staff.report(session_id)
    expect("the answer in the report", report["questions"][0]["answer"], "I like engines.")
    expect("a journal that verifies", report["journal"]["verified"], True)
    page = world.http.get(f"/api/reports/{session_id}", headers={"Accept": "text/html"})
    expect("the page", (page.status_code, "I like engines." in page.text), (200, True))
    reviewed = world.staff.review(session_id, "advance", "A good answer.")
    expect("the review", reviewed["review"]["verdict"], "advance")


@check("question banks are made, replaced, used and removed")
def check_jobs(world: World) -> None:
    world.jobs.append(world.label)
    world.staff.create_job(world.label, "A bank", [{"text": "One?"}, {"text": "Two?", "type": "coding"}])
    created = world.staff.create("Ada Lovelace", "ada@example.com", job_id=world.label)
    world.made.append(created["session_id"])
    asked = [question["text"] for question in world.staff.session(created["session_id"]).get("questions", [])]
    expect("the questions of the bank", asked, ["One?", "Two?"])
    expect("version", world.staff.replace_job(world.label, "A bank", [{"text": "Three?"}]).get("version"), 2)
    expect("the older version", len(world.staff.job(world.label, version=1)["questions"]), 2)
    expect("the bank is listed", world.label in [job["job_id"] for job in world.staff.jobs()], True)
    world.staff.delete_job(world.label)
    with refused(NotFound, "a bank that was removed"):
        world.staff.job(world.label)
    with refused(Conflict, "removing the job default"):
        world.staff.delete_job("default")


@check("a candidate's token opens their own session and no more")
def check_token(world: World) -> None:
    created, ada = world.create()
    _, bob = world.create()
    expect("what the candidate sees of questions to come", "questions" in ada.session(), False)
    with refused(Forbidden, "another session"):
        bob.client.session(created["session_id"])
    for staffs in (bob.client.stats, bob.client.jobs, lambda: bob.client.pause(bob.session_id), bob.client.keys):
        with refused(Forbidden, "a call for staff"):
            staffs()
    link = world.staff.link(created["session_id"])
    with refused(Unauthorized, "the token of an older link"):
        ada.session()
    newer = world.staff.candidate(created["session_id"], link["candidate_token"])
    expect("the new link", newer.session()["session_id"], created["session_id"])


@check("what a page has seen is in the timeline")
def check_proctoring(world: World) -> None:
    created, ada = world.create()
    ada.start()
    expect("received", ada.proctoring_events([{"type": "tab_hidden"}])["received"], 1)
    with refused(BadRequest, "an unknown kind of event"):
        ada.proctoring_events([{"type": "sneezed"}])
    seen = [event["type"] for event in world.staff.proctoring(created["session_id"])["events"]]
    expect("the timeline", seen, ["tab_hidden"])
    ours = ada.proctoring()
    expect("a score for the candidate", "integrity" in ours, False)


@check("the journal is whole")
def check_journal(world: World) -> None:
    created, ada = world.create()
    ada.start()
    ada.end()
    events = world.staff.journal(created["session_id"])
    kinds = [event["type"] for event in events]
    expect("the first event", kinds[0], "created")
    expect("a start and an end", {"started", "completed"} <= set(kinds), True)
    expect("the events after the first", world.staff.journal(created["session_id"], after=events[0]["seq"]), events[1:])
    expect("the chain", world.staff.verify(created["session_id"])["ok"], True)


@check("without a good key nothing opens")
def check_keys(world: World) -> None:
    if not world.has_key:
        raise Skipped("the service has no key, so everything is open")
    for key in (None, "not the key"):
        with Client(world.staff.url, key, retry=ONE_TRY) as stranger, refused(Unauthorized, f"the key {key!r}"):
            stranger.stats()


@check("a deleted session is gone")
def check_delete(world: World) -> None:
    created, ada = world.create()
    ada.start()
    world.staff.delete(created["session_id"])
    for gone in (lambda: world.staff.session(created["session_id"]), lambda: world.staff.report(created["session_id"])):
        with refused(NotFound, "a deleted session"):
            gone()
    with refused(ApiError, "the token of a deleted session"):
        ada.session()


def run_checks(base_url: str, api_key: str | None, console: Console) -> int:
    """Run all, print each, and clean up. The exit code."""
    headers = {"X-API-Key": api_key} if api_key else {}
    with Client(base_url, api_key) as staff, httpx.Client(base_url=staff.url, headers=headers, timeout=30) as http:
        world = World(staff, http, _has_key(staff.url))
        console.print(f"Trying {staff.url}", highlight=False)
        began = time.monotonic()
        results: list[str] = []
        try:
            for name, made in CHECKS:
                results.append(_run(console, name, lambda made=made: made(world)))
        finally:
            results.append(_run(console, "what was made is removed", world.tidy))
    passed, failed, skipped = (results.count(one) for one in ("ok", "FAIL", "skip"))
    summary = f"{passed} passed, {failed} failed, {skipped} skipped in {time.monotonic() - began:.1f} s"
    console.print(f"\n{summary}", style="bold red" if failed else "bold green", highlight=False)
    return 1 if failed else 0


def _has_key(url: str) -> bool:
    try:
        with Client(url, retry=ONE_TRY) as anybody:
            anybody.stats()
    except Unauthorized:
        return True
    return False


def _run(console: Console, name: str, work: Callable[[], object]) -> str:
    """One check: its line, and whether it is ok."""
    began = time.monotonic()
    result, why = "ok", ""
    try:
        work()
    except Skipped as reason:
        result, why = "skip", str(reason)
    except (CheckFailed, ClientError) as error:
        result, why = "FAIL", str(error)
    except Exception as error:  # an answer in a shape that no service of ours gives
        result, why = "FAIL", f"{type(error).__name__}: {error}"
    style = {"ok": "green", "FAIL": "bold red", "skip": "yellow"}[result]
    seconds = time.monotonic() - began
    console.print(f"  [{style}]{result:<4}[/]  {escape(name):<68} {seconds:6.2f} s", highlight=False)
    if why:
        console.print(f"        {escape(why)}", style=style, highlight=False, soft_wrap=True)
    return result


# --- the menu


class Keys:
    """What is typed, a key at a time, while a clock runs. Without a terminal: a line at a time, without a clock."""

    def __enter__(self) -> Keys:
        import termios
        import tty

        self._file = sys.stdin.fileno()
        self._before = termios.tcgetattr(self._file)
        tty.setcbreak(self._file)
        self._decoder = codecs.getincrementaldecoder("utf-8")("ignore")
        return self

    def __exit__(self, *_: object) -> None:
        import termios

        termios.tcsetattr(self._file, termios.TCSADRAIN, self._before)

    def typed(self, seconds: float) -> str:
        """What has been typed, waiting for it so long at most. Raises EOFError."""
        if not select.select([self._file], [], [], seconds)[0]:
            return ""
        data = os.read(self._file, 4096)
        if not data:
            raise EOFError
        return self._decoder.decode(data)


class Typing:
    """The answer to one question as it grows. Enter sends a text; in code it begins a line, and Ctrl-D sends."""

    def __init__(self, question: CurrentQuestion) -> None:
        self.question = question
        self.text = ""
        self.saved = ""
        self.sent = False

    @property
    def line(self) -> str:
        """The last one, as it is shown."""
        return self.text.rpartition("\n")[2].replace("\t", "    ")

    def take(self, typed: str) -> None:
        if typed.startswith("\x1b"):
            return  # an arrow, or another key without a letter
        for key in typed:
            if key in "\x7f\b":
                self.text = self.text[:-1]
            elif key == "\x15":
                self.text = self.text[: self.text.rfind("\n") + 1]
            elif key == "\x04" or (key in "\r\n" and self.question["type"] == "text"):
                self.sent = bool(self.text.strip()) or self.sent
            elif key in "\r\n":
                print(f"\r\x1b[2K{self.line}")
                self.text += "\n"
            elif key.isprintable() or key == "\t":
                self.text += key

    def show(self, left: str) -> None:
        """The line that is typed, with the time that is left before it."""
        room = max(10, shutil.get_terminal_size().columns - len(left) - 5)
        sys.stdout.write(f"\r\x1b[2K{left} > {self.line[-room:]}")
        sys.stdout.flush()


class Menu:
    """One person at a terminal. What goes wrong is a line, and the menu again."""

    def __init__(self, staff: Client, console: Console) -> None:
        self.staff = staff
        self.console = console
        self.tokens: dict[str, str] = {}
        self.ahead = 0.0
        """Seconds that the service's clock is ahead of ours."""

    def run(self) -> int:
        actions: dict[str, tuple[str, Callable[[], None]]] = {
            "1": ("list sessions", self.list),
            "2": ("create a session", self.create),
            "3": ("take an interview as the candidate", self.take),
            "4": ("watch an interview live", self.watch),
            "5": ("look at a report", self.report),
            "6": ("statistics", self.stats),
            "7": ("remove what was made here", self.clean_up),
        }
        while True:
            lines = [f"[bold]{key}[/]  {what}" for key, (what, _) in actions.items()]
            self.console.print(Panel("\n".join([*lines, "[bold]q[/]  quit"]), title=self.staff.url, expand=False))
            try:
                chosen = Prompt.ask("What now", choices=[*actions, "q"], show_choices=False, console=self.console)
            except (EOFError, KeyboardInterrupt):
                chosen = "q"
            if chosen == "q":
                self.console.print("\nGoodbye.")
                return 0
            self._do(actions[chosen][1])

    def _do(self, action: Callable[[], None]) -> None:
        try:
            action()
        except (EOFError, KeyboardInterrupt):
            self.console.print("\nBack to the menu.", style="yellow")
        except (ClientError, ValueError) as error:
            self.console.print(f"\n{error}", style="red", markup=False, highlight=False)

    # what can be done

    def list(self) -> None:
        page = self.staff.session_page(limit=20, total=True)
        self.console.print(self._table(page["sessions"], f"{page['count']} of {page.get('total')} sessions"))

    def create(self) -> None:
        name = Prompt.ask("Name", default="Ada Lovelace", console=self.console)
        email = Prompt.ask("Email", default="ada@example.com", console=self.console)
        questions, kinds = self._questions()
        seconds = IntPrompt.ask("Seconds for each question", default=120, console=self.console)
        details: Details = {
            "metadata": {"made_by": MADE_BY},
            "text_question_timer": seconds,
            "coding_question_timer": seconds,
        }
        if questions:
            details |= {"questions": questions, "question_types": kinds}
        created = self.staff.create(name, email, **details)
        self.tokens[created["session_id"]] = created["candidate_token"]
        self.console.print(f"Made session {created['session_id']}; the candidate's page:")
        self.console.print(created["links"]["candidate"], style="cyan", soft_wrap=True, highlight=False)

    def take(self) -> None:
        session = self._choose("initialized", "in_progress")
        token = self.tokens.get(session["session_id"]) or self._new_link(session["session_id"])
        with self.staff.candidate(session["session_id"], token).channel() as live, Keys() as keys:
            if session["status"] == "initialized":
                live.start()
            self._interview(live, keys)

    def watch(self) -> None:
        session = self._choose("initialized", "in_progress")
        self.console.print("Ctrl-C goes back to the menu.", style="dim")
        with self.staff.channel(session["session_id"]) as live:
            for frame in live:
                told = f"[dim]{frame.get('at') or frame['server_time']}[/] {escape(_told(frame))}"
                self.console.print(told, highlight=False)

    def report(self) -> None:
        session = self._choose("completed")
        with self.console.status("The report is being made"):
            report = self.staff.report(session["session_id"])
        self._show(report)

    def stats(self) -> None:
        table = Table("figure", "value", title="Statistics")
        for name, value in self.staff.stats().items():
            shown = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
            table.add_row(name.replace("_", " "), shown)
        self.console.print(table)

    def clean_up(self) -> None:
        ours = [s for s in self.staff.sessions() if s.get("metadata", {}).get("made_by") == MADE_BY]
        if not ours:
            self.console.print("There is nothing that was made with this script.")
        elif Confirm.ask(f"Remove {len(ours)} sessions for good", default=False, console=self.console):
            for session in ours:
                self.staff.delete(session["session_id"])
            self.console.print(f"{len(ours)} sessions are gone.")

    # the parts of it

    def _table(self, sessions: list[Session], title: str) -> Table:
        table = Table("", "candidate", "status", "questions", "made", "session", title=title)
        for number, one in enumerate(sessions, 1):
            done = f"{one['current_question_count']} of {one['max_questions']}"
            status = one["end_reason"] or one["status_detail"]
            name, made = escape(one["candidate"]["name"][:30]), one["created_at"][:19].replace("T", " ")
            table.add_row(str(number), name, status.replace("_", " "), done, made, one["session_id"][:8])
        return table

    def _choose(self, *states: Status) -> Session:
        """One of the newest sessions. Raises ValueError if there is none."""
        found = [s for state in states for s in self.staff.session_page(limit=10, status=state)["sessions"]]
        if not found:
            raise ValueError(f"There is no session that is {' or '.join(states).replace('_', ' ')}.")
        self.console.print(self._table(found, "Which one?"))
        numbers = [str(number) for number in range(1, len(found) + 1)]
        chosen = Prompt.ask("Number", choices=numbers, show_choices=False, default="1", console=self.console)
        return found[int(chosen) - 1]

    def _questions(self) -> tuple[list[str], list[Kind]]:
        self.console.print("Questions, an empty one ends; begin one with 'code:' for code. None: the job default asks.")
        questions: list[str] = []
        kinds: list[Kind] = []
        while text := Prompt.ask(
            f"Question {len(questions) + 1}", default="", show_default=False, console=self.console
        ):
            is_code = text.lower().startswith("code:")
            questions.append(text[5:].strip() if is_code else text)
            kinds.append("coding" if is_code else "text")
        return questions, kinds

    def _new_link(self, session_id: str) -> str:
        self.console.print("To take it a new link is made, and the candidate's own stops working.", style="yellow")
        if not Confirm.ask("Make one", default=False, console=self.console):
            raise KeyboardInterrupt
        self.tokens[session_id] = self.staff.link(session_id)["candidate_token"]
        return self.tokens[session_id]

    def _interview(self, live: Channel, keys: Keys) -> None:
        """Until it is over: the questions as they come, and the answers as they are typed."""
        typing: Typing | None = None
        drafted = time.monotonic()
        while True:
            try:
                frame = live.receive(timeout=0.01 if typing else 1)
            except TimeoutError:
                frame = None
            except ChannelClosed as closed:
                if closed.why is not Ended.COMPLETED:
                    raise
                return
            if frame is not None:
                typing = self._follow(frame, typing)
            if typing is None:
                continue
            typing.take(keys.typed(0.2))
            typing.show(self._left(typing.question))
            if typing.sent:
                print()
                typing = self._send(live, typing)
            elif typing.text != typing.saved and time.monotonic() - drafted > 2:
                drafted = time.monotonic()
                typing.saved = typing.text
                with contextlib.suppress(ApiError):  # its time may just have run out
                    live.draft(typing.question["index"], typing.text)

    def _send(self, live: Channel, typing: Typing) -> Typing | None:
        try:
            live.answer(typing.question["index"], typing.text)
            return None
        except ApiError as error:
            self.console.print(str(error), style="red", markup=False, highlight=False)
            typing.sent = False
            return typing

    def _follow(self, frame: Frame, typing: Typing | None) -> Typing | None:
        """What a frame changes: another question, another deadline, the end."""
        sent_at = datetime.fromisoformat(frame["server_time"]).timestamp()
        self.ahead = sent_at - time.time()
        question = _question_of(frame)
        if frame["type"] == "completed":
            print()
            self.console.print(f"The interview is over: {frame['end_reason'].replace('_', ' ')}.", style="bold green")
            return None
        if frame["type"] == "question_expired":
            print()
            self.console.print("Time is up; what was saved is the answer.", style="yellow")
            return None
        if frame["type"] in ("paused", "resumed", "extended", "clock_credited") and typing is not None:
            print()
            self.console.print(_told(frame), style="yellow", markup=False)
        if question is None or "remaining_seconds" not in question:
            return typing
        if typing is not None and typing.question["index"] == question["index"]:
            typing.question = question
            return typing
        how = "Enter begins a line, Ctrl-D sends" if question["type"] == "coding" else "Enter sends"
        title = f"Question {question['index'] + 1}, {question['time_limit_seconds']:g} s"
        self.console.print(Panel(escape(question["text"]), title=title, expand=False))
        self.console.print(f"{how}.", style="dim")
        typing = Typing(question)
        draft = frame.get("draft") if frame["type"] == "state" else None
        if draft is not None:
            typing.text = typing.saved = draft["text"]
        return typing

    def _left(self, question: CurrentQuestion) -> str:
        deadline = question.get("deadline")
        if deadline is None:
            return "paused"
        left = max(0, round(datetime.fromisoformat(deadline).timestamp() - time.time() - self.ahead))
        return f"{left // 60}:{left % 60:02d}"

    def _show(self, report: Report) -> None:
        interview = report["interview"]
        title = f"{report['candidate']['name']}: {str(interview['end_reason']).replace('_', ' ')}"
        table = Table("", "question", "answer", "status", "seconds", title=escape(title), show_lines=True)
        for one in report["questions"]:
            taken = one["elapsed_seconds"]
            cells = (str(one["index"] + 1), escape(one["text"]), escape(one["answer"] or ""))
            table.add_row(*cells, one["status"].replace("_", " "), "" if taken is None else f"{taken:.1f}")
        self.console.print(table)
        chain = "verifies" if report["journal"]["verified"] else "does not verify"
        self.console.print(f"{interview['duration_seconds']} s in all; the journal {chain}.", highlight=False)


def _question_of(frame: Frame) -> CurrentQuestion | None:
    if frame["type"] == "state" or frame["type"] == "completed":
        return frame["session"]["current_question"]
    return frame.get("question")  # pyright: ignore[reportReturnType]


def _told(frame: Frame) -> str:
    """A frame as a line."""
    match frame["type"]:
        case "state":
            return f"the session is {frame['session']['status_detail'].replace('_', ' ')}"
        case "question":
            return f"question {frame['question']['index'] + 1}: {frame['question']['text']}"
        case "answer_saved" | "question_expired":
            how = "is answered" if frame["type"] == "answer_saved" else "ran out of time"
            return f"question {frame['question_index'] + 1} {how}: {frame['answer']['answer']}"
        case "extended" | "clock_credited":
            return f"{frame.get('seconds', 0):g} s more ({frame.get('cause', 'by staff')})"
        case "paused" | "resumed":
            return f"the clock is {frame['type']}"
        case "connection":
            return f"the candidate's connection: {frame['state'].replace('_', ' ')}"
        case "completed":
            return f"the interview is over: {frame['end_reason'].replace('_', ' ')}"
        case _:
            event = frame.get("event", {})
            return str(event.get("event") or event.get("type") or frame["type"]).replace("_", " ")


# --- the beginning


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Tries a running service of Parallel Interview.")
    parser.add_argument("--test", action="store_true", help="go through everything, and exit")
    parser.add_argument("--base-url", default=DEFAULT_URL, help="where the service is (default: %(default)s)")
    parser.add_argument("--api-key", default=os.environ.get("INTERVIEW_API_KEY"), help="a staff key")
    options = parser.parse_args(arguments)
    console = Console(soft_wrap=options.test)
    try:
        with Client(options.base_url, options.api_key, retry=ONE_TRY) as first:
            first.stats()
        if options.test:
            return run_checks(options.base_url, options.api_key, console)
        if not sys.stdin.isatty():
            return _fail("the menu needs a terminal; --test does not")
        with Client(options.base_url, options.api_key, retry=Retry(limit_seconds=20)) as staff:
            return Menu(staff, console).run()
    except (ClientError, ValueError) as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return _fail("stopped")


def _fail(why: str) -> int:
    print(f"error: {why}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
