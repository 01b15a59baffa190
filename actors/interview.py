"""InterviewActor: the shell around one live interview. It holds the state, the timer and the draft.

One process serves one interview: started warm, activated once, and ended by the Registry when `run`
returns. The rules are in `orchestrator.interview`; what happens on collisions, unknown outcomes and
storage failures is in `orchestrator.session`. This module imports neither a database driver nor an HTTP
or LiveKit client, because its memory is paid once per candidate.

    warm ──run──> activating ──> holding ──completed, released, fenced──> done

What proctoring sees is gathered (`sightings.py`) and entered like everything else; hooks run beside (`hooks.py`).

Time that the process itself has lost (stopped, or its loop blocked) is credited as soon as it runs again, and
it then looks whether somebody has taken its session over. A fenced actor that nobody ends, ends itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from actors.clock import wall_ms
from actors.hooks import MEMORY, HookRunner
from actors.memory import limit_memory
from actors.sightings import Identity, SightingBuffer
from orchestrator import faults
from orchestrator.errors import Fenced, Moved, NotFound, OrchestratorError, Retryable, Unavailable
from orchestrator.interview.allowed import conflict
from orchestrator.interview.commands import (
    SYSTEM,
    Activate,
    Answer,
    Caller,
    Deactivate,
    End,
    Expire,
    NoteHookFailure,
    NoteSightings,
)
from orchestrator.interview.hooks import TICK_SECONDS as HOOK_TICK_SECONDS
from orchestrator.interview.proctoring import NOTHING_MORE, is_repeat
from orchestrator.interview.sightings import Sighting
from orchestrator.interview.snapshot import Draft
from orchestrator.interview.state import State, load_state, snapshot_of
from orchestrator.interview.wire import Wire
from orchestrator.journal import WatchedJournal
from orchestrator.session import DraftSaved, Reply, Request, Session

log = logging.getLogger(__name__)

T = TypeVar("T")

LOOK_AGAIN_SECONDS = 30.0
RETRY_SECONDS = 0.5
LINGER_SECONDS = 0.5
SNAPSHOT_SECONDS = 0.25
REPLY_SECONDS = 0.02
TICK_SECONDS = 2.5
CONFIRM_SECONDS = 60.0
STALL_SECONDS = 1.0
"""A loop that wakes this much too late has kept somebody waiting: the time is given back."""
CLOSE_MS = 2_000
MAX_CALLS = 16
HOOKS_SECONDS = 2.0
"""How long the hooks' last words are waited for."""
EXIT_SECONDS = 5.0
"""As a rule the Registry ends an actor that is done; one that it cannot reach ends itself after this."""


class DeactivationReason(Enum):
    """Why an actor let its session go."""

    COMPLETED = "completed"
    DELETED = "deleted"
    RELEASED = "released"
    FENCED = "fenced"
    PARKED = "parked"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Holding(Wire):
    """What an actor holds: the newest epoch tells two that claim one session apart. No session: it is warm."""

    session_id: str | None
    epoch: int
    node: str


@dataclass(frozen=True, slots=True)
class Activation(Wire):
    """What an actor needs to take a session: its state as far as the sender knows it, and why.

    `state` is JSON text; a stale one costs a collision and a read, nothing else. None: read it.
    """

    session_id: str
    state: str | None
    cause: str
    request: Request | None = None
    draft: Draft | None = None
    silent_since: int | None = None
    retry: bool = False


