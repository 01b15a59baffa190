"""HookRunner with hooks that behave and hooks that do not, in a real loop with real threads; the shipped hooks; and
which are installed."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from actors import hooks as runner_module
from actors.hooks import FAILURES, MAX_DETAIL, MAX_FINDINGS, MAX_WAITING, Failed, HookRunner, HookThread
from orchestrator import hooks as installed_hooks
from orchestrator.errors import Unavailable
from orchestrator.interview.commands import NoteHookFailure, NoteSightings
from orchestrator.interview.fold import fold
from orchestrator.interview.hooks import Finding, PastedUnread, ProctoringHook, RepeatedAbsence
from orchestrator.interview.sightings import Proctoring, Seen, Sighting, Tally
from orchestrator.interview.state import ClosedAnswer, State
from tests.unit.world import T0, create_command, first_entry

PASTE = Seen(2, "paste", "page", T0, detail={"size": 9})
ROOT = Path(__file__).parents[2]


def session(**changes: Any) -> State:
    return replace(fold(None, first_entry()), status="in_progress", **changes)


def closed(answer: str = "x", index: int = 0, elapsed_ms: int = 1000, source: Any = "submitted") -> ClosedAnswer:
    return ClosedAnswer(index, answer, None, T0 + elapsed_ms, elapsed_ms, source)


# Fixture hooks. What they are called with is in CALLS.

CALLS: list[tuple[Any, ...]] = []
NEVER = threading.Event()
HELD = threading.Event()


@pytest.fixture(autouse=True)
def fresh_calls() -> Iterator[None]:
    CALLS.clear()
    HELD.clear()
    yield
    HELD.set()


class Records(ProctoringHook):
    def on_start(self, state: State) -> Iterable[Finding]:
        CALLS.append(("on_start", state))
        return ()

    def on_event(self, state: State, event: Seen) -> Iterable[Finding]:
        CALLS.append(("on_event", state, event))
        return ()

    def on_answer(self, state: State, answer: ClosedAnswer) -> Iterable[Finding]:
        CALLS.append(("on_answer", state, answer))
        return ()

    def on_tick(self, state: State, now: int) -> Iterable[Finding]:
        CALLS.append(("on_tick", state, now))
        return ()

    def on_end(self, state: State) -> Iterable[Finding]:
        CALLS.append(("on_end", state))
        return ()


class Idle(ProctoringHook):
    """Overrides nothing."""


class OnlyEnd(ProctoringHook):
    def on_end(self, state: State) -> Iterable[Finding]:
        CALLS.append(("on_end", state))
        return ()


class Finds(ProctoringHook):
    def on_tick(self, state: State, now: int) -> Iterable[Finding]:
        CALLS.append(("found", threading.get_ident()))
        return [Finding("custom:found", {"hook": "somebody else", "n": 1}, at=T0 - 5, count=3)]


class Generates(ProctoringHook):
    def on_tick(self, state: State, now: int) -> Iterable[Finding]:
        yield Finding("paste")
        yield Finding("custom:two", at=now + 1_000_000)


class NeverEnds(ProctoringHook):
    def on_tick(self, state: State, now: int) -> Iterable[Finding]:
        return (Finding("custom:n", {"n": n}) for n in itertools.count())


class Sleeps(ProctoringHook):
    def on_tick(self, state: State, now: int) -> Iterable[Finding]:
        CALLS.append(("slept", threading.get_ident()))
        HELD.wait(10)
        return [Finding("custom:too_late")]


class SleepsInAGenerator(ProctoringHook):
    def on_tick(self, state: State, now: int) -> Iterable[Finding]:
        HELD.wait(10)
        yield Finding("custom:too_late")


class SlowStart(ProctoringHook):
    def on_start(self, state: State) -> Iterable[Finding]:
        HELD.wait(10)
        return ()


class Odd(ProctoringHook):
    """Does on a tick what DOES says."""

    def on_tick(self, state: State, now: int) -> Iterable[Finding]:
        CALLS.append(("odd",))
        return DOES()


class Keeps(ProctoringHook):
    def on_tick(self, state: State, now: int) -> Iterable[Finding]:
        state.metadata["changed"] = "by a hook"
        return ()

    def on_event(self, state: State, event: Seen) -> Iterable[Finding]:
        event.detail["changed"] = "by a hook"
        return ()


class Unmakeable(ProctoringHook):
    def __init__(self) -> None:
        raise ZeroDivisionError


class NoHook:
    pass


def makes_nothing() -> None:
    """A factory that gives no hook."""


def nothing() -> Iterable[Finding]:
    return ()


DOES: Callable[[], Any] = nothing


def does(monkeypatch: pytest.MonkeyPatch, what: Callable[[], Any]) -> None:
    monkeypatch.setattr(sys.modules[__name__], "DOES", what)


def raising(error: type[BaseException]) -> Callable[[], Any]:
    def work() -> Any:
        raise error

    return work


@dataclass
class Stage:
    """A runner, and what it had noted."""

    hooks: tuple[Any, ...]
    noted: list[NoteSightings | NoteHookFailure] = field(default_factory=list)
    error: Exception | None = None
    durable: asyncio.Event | None = None

    def __post_init__(self) -> None:
        specs = {h if isinstance(h, str) else h.__name__: self.spec(h) for h in self.hooks}
        self.runner = HookRunner(specs, self.note, lambda: T0)

    @staticmethod
    def spec(hook: Any) -> str:
        return hook if isinstance(hook, str) else f"{__name__}:{hook.__name__}"

    async def note(self, command: NoteSightings | NoteHookFailure) -> None:
        if self.error is not None:
            raise self.error
        if self.durable is not None:
            await self.durable.wait()
        self.noted.append(command)

    async def started(self, state: State | None = None) -> Stage:
        self.runner.start(state or session())
        await self.idle()
        return self

    async def idle(self) -> None:
        """Until all calls have been made, and what they have found is noted."""
        for _ in range(2_000):
            if not self.runner._worker_busy and (self.durable is not None or not self.runner._notes):
                return
            await asyncio.sleep(0.005)
        raise AssertionError("the runner is still busy")

    async def tick(self, times: int = 1) -> None:
        for _ in range(times):
            self.runner.tick(session())
            await self.idle()

    @property
    def sightings(self) -> list[Sighting]:
        return [s for command in self.noted if isinstance(command, NoteSightings) for s in command.sightings]

    @property
    def failures(self) -> list[NoteHookFailure]:
        return [command for command in self.noted if isinstance(command, NoteHookFailure)]


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "PAUSE_SECONDS", 0.0)


@pytest.fixture
def short_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "BUDGET_SECONDS", 0.25)


def threads() -> set[threading.Thread]:
    return {t for t in threading.enumerate() if t.name == "hooks"}


# What hooks are told


async def test_every_method_is_called_with_the_state_as_it_was() -> None:
    before, answer = session(), closed()
    stage = await Stage((Records,)).started(before)
    answered = replace(before, answers=(answer,), version=2)
    ended = replace(answered, status="completed", version=3)
    stage.runner.changed(before, before, [PASTE])
    stage.runner.changed(before, answered, [])
    stage.runner.tick(answered)
    stage.runner.changed(answered, ended, [])
    await stage.runner.finish(5)
    assert [
        ("on_start", before),
        ("on_event", before, PASTE),
        ("on_answer", answered, answer),
        ("on_tick", answered, T0),
        ("on_end", ended),
    ] == CALLS
    assert stage.noted == []


async def test_what_was_seen_is_told_before_the_answer_and_with_the_state_that_counts_it() -> None:
    stage = await Stage((Records,)).started()
    before = session()
    after = replace(before, answers=(closed(),), status="completed")
    begun = Seen(3, "tab_hidden", "page", T0, lasts=True)
    over = replace(begun, until=T0 + 5, ms=5)
    stage.runner.changed(before, before, [begun])
    stage.runner.changed(before, after, [PASTE, over])
    await stage.idle()
    assert [
        ("on_event", before, begun),
        ("on_event", after, PASTE),
        ("on_event", after, over),
        ("on_answer", after, closed()),
        ("on_end", after),
    ] == CALLS[1:]


async def test_an_answer_that_ends_the_interview_is_told_before_the_end() -> None:
    stage = await Stage((Records,)).started()
    before = session(answers=(closed(),))
    answers = (*before.answers, closed(index=1), closed(index=2))
    ended = replace(before, answers=answers, status="completed")
    stage.runner.changed(before, ended, [])
    stage.runner.changed(ended, ended, [])
    await stage.idle()
    assert [(call[0], *call[2:]) for call in CALLS[1:]] == [
        ("on_answer", answers[1]),
        ("on_answer", answers[2]),
        ("on_end",),
    ]


async def test_what_hooks_have_seen_is_not_told_to_hooks() -> None:
    stage = await Stage((Records,)).started()
    stage.runner.changed(session(), session(), [replace(PASTE, source="hook"), PASTE, replace(PASTE, source="frames")])
    await stage.idle()
    assert [call[2].source for call in CALLS[1:]] == ["page", "frames"]


async def test_no_hooks_cost_no_thread() -> None:
    before = threads()
    stage = await Stage(()).started()
    stage.runner.changed(session(), session(), [PASTE])
    await stage.tick()
    await stage.runner.finish(1)
    assert threads() == before and stage.noted == []


async def test_methods_that_are_not_overridden_are_not_taken_to_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    work: list[object] = []
    submit = HookThread.submit

    def counted(thread: HookThread, given: Callable[[], Any]) -> Any:
        work.append(given)
        return submit(thread, given)

    monkeypatch.setattr(HookThread, "submit", counted)
    stage = await Stage((Idle, OnlyEnd)).started()
    assert len(work) == 2  # each was loaded
    stage.runner.changed(session(), session(), [PASTE])
    stage.runner.changed(session(), session(answers=(closed(),)), [])
    stage.runner.tick(session())
    assert not stage.runner._worker_busy and len(work) == 2
    stage.runner.changed(session(), replace(session(), status="completed"), [])
    await stage.idle()
    assert len(work) == 3 and [call[0] for call in CALLS] == ["on_end"]


async def test_hooks_that_are_suspended_are_not_even_loaded() -> None:
    before = threads()
    stage = await Stage((Records,)).started(session(proctoring=Proctoring(hooks_off=True)))
    stage.runner.changed(session(), session(), [PASTE])
    await stage.tick()
    stage.runner.changed(session(), replace(session(), status="completed"), [])
    await stage.runner.finish(1)
    assert CALLS == [] and threads() == before


async def test_a_hook_that_changes_what_it_was_given_changes_nothing_of_the_interview() -> None:
    state = session()
    stage = await Stage((Keeps,)).started(state)
    stage.runner.tick(state)
    stage.runner.changed(state, state, [PASTE])
    await stage.idle()
    assert state.metadata == {} and PASTE.detail == {"size": 9} and stage.failures == []


# What hooks find


async def test_findings_become_sightings_of_source_hook() -> None:
    stage = await Stage((Finds,)).started()
    await stage.tick()
    assert stage.noted == [
        NoteSightings((Sighting("custom:found", "hook", T0 - 5, count=3, detail={"n": 1, "hook": "Finds"}),))
    ]


async def test_a_generator_is_run_within_the_thread_and_no_finding_is_of_the_future() -> None:
    stage = await Stage((Generates,)).started()
    await stage.tick()
    assert stage.noted == [
        NoteSightings(
            (
                Sighting("paste", "hook", T0, detail={"hook": "Generates"}),
                Sighting("custom:two", "hook", T0, detail={"hook": "Generates"}),
            )
        )
    ]


async def test_of_a_generator_that_never_ends_some_are_taken() -> None:
    stage = await Stage((NeverEnds,)).started()
    await stage.tick()
    assert [s.detail["n"] for s in stage.sightings] == list(range(MAX_FINDINGS)) and stage.failures == []


@pytest.mark.parametrize(
    "result",
    [
        [Finding("no_such_kind")],
        [Finding("custom:Has Spaces")],
        [Finding(5)],  # type: ignore[arg-type]
        [Finding([])],  # type: ignore[arg-type]
        [Finding("custom:long", {"text": "x" * MAX_DETAIL})],
        [Finding("custom:odd", {"set": {1}})],
        [Finding("custom:nan", {"n": float("nan")})],
        [Finding("custom:surrogate", {"n": "\ud800"})],
        [Finding("custom:list", ["x"])],  # type: ignore[arg-type]
        [Finding("custom:at", at=float("inf"))],  # type: ignore[arg-type]
        [Finding("custom:count", count="many")],  # type: ignore[arg-type]
        ["paste"],
        [None],
        5,
        Finding("paste"),
        "paste",
    ],
    ids=repr,
)
async def test_what_cannot_be_noted_is_a_failure(result: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    does(monkeypatch, lambda: result)
    stage = await Stage((Odd, Finds)).started()
    await stage.tick()
    [failure] = stage.failures
    assert failure.hook == "Odd" and failure.reason.startswith("it raised ") and not failure.off
    assert [s.kind for s in stage.sightings] == ["custom:found"]


@pytest.mark.parametrize("result", [None, (), [], iter(())], ids=repr)
async def test_a_hook_that_returns_nothing_has_found_nothing(result: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    does(monkeypatch, lambda: result)
    stage = await Stage((Odd,)).started()
    await stage.tick(FAILURES + 1)
    assert stage.noted == [] and CALLS.count(("odd",)) == FAILURES + 1


async def test_the_next_call_does_not_wait_until_a_finding_is_durable() -> None:
    stage = await Stage((Finds, Records)).started()
    stage.durable = asyncio.Event()
    await stage.tick(3)
    assert len([call for call in CALLS if call[0] == "on_tick"]) == 3 and stage.noted == []
    stage.durable.set()
    await stage.runner.finish(5)
    assert len(stage.sightings) == 3, "finish waits for them"


async def test_but_finish_waits_for_it_no_longer_than_it_is_told() -> None:
    stage = await Stage((Finds,)).started()
    stage.durable = asyncio.Event()
    await stage.tick()
    began = time.monotonic()
    await stage.runner.finish(0.1)
    assert 0.09 < time.monotonic() - began < 2 and stage.noted == []
    stage.durable.set()
    stage.durable = None
    await stage.idle()


async def test_a_detail_that_just_fits_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "x" * (MAX_DETAIL - len('{"text":""}'))
    does(monkeypatch, lambda: [Finding("custom:long", {"text": text}, count=-5)])
    stage = await Stage((Odd,)).started()
    await stage.tick()
    assert [(s.detail["text"], s.count) for s in stage.sightings] == [(text, 1)] and stage.failures == []


async def test_a_finding_that_cannot_be_made_durable_harms_nothing() -> None:
    stage = await Stage((Finds,)).started()
    stage.error = Unavailable("away")
    await stage.tick()
    stage.error = None
    await stage.tick()
    assert len(stage.sightings) == 1 and stage.failures == []


# Hooks that fail


@pytest.mark.parametrize(
    "error",
    [
        ValueError,
        SystemExit,
        KeyboardInterrupt,
        RecursionError,
        GeneratorExit,
        StopIteration,
        TimeoutError,
        asyncio.CancelledError,
    ],
)
async def test_a_hook_that_raises_is_noted_and_is_off_the_third_time(
    error: type[BaseException], monkeypatch: pytest.MonkeyPatch, short_budget: None
) -> None:
    does(monkeypatch, raising(error))
    stage = await Stage((Odd, Finds)).started()
    await stage.tick(FAILURES + 2)
    reason = f"it raised {error.__name__}"
    assert stage.failures == [NoteHookFailure("Odd", reason, off) for off in (False, False, True)]
    assert CALLS.count(("odd",)) == FAILURES
    assert len(stage.sightings) == FAILURES + 2


async def test_a_hook_that_takes_too_much_memory_is_off_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    does(monkeypatch, raising(MemoryError))
    stage = await Stage((Odd, Finds)).started()
    await stage.tick(2)
    assert stage.failures == [NoteHookFailure("Odd", "it raised MemoryError", True)]
    assert CALLS.count(("odd",)) == 1 and len(stage.sightings) == 2


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, StopIteration, asyncio.CancelledError, MemoryError])
def test_a_thread_tells_that_its_work_failed_and_goes_on(error: type[BaseException]) -> None:
    thread = HookThread()
    failed = thread.submit(raising(error))
    assert failed.result(5) == Failed(f"it raised {error.__name__}", off=error is MemoryError)
    assert thread.submit(lambda: 5).result(5) == 5
    thread.abandon()


async def test_a_hook_over_its_budget_is_off_and_the_next_one_runs_in_another_thread(short_budget: None) -> None:
    stage = await Stage((Sleeps, Finds)).started()
    await stage.tick(3)
    HELD.set()
    await stage.tick()
    assert stage.failures == [NoteHookFailure("Sleeps", "it took longer than 0.25 s", True)]
    assert [s.kind for s in stage.sightings] == ["custom:found"] * 4
    slept = [ident for name, ident in CALLS if name == "slept"]
    assert len(slept) == 1 and slept[0] not in {ident for name, ident in CALLS if name == "found"}


async def test_so_is_one_that_takes_its_time_in_a_generator(short_budget: None) -> None:
    stage = await Stage((SleepsInAGenerator,)).started()
    await stage.tick(2)
    assert [(f.hook, f.off) for f in stage.failures] == [("SleepsInAGenerator", True)]


async def test_a_thread_that_was_left_behind_ends_when_it_is_free(short_budget: None) -> None:
    before = threads()
    stage = await Stage((Sleeps,)).started()
    await stage.tick()
    HELD.set()
    await stage.runner.finish(1)
    for _ in range(400):
        if not threads() - before:
            break
        await asyncio.sleep(0.01)
    assert not threads() - before


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("no.such.module:Hook", "it raised ModuleNotFoundError"),
        (f"{__name__}:NoSuchHook", "it raised AttributeError"),
        (f"{__name__}:Unmakeable", "it raised ZeroDivisionError"),
        (f"{__name__}:NoHook", f"{__name__}:NoHook is no ProctoringHook"),
        ("", "it raised ValueError"),
        (f"{__name__}:makes_nothing", f"{__name__}:makes_nothing is no ProctoringHook"),
    ],
)
async def test_a_hook_that_cannot_be_loaded_is_noted_and_the_others_are_there(spec: str, reason: str) -> None:
    stage = await Stage((spec, Finds)).started()
    await stage.tick()
    assert stage.failures == [NoteHookFailure(spec, reason, True)]
    assert len(stage.sightings) == 1


async def test_a_hook_that_takes_too_long_to_load_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "LOAD_SECONDS", 0.25)
    monkeypatch.setattr(sys.modules[__name__], "makes_nothing", lambda: HELD.wait(10))
    stage = await Stage((f"{__name__}:makes_nothing",)).started()
    await stage.tick()
    assert [(f.reason, f.off) for f in stage.failures] == [("it took longer than 0.25 s", True)]


# Too many calls, and the end


async def test_calls_beyond_those_that_may_wait_are_left_out() -> None:
    stage = await Stage((Records,)).started()
    for n in range(MAX_WAITING + 50):
        stage.runner.tick(session(version=n))
    await stage.idle()
    ticks = [call[1].version for call in CALLS if call[0] == "on_tick"]
    assert ticks == list(range(MAX_WAITING))
    await stage.tick()
    assert len(CALLS) == 1 + MAX_WAITING + 1


async def test_the_end_is_told_however_many_calls_wait() -> None:
    stage = await Stage((Records,)).started()
    for _ in range(MAX_WAITING + 50):
        stage.runner.tick(session())
    stage.runner.changed(session(), replace(session(), status="completed"), [])
    await stage.idle()
    assert CALLS[-1][0] == "on_end"


async def test_finish_waits_for_the_last_words() -> None:
    stage = await Stage((Finds, Records)).started()
    stage.runner.tick(session())
    stage.runner.changed(session(), replace(session(), status="completed"), [])
    await stage.runner.finish(5)
    assert len(stage.sightings) == 1 and CALLS[-1][0] == "on_end"


async def test_finish_waits_no_longer_than_it_is_told_and_nothing_is_called_after_it() -> None:
    stage = await Stage((Sleeps,)).started()
    for _ in range(5):
        stage.runner.tick(session())
    began = time.monotonic()
    await stage.runner.finish(0.1)
    assert time.monotonic() - began < 0.4
    stage.runner.tick(session())
    HELD.set()
    await stage.idle()
    assert [name for name, _ in CALLS] == ["slept"]


async def test_a_hook_that_was_not_called_any_more_is_not_noted_as_failed(short_budget: None) -> None:
    stage = Stage((SlowStart, Records))
    stage.runner.start(session())
    for _ in range(200):
        if len(stage.runner._hooks) == 2:
            break
        await asyncio.sleep(0.005)
    stage.runner.stop()
    HELD.set()
    await stage.idle()
    assert stage.failures == []


# Memory


def limited(script: str, timeout: float = 60) -> dict[str, Any]:
    """Run a script in a process of its own; what its last line says."""
    source = textwrap.dedent(script)
    run = subprocess.run(
        [sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return json.loads(run.stdout.splitlines()[-1])


def test_a_process_with_limited_memory_refuses_itself_more_and_goes_on() -> None:
    said = limited("""
        import json
        from actors.memory import limit_memory
        limit_memory(100 * 2**20)
        small = bytearray(50 * 2**20)
        try:
            bytearray(500 * 2**20)
            refused = False
        except MemoryError:
            refused = True
        del small
        print(json.dumps({"refused": refused, "goes_on": len(bytearray(50 * 2**20))}))
    """)
    assert said == {"refused": True, "goes_on": 50 * 2**20}


EATER = """
    import asyncio, json, sys, types
    from actors import hooks
    from actors.memory import limit_memory
    from orchestrator.interview.commands import NoteHookFailure
    from orchestrator.interview.fold import fold
    from orchestrator.interview.hooks import Finding, ProctoringHook
    from tests.unit.world import first_entry

    class Eats(ProctoringHook):
        def on_start(self, state):
            kept = []
            while True:
                kept.append(bytearray(5 * 2**20))

    class Fine(ProctoringHook):
        def on_tick(self, state, now):
            return [Finding("custom:fine")]

    async def main():
        noted = []
        async def note(command):
            noted.append(command)
        sys.modules["eaters"] = module = types.ModuleType("eaters")
        module.Eats, module.Fine = Eats, Fine
        hooks.BUDGET_SECONDS = 30
        runner = hooks.HookRunner({"eats": "eaters:Eats", "fine": "eaters:Fine"}, note, lambda: 1)
        limit_memory(100 * 2**20)
        state = fold(None, first_entry())
        runner.start(state)
        turns = 0
        while not noted:
            await asyncio.sleep(0.001)
            turns += 1
        runner.tick(state)
        while len(noted) < 2:
            await asyncio.sleep(0.001)
        try:
            free = len(bytearray(60 * 2**20)) > 0
        except MemoryError:
            free = False
        await runner.finish(1)
        failures = [n.reason for n in noted if isinstance(n, NoteHookFailure)]
        print(json.dumps({"failures": failures, "noted": len(noted), "turns": turns > 0, "free": free}))

    asyncio.run(main())
