"""HookRunner: calls proctoring hooks beside the interview, and lets none of them harm it.

    a hook ...                        then ...
    returns findings                  they are noted, as events of source `hook`
    raises                            that is noted; the third time it is not called any more (a MemoryError: at once)
    takes longer than its budget      that is noted; it is not called any more, and its thread is left behind
    takes more memory than there is   it gets a MemoryError, or the process ends and another actor takes the session
    has ended two actors              no hooks are called any more in this session (a rule, see `proctoring.py`)

Hooks run one at a time in a thread of their own, after the answer to whoever caused the call.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import itertools
import logging
import queue
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.errors import OrchestratorError
from orchestrator.interview.commands import NoteHookFailure, NoteSightings
from orchestrator.interview.entry import canonical_json
from orchestrator.interview.hooks import BUDGET_SECONDS, Finding, ProctoringHook
from orchestrator.interview.sightings import Seen, Sighting, check_kind
from orchestrator.interview.state import State

log = logging.getLogger(__name__)

LOAD_SECONDS = 10.0
FAILURES = 3
MAX_FINDINGS = 20
"""Of one call."""
MAX_DETAIL = 1_000
"""Characters of JSON."""
MAX_WAITING = 200
"""Calls that wait for their turn; what comes beyond is left out, but for answers and the end."""
NEVER_LEFT_OUT = ("on_answer", "on_end")
MEMORY = 256 * 2**20
"""What a process that runs hooks may take beyond what it has taken before, in bytes."""

PAUSE_SECONDS = 0.2
"""What happens shortly after one another is told to the hooks at once."""

Call = tuple[str, tuple[Any, ...]]
"""The name of a hook's method, and what it is given."""
BoundCall = tuple[Callable[..., "Iterable[Finding] | None"], tuple[Any, ...]]
Note = Callable[[NoteSightings | NoteHookFailure], Awaitable[None]]


class HookRunner:
    """`specs`: `module:class` by name. `note` makes something durable. `clock` gives ms."""

    def __init__(self, specs: Mapping[str, str], note: Note, clock: Callable[[], int]) -> None:
        self._specs = dict(specs)
        self._note = note
        self._clock = clock
        self._hooks: dict[str, ProctoringHook] = {}
        self._failures: dict[str, int] = {}
        self._calls: list[Call] = []
        self._worker: asyncio.Task[None] | None = None
        self._notes: set[asyncio.Task[None]] = set()
        self._thread = HookThread()
        self._stopped = not specs

    def start(self, state: State) -> None:
        """Load the hooks, and tell them that the interview is here."""
        if state.proctoring.hooks_off or self._stopped:
            self._stopped = True
            return
        self._call("load", ())
        self._call("on_start", (state,))

    def changed(self, before: State, after: State, seen: Iterable[Seen]) -> None:
        """The session has changed; `seen` is what is new in its timeline."""
        for event in seen:
            if event.source != "hook":
                self._call("on_event", (after, event))
        for answer in after.answers[len(before.answers) :]:
            self._call("on_answer", (after, answer))
        if after.status == "completed" and before.status != "completed":
            self._call("on_end", (after,))

    def tick(self, state: State) -> None:
        self._call("on_tick", (state, self._clock()))

    async def finish(self, seconds: float) -> None:
        """Let the calls that wait come to an end, but not for longer than this, and call nothing any more."""
        give_up = asyncio.get_running_loop().time() + seconds
        if self._worker is not None:
            await asyncio.wait({self._worker}, timeout=seconds)
        self.stop()
        if self._notes:
            await asyncio.wait(self._notes, timeout=max(0.0, give_up - asyncio.get_running_loop().time()))

    def stop(self) -> None:
        self._stopped = True
        self._calls.clear()
        self._thread.abandon()

    def _call(self, method: str, args: tuple[Any, ...]) -> None:
        wanted = method == "load" or self._worker_busy or any(_overrides(h, method) for h in self._hooks.values())
        if self._stopped or not wanted or (len(self._calls) >= MAX_WAITING and method not in NEVER_LEFT_OUT):
            return
        self._calls.append((method, args))
        if not self._worker_busy:
            self._worker = asyncio.get_running_loop().create_task(self._work())

    @property
    def _worker_busy(self) -> bool:
        return self._worker is not None and not self._worker.done()

    async def _work(self) -> None:
        await asyncio.sleep(PAUSE_SECONDS)
        while self._calls and not self._stopped:
            calls, self._calls = self._calls, []
            if calls[0][0] == "load":
                for name, spec in self._specs.items():
                    await self._load(name, spec)
            for name in list(self._hooks):
                if not self._stopped:
                    await self._run(name, calls)

    async def _load(self, name: str, spec: str) -> None:
        hook = await self._attempt(name, lambda: _instance(spec), LOAD_SECONDS)
        if isinstance(hook, ProctoringHook):
            self._hooks[name] = hook
        elif not isinstance(hook, Failed):
            await self._failed(name, f"{spec} is no ProctoringHook", off=True)

    async def _run(self, name: str, calls: list[Call]) -> None:
        """Call one hook, for all that has happened since it was called last: handing over to a thread is what costs."""
        hook, thread, now = self._hooks[name], self._thread, self._clock()
        mine = [(getattr(hook, method), args) for method, args in calls if _overrides(hook, method)]
        if not mine:
            return
        del hook
        results = await self._attempt(
            name, lambda: _all_called(name, mine, now, thread), BUDGET_SECONDS, calls=len(mine)
        )
        mine.clear()  # they hold the hook, and the hook may hold much
        if isinstance(results, Failed):
            return
        if found := [sighting for result in results if not isinstance(result, Failed) for sighting in result]:
            self._note_soon(NoteSightings(tuple(found)))
        for result in results:
            if isinstance(result, Failed) and name in self._hooks:
                await self._raised(name, result)

    async def _attempt(self, name: str, work: Callable[[], Any], seconds: float, *, calls: int = 1) -> Any:
        """The result, or that it failed, which is noted. `seconds`: for each of so many calls that it makes."""
        result = self._thread.submit(work)
        try:
            result = await asyncio.wait_for(asyncio.wrap_future(result), seconds * calls)
        except TimeoutError:
            if self._stopped:
                return Failed("it was not called any more")
            self._thread.abandon()
            self._thread = HookThread()
            result = Failed(f"it took longer than {seconds:g} s", off=True)
        del work  # it holds the hook, and the hook may hold much
        if isinstance(result, Failed):
            await self._raised(name, result)
        return result

    async def _raised(self, name: str, failure: Failed) -> None:
        self._failures[name] = self._failures.get(name, 0) + 1
        off = failure.off or self._failures[name] >= FAILURES or name not in self._hooks
        await self._failed(name, failure.reason, off=off)

    async def _failed(self, name: str, reason: str, *, off: bool) -> None:
        log.warning("hook failed", extra={"hook": name, "reason": reason, "off": off})
        if off:
            self._hooks.pop(name, None)
        await self._noted(NoteHookFailure(name, reason, off))

    def _note_soon(self, command: NoteSightings) -> None:
        """The next call need not wait until this is durable."""
        task = asyncio.get_running_loop().create_task(self._noted(command))
        self._notes.add(task)
        task.add_done_callback(self._notes.discard)

    async def _noted(self, command: NoteSightings | NoteHookFailure) -> None:
        try:
            await self._note(command)
        except OrchestratorError as error:
            log.info("a hook's finding was not noted", extra={"reason": error.code})
        except Exception:
            log.exception("a hook's finding could not be noted")