class InterviewActor:
    """One live interview. Errors are returned as values."""

    def __init__(
        self,
        name: str,
        journal: WatchedJournal | None = None,
        node: str = "",
        clock: Callable[[], int] = wall_ms,
        hooks: Mapping[str, str] | None = None,
        dashboard: str | None = None,
    ) -> None:
        self._name = name
        self._page: str | None = None
        self._session: Session | None = None
        self._session_id: str | None = None
        self._warming: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._exit: Callable[[], None] = _stay
        if journal is None:
            from actors import cluster, quiet
            from actors.journal import NodeJournal
            from orchestrator import logs

            logs.configure(self.log_fields)
            cluster.raise_priority(10)
            node = cluster.own_node_id()
            if dashboard is not None:
                self._page = f"{dashboard.rstrip('/')}/#/actors/{cluster.own_actor_id()}"
            self._exit = cluster.exit_process
            journal = NodeJournal(node)
            self._warming = asyncio.get_running_loop().create_task(journal.connect())
            self._sleeping = asyncio.get_running_loop().create_task(quiet.sleep_well())
            if hooks:
                self._warming.add_done_callback(lambda _: limit_memory(MEMORY))
        else:
            self._warming.set_result(None)
        self._node = node
        self._journal = journal
        self._clock = clock
        self._outcome: asyncio.Future[Reply | OrchestratorError] = asyncio.get_running_loop().create_future()
        self._finished: asyncio.Future[DeactivationReason] | None = None
        self._changed = asyncio.Event()
        self._releasing = False
        self._calls = 0
        self._saver = SnapshotSaver(self._save_snapshot)
        self._watches: list[asyncio.Task[None]] = []
        self._tick_due: float | None = None
        self._confirm_at = 0.0
        self._confirming: asyncio.Task[None] | None = None
        self._sightings = SightingBuffer(self._write_sightings, clock)
        self._hooks = HookRunner(hooks or {}, self._note_of_a_hook, clock)

    def __repr__(self) -> str:
        return self._name

    def log_fields(self) -> dict[str, object]:
        """What every line that this process logs carries."""
        epoch = self._session.state.epoch if self._session is not None else None
        return {"actor": self._name, "session_id": self._session_id, "epoch": epoch}

    async def ping(self) -> Holding:
        """What this actor holds, once it is up."""
        await self._warming
        return Holding(self._session_id, self._session.state.epoch if self._session else 0, self._node)

    async def run(self, activation: Activation) -> DeactivationReason:
        """Take a session and hold it. Returns only when the actor has let it go; can be joined."""
        if self._session_id not in (None, activation.session_id):
            return DeactivationReason.REFUSED
        if self._finished is None:
            loop = asyncio.get_running_loop()
            self._finished = loop.create_future()
            self._session_id = activation.session_id
            self._holding = loop.create_task(self._hold(activation))
        return await asyncio.shield(self._finished)

    async def joined(self) -> DeactivationReason | None:
        """Await the end of the run that is under way; None if this actor never had one."""
        return await asyncio.shield(self._finished) if self._finished else None

    async def activated(self, session_id: str) -> Reply | OrchestratorError:
        """What became of the activation, and of the command that caused it."""
        if self._session_id not in (None, session_id):
            return Moved("This actor holds another session.", session_id=session_id, retry_after=1)
        return await asyncio.shield(self._outcome)

    async def execute(self, session_id: str, request: Request) -> Reply | OrchestratorError:
        """Run a command on the session this actor holds."""
        if isinstance(request.command, Answer | End) and not self._is_close():
            await self._sightings.flush()  # what was seen before it is to be entered before it
        return await self._serve(session_id, lambda s: s.execute(request, self._clock()))

    def _is_close(self) -> bool:
        """Whether the open question's time is nearly over, so that nothing may come before an answer."""
        deadline = self._session.state.deadline if self._session is not None else None
        return deadline is not None and deadline - self._clock() < CLOSE_MS

    async def save_draft(
        self, session_id: str, index: int, text: str, revision: int | None, received_at: int
    ) -> DraftSaved | OrchestratorError:
        """Keep the text in progress of the open question."""
        return await self._serve(session_id, lambda s: s.save_draft(index, text, revision, self._clock(), received_at))

    async def note(
        self,
        session_id: str,
        sightings: tuple[Sighting, ...],
        caller: Caller,
        identity: Identity | None,
    ) -> Reply | OrchestratorError:
        """Take in what was seen; it is durable on return, and what comes in a flood is written as one."""
        try:
            session = await self._held(session_id)
            now = self._clock()
            replayed = is_repeat(session.state, identity)
            if session.state.status == "completed" and not replayed:
                raise conflict(session.state, NOTHING_MORE)
            if not replayed:
                replayed = await self._sightings.add(caller, sightings, identity)
            return Reply(session.view(now, caller.role), session.state.version, replayed)
        except OrchestratorError as error:
            return error

    async def _write_sightings(self, caller: Caller, command: NoteSightings) -> None:
        await self._run_own(command, caller)

    async def _note_of_a_hook(self, command: NoteSightings | NoteHookFailure) -> None:
        if not isinstance(command, NoteSightings):
            await self._run_own(command, SYSTEM)
            return
        if self._session is not None and self._session.state.status == "completed":
            await self._run_own(command, SYSTEM)  # there is not much time left
        else:
            await self._sightings.add(SYSTEM, command.sightings, None)

    async def _run_own(self, command: NoteSightings | NoteHookFailure, caller: Caller) -> None:
        """Run a command that comes from this actor itself."""
        session = self._session
        assert session is not None and self._session_id is not None
        now = self._clock()
        result = await self._serve(self._session_id, lambda s: s.execute(Request(command, caller, now), now))
        if isinstance(result, OrchestratorError):
            raise result

    async def release(self, reason: str) -> OrchestratorError | None:
        """Hand the session over: no new commands, finish the append under way, let go.

        While that cannot be made durable nobody else could take the session, so it is kept, with the error.
        """
        if self._finished is None:
            return None
        await asyncio.shield(self._outcome)
        session = self._session
        if session is None or self._is_done():
            return None
        self._releasing = True
        faults.step("release.before", session.state.session_id)
        try:
            async with session.lock:
                self._note_stall(session)
                now = self._clock()
                await session.execute(Request(Deactivate(reason), SYSTEM, now), now)
        except OrchestratorError as error:
            self._releasing = False
            self._note_loss(error)
            return error
        faults.step("release.after", session.state.session_id)
        self._saver.now()
        self._finish(DeactivationReason.RELEASED)
        return None

    async def _serve(self, session_id: str, work: Callable[[Session], Awaitable[T]]) -> T | OrchestratorError:
        self._calls += 1
        try:
            if self._calls > MAX_CALLS:  # a queue here would look like a hang, and a hang is credited
                return Unavailable("Too many calls at once for one interview; send them one by one.", retry_after=1)
            session = await self._held(session_id)
            async with session.lock:
                if self._releasing:
                    return Moved("The session is being handed over.", session_id=session_id, retry_after=1)
                self._note_stall(session)
                before = session.state
                try:
                    result = await work(session)
                except OrchestratorError:
                    if session.state is not before:  # refused, but the clock had closed a question first
                        await self._after_change(before)
                    raise
            if session.state is not before:
                await self._after_change(before)
            faults.step("reply.before", session_id)
            return result
        except OrchestratorError as error:
            self._changed.set()
            self._note_loss(error)
            return error
        finally:
            self._calls -= 1

    async def _held(self, session_id: str) -> Session:
        """The session, if it is this one. Raises Moved."""
        if session_id == self._session_id and self._session is None:
            await asyncio.shield(self._outcome)  # the journal may name this actor before it is ready
        if self._session is None or session_id != self._session_id or self._releasing:
            raise Moved("This actor does not hold the session.", session_id=session_id, retry_after=1)
        return self._session

    async def _hold(self, activation: Activation) -> None:
        try:
            session = await self._activate(activation)
        except OrchestratorError as error:
            self._outcome.set_result(error)
            self._finish(DeactivationReason.REFUSED)
            return
        except Exception as error:
            log.exception("activation failed", extra={"session_id": activation.session_id})
            self._outcome.set_result(Retryable(f"Activation failed: {type(error).__name__}.", retry_after=1))
            self._finish(DeactivationReason.REFUSED)
            return
        while session.owned and session.state.status == "in_progress" and not self._is_done():
            try:
                await self._next_event(session)
                await self._look(session)
            except Exception:
                log.exception("the timer stumbled", extra={"session_id": session.state.session_id})
                await asyncio.sleep(RETRY_SECONDS)
            if session.has_let_go and not self._releasing:  # a hand-over that had failed has landed after all
                self._finish(DeactivationReason.RELEASED)
        await self._let_go(session)

    async def _activate(self, activation: Activation) -> Session:
        request = activation.request
        if activation.state is None:
            session = await Session.load(self._journal, activation.session_id)
        else:
            session = Session(self._journal, load_state(activation.state), activation.draft)
        command = Activate(
            self._name, self._node, activation.cause, activation.silent_since, activation.retry, self._page
        )
        faults.step("activate.before", activation.session_id)
        now = self._clock()
        replayed = await session.activate(command, request, now)
        role = request.caller.role if request else "system"
        reply = Reply(session.view(self._clock(), role), session.state.version, replayed)
        faults.step("activate.after", activation.session_id)
        self._session = session
        log.info("activated", extra={"cause": activation.cause})
        self._watches = [asyncio.create_task(self._watch_itself(session)), asyncio.create_task(self._watch_storage())]
        self._saver.now()
        if session.owned:
            self._hooks.start(session.state)
        self._outcome.set_result(reply)
        self._changed.set()  # deadlines that have passed, drafts to claim and time to credit come next
        return session

    async def _next_event(self, session: Session) -> None:
        """Wait for a change, for the next deadline, or for half a minute, whichever comes first."""
        wait = LOOK_AGAIN_SECONDS
        if not session.is_settled:
            wait = RETRY_SECONDS
        elif session.state.due_at is not None:
            wait = min(wait, (session.state.due_at - self._clock() + 1) / 1000)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), max(0.0, wait))
        self._changed.clear()

    async def _look(self, session: Session) -> None:
        """Fire what is due, and repeat what is of unknown outcome."""
        self._note_stall(session)
        if session.is_settled and not session.state.is_overdue(self._clock()):
            return
        failed = False
        async with session.lock:
            self._note_stall(session)
            now = self._clock()
            before = session.state
            try:
                await session.settle(now)
                if session.state.is_overdue(now):
                    await session.execute(Request(Expire(), SYSTEM, now), now)
            except OrchestratorError as error:
                failed = True
                self._note_loss(error)
        if failed:
            await asyncio.sleep(RETRY_SECONDS)
        if session.state is not before:
            await self._after_change(before)

    async def _watch_itself(self, session: Session) -> None:
        """Notice that this process did not run for a while, or that it was cut off and the session taken over."""
        loop = asyncio.get_running_loop()
        self._confirm_at = loop.time() + CONFIRM_SECONDS
        hooks_at = loop.time() + HOOK_TICK_SECONDS
        while not self._is_done():
            self._tick_due = loop.time() + TICK_SECONDS
            await asyncio.sleep(TICK_SECONDS)
            self._note_stall(session)
            if loop.time() >= hooks_at:
                hooks_at = loop.time() + HOOK_TICK_SECONDS
                try:
                    self._hooks.tick(session.state)
                except Exception:
                    log.exception("hooks cannot be told the time", extra={"session_id": self._session_id})
            if loop.time() >= self._confirm_at and (self._confirming is None or self._confirming.done()):
                self._confirm_at = loop.time() + CONFIRM_SECONDS
                self._confirming = loop.create_task(self._confirm(session))

    def _note_stall(self, session: Session) -> None:
        """Notice that this process did not run for a while, before anything is judged that came meanwhile.

        The calls that came are served before the timer runs that has waited as long.
        """
        loop = asyncio.get_running_loop()
        late = loop.time() - self._tick_due if self._tick_due is not None else 0.0
        if late <= STALL_SECONDS:
            return
        self._tick_due = loop.time() + TICK_SECONDS
        self._confirm_at = loop.time()
        log.warning("stalled", extra={"session_id": self._session_id, "seconds": round(late, 1)})
        now = self._clock()
        session.note_blocked(now - round((late + TICK_SECONDS) * 1000), now)  # since it last ran for sure

    async def _watch_storage(self) -> None:
        """Learn of outages in which this interview sent nothing, so that they are credited too."""
        after = self._clock()
        while not self._is_done():
            try:
                outage = await self._journal.next_outage(after)
            except OrchestratorError:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            except Exception:
                log.exception("the storage cannot be watched")
                await asyncio.sleep(LOOK_AGAIN_SECONDS)
                continue
            if outage is None or self._session is None:
                continue
            after = outage.until
            self._session.note_blocked(outage.since, outage.until)
            self._changed.set()

    async def _confirm(self, session: Session) -> None:
        try:
            async with session.lock:
                await session.confirm()
        except OrchestratorError as error:
            self._note_loss(error)
        except Exception:
            log.exception("the owner could not be confirmed", extra={"session_id": self._session_id})
        self._changed.set()

    async def _after_change(self, before: State) -> None:
        """Wake the timer and save a snapshot; lists must show a new status at once, so that is awaited."""
        session = self._session
        assert session is not None
        self._changed.set()
        self._hooks.changed(before, session.state, session.take_news())
        if session.state.status != before.status:
            with contextlib.suppress(OrchestratorError):
                await self._save_snapshot()
        else:
            self._saver.soon()

    async def _save_snapshot(self) -> None:
        session = self._session
        if session is not None and session.state.status != "deleted":
            await self._journal.save_snapshot(snapshot_of(session.state))

    def _note_loss(self, error: OrchestratorError) -> None:
        session = self._session
        if session is not None and session.fenced:
            deleted = isinstance(error, NotFound)
            log.warning("let go", extra={"session_id": self._session_id, "reason": error.code})
            self._finish(DeactivationReason.DELETED if deleted else DeactivationReason.FENCED)
        elif isinstance(error, Fenced):
            self._finish(DeactivationReason.FENCED)

    async def _let_go(self, session: Session) -> None:
        """Late repeats still get their answer for a moment; then the Registry may end the process."""
        if not self._is_done():
            with contextlib.suppress(OrchestratorError):
                await self._save_snapshot()
            await asyncio.sleep(LINGER_SECONDS)
            await self._sightings.flush()
            await self._hooks.finish(HOOKS_SECONDS)
            while self._calls:
                await asyncio.sleep(0.02)
        self._finish(_reason_to_end(session))

    def _is_done(self) -> bool:
        return self._finished is not None and self._finished.done()

    def _finish(self, reason: DeactivationReason) -> None:
        if self._finished is not None and not self._finished.done():
            self._finished.set_result(reason)
            asyncio.get_running_loop().call_later(EXIT_SECONDS, self._exit)
            for watch in (*self._watches, self._confirming):
                if watch is not None:
                    watch.cancel()
            self._hooks.stop()
        self._changed.set()