"""


def test_a_hook_that_takes_all_memory_is_noted_and_the_loop_goes_on() -> None:
    said = limited(EATER)
    assert said["failures"] == ["it raised MemoryError"] and said["noted"] == 2 and said["turns"]


def test_what_a_hook_had_taken_is_free_again_after_its_memory_error() -> None:
    assert limited(EATER)["free"]


# The shipped ones

LONG = "x" * 100


def asked(text: str, pasted_at: int = T0 + 500) -> State:
    """An interview with a question of this text, opened at T0, in which something was pasted."""
    [question, *_] = create_command().questions
    tallies = (Tally("paste", 1, 0, pasted_at),)
    return session(questions=(replace(question, text=text),), proctoring=Proctoring(tallies=tallies))


QUESTION = "Why? " * 80
"""400 characters: ten seconds."""


def test_an_answer_that_was_pasted_sooner_than_its_question_can_be_read_is_found() -> None:
    [finding] = PastedUnread().on_answer(asked(QUESTION), closed(LONG, elapsed_ms=9_999))
    assert finding == Finding(
        "custom:pasted_unread",
        {"question_index": 0, "elapsed_seconds": 9.999, "reading_seconds": 10.0, "characters": 100},
    )


@pytest.mark.parametrize(
    ("state", "answer"),
    [
        (replace(asked(QUESTION), proctoring=Proctoring()), closed(LONG)),
        (asked(QUESTION), closed(LONG, elapsed_ms=10_000)),
        (asked(QUESTION), closed("x" * 79)),
        (asked(QUESTION), closed(LONG, source="draft")),
        (asked(QUESTION), closed("", source="timeout")),
        (asked("Why?"), closed(LONG)),
        (asked(QUESTION, pasted_at=T0 - 1), closed(LONG)),
    ],
    ids=["typed", "slow", "short", "draft", "ran out", "short question", "pasted before it was opened"],
)
def test_other_answers_are_not(state: State, answer: ClosedAnswer) -> None:
    assert list(PastedUnread().on_answer(state, answer)) == []


def away(times: int, kind: str = "tab_hidden") -> State:
    return session(proctoring=Proctoring(tallies=(Tally(kind, times),)))


def absences(times: Iterable[int], kind: str = "tab_hidden", before: int = 0) -> list[Any]:
    """What is found if an absence comes with the count at each of these; at the start there were some `before`."""
    hook, event = RepeatedAbsence(), Seen(5, kind, "page", T0, lasts=True)
    assert list(hook.on_start(away(before, kind))) == []
    return [f.detail["times"] for n in times for f in hook.on_event(away(n, kind), event)]


def test_every_third_absence_is_found() -> None:
    assert absences(range(8)) == [3, 6]
    whole = Seen(5, "face_absent", "frames", T0, T0 + 5_000, 5_000, True)
    [finding] = RepeatedAbsence().on_event(away(3, "face_absent"), whole)
    assert finding == Finding("custom:repeated_absence", {"kind": "face_absent", "times": 3})


def test_ends_and_other_kinds_are_no_absences() -> None:
    hook, begun = RepeatedAbsence(), Seen(5, "tab_hidden", "page", T0, lasts=True)
    told = [(1, begun), (1, replace(begun, until=T0 + 9, ms=9)), (2, begun), (3, begun), (3, replace(begun, until=T0))]
    assert [len(list(hook.on_event(away(n), event))) for n, event in told] == [0, 0, 0, 1, 0]
    assert absences(range(8), kind="paste") == []


def test_what_another_actor_has_found_already_is_not_found_again() -> None:
    assert absences([4, 5, 6], before=4) == [6]
    assert absences([4, 5], before=3) == [] and absences([3], before=2) == [3]


def test_each_kind_of_absence_is_counted_for_itself() -> None:
    hook = RepeatedAbsence()
    both = session(proctoring=Proctoring(tallies=(Tally("tab_hidden", 3), Tally("camera_off", 3))))
    found = [f for k in ("tab_hidden", "camera_off") for f in hook.on_event(both, Seen(5, k, "page", T0))]
    assert [f.detail["kind"] for f in found] == ["tab_hidden", "camera_off"]


def test_an_absence_that_is_told_twice_is_found_once() -> None:
    assert absences([1, 2, 3, 3]) == [3]


def test_absences_that_come_in_one_entry_are_not_missed() -> None:
    assert absences([2, 4, 4]) == [4]
    assert absences([8, 8, 9]) == [8, 9]


# Which are installed


def test_the_shipped_hooks_are_installed() -> None:
    shipped = {
        "pasted_unread": "orchestrator.interview.hooks:PastedUnread",
        "repeated_absence": "orchestrator.interview.hooks:RepeatedAbsence",
    }
    assert shipped.items() <= installed_hooks.installed().items()
    assert installed_hooks.installed("repeated_absence, pasted_unread,") == shipped


def test_only_those_are_taken_that_are_named() -> None:
    assert list(installed_hooks.installed(" pasted_unread ")) == ["pasted_unread"]
    assert installed_hooks.installed("none") == installed_hooks.installed("") == {}
    assert list(installed_hooks.installed("pasted_unread,no_such")) == ["pasted_unread"]


def test_names_that_are_not_installed_are_told() -> None:
    assert installed_hooks.missing("no_such,pasted_unread,other") == ["no_such", "other"]
    assert installed_hooks.missing(None) == installed_hooks.missing("none") == installed_hooks.missing("") == []


async def test_the_shipped_hooks_can_be_loaded() -> None:
    stage = Stage(tuple(installed_hooks.installed("pasted_unread,repeated_absence").values()))
    await stage.started()
    assert stage.failures == [] and len(stage.runner._hooks) == 2