@dataclass(frozen=True, slots=True)
class Failed:
    """A hook's call did not end as it should. (The error itself would keep alive what the hook had taken.)"""

    reason: str
    off: bool = False


NO_MEMORY = Failed("it raised MemoryError", off=True)
"""Made ahead: there may be no memory left to make it."""


class HookThread:
    """One daemon thread that does one piece of work after another. (An executor's would be waited for at exit.)"""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self.abandoned = False

    def submit(self, work: Callable[[], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="hooks", daemon=True)
            thread.start()
            self._thread = thread
        self._work.put((work, future))
        return future

    def abandon(self) -> None:
        """End the thread once it is free; what it is doing cannot be stopped."""
        self.abandoned = True
        self._work.put(None)

    def _run(self) -> None:
        while (item := self._work.get()) is not None:
            work, future = item
            result = _outcome(work)
            with contextlib.suppress(InvalidStateError):  # nobody waits for it any more
                future.set_result(result)
            del item, work, future, result


def _outcome(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except MemoryError:
        return NO_MEMORY
    except BaseException as error:
        return Failed(f"it raised {type(error).__name__}")


def _all_called(hook: str, calls: list[BoundCall], now: int, thread: HookThread) -> list[Any]:
    """What each call came to; none is made after one that took all memory, or when nobody waits any more."""
    results: list[Any] = []
    for method, args in list(calls):
        if thread.abandoned:
            break
        results.append(_outcome(lambda method=method, args=args: _sightings(hook, method(*map(_own, args)), now)))
        if results[-1] is NO_MEMORY:
            break
    return results


def _overrides(hook: ProctoringHook, method: str) -> bool:
    return getattr(type(hook), method, None) is not getattr(ProctoringHook, method, None)


def _own(given: Any) -> Any:
    """What a hook is given, so that what it changes there is nobody's but its own. (A deep copy takes milliseconds.)"""
    if isinstance(given, State):
        return replace(given, metadata=dict(given.metadata))
    return replace(given, detail=dict(given.detail)) if isinstance(given, Seen) else given


def _instance(spec: str) -> Any:
    module, _, name = spec.partition(":")
    return getattr(importlib.import_module(module), name)()


def _sightings(hook: str, findings: Iterable[Finding] | None, now: int) -> list[Sighting]:
    """What a hook returned, as it can be stored. Raises what is wrong with it."""
    found: list[Sighting] = []
    for finding in itertools.islice(findings or (), MAX_FINDINGS):
        check_kind(finding.kind)
        if len(canonical_json(finding.detail)) > MAX_DETAIL:
            raise ValueError("a finding's detail is too long")
        at = now if finding.at is None else min(int(finding.at), now)
        detail = {**finding.detail, "hook": hook}
        found.append(Sighting(finding.kind, "hook", at, count=max(1, int(finding.count)), detail=detail))
    return found