def _reason_to_end(session: Session) -> DeactivationReason:
    if session.state.status == "deleted":
        return DeactivationReason.DELETED
    if session.owned:
        return DeactivationReason.COMPLETED
    return DeactivationReason.PARKED if session.state.parked is not None else DeactivationReason.REFUSED


def _stay() -> None:
    """How an actor that is not a process of its own ends."""


class SnapshotSaver:
    """Saves in the background: one save in flight, at most one waiting."""

    def __init__(self, save: Callable[[], Awaitable[Any]]) -> None:
        self._save = save
        self._wanted = False
        self._task: asyncio.Task[None] | None = None

    def soon(self) -> None:
        """Ask for a save; several requests in a short time become one."""
        self._start(SNAPSHOT_SECONDS)

    def now(self) -> None:
        """Ask for a save as soon as the reply that is being given is out."""
        self._start(REPLY_SECONDS)

    def _start(self, pause: float) -> None:
        self._wanted = True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work(pause))

    async def _work(self, pause: float) -> None:
        while self._wanted:
            await asyncio.sleep(pause)
            pause = SNAPSHOT_SECONDS
            self._wanted = False
            try:
                await self._save()
            except OrchestratorError as error:
                log.debug("snapshot not saved", extra={"reason": error.code})
                self._wanted = True
