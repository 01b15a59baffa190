"""FaceActor: looks at stills and reference faces. A small pool in the cluster, with its own share of the processors.

    front end ──stores the still, then asks──> FaceActor ──verdict──> the answer, if it is there in time
                                                  │
                                   NoteFrames ──> the session, wherever it is held

Stills wait in the storage, so none that nobody has looked at is lost when this process is. What its StillChecker keeps
in memory is read again or made anew; sums of stills in which nothing was seen, of half a minute, are lost with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from actors import cluster, metrics
from actors.still_checker import Glance, StillChecker
from orchestrator.errors import InvalidInput, OrchestratorError, Unavailable
from orchestrator.storage.evidence import Still

if TYPE_CHECKING:
    from orchestrator.vision import FaceVerifier

log = logging.getLogger(__name__)

MAX_TO_ASSESS = 16
"""Reference faces that wait; each takes about a tenth of a second of a core."""
SWEEP_SECONDS = 5.0
ROOM = 1024 * 2**20
"""What decoding may take beyond what the process has at its start, in bytes."""


@dataclass(frozen=True, slots=True)
class Assessed:
    """Whether a picture may serve as reference. `template` and what made it are there only if it may."""

    quality: dict[str, Any]
    media_type: str
    template: bytes | None = None
    engine: str = ""
    engine_version: str = ""


def assess(image: bytes, verifier: FaceVerifier) -> Assessed:
    """Look at a picture for reference. Raises InvalidInput or NotAnImage."""
    from orchestrator.pictures import REFERENCE_SIDE, decode
    from orchestrator.vision import assess_reference

    picture = decode(image, REFERENCE_SIDE)
    quality = assess_reference(picture)
    figures = {
        "faces": quality.faces,
        "face_share": _rounded(quality.face_share),
        "sharpness": _rounded(quality.sharpness),
        "brightness": _rounded(quality.brightness),
        "clipped": _rounded(quality.clipped),
        "roll": _rounded(quality.roll),
        "problems": [{"code": p.code, "advice": p.advice} for p in quality.problems],
    }
    if not quality.ok or quality.face is None:
        return Assessed(figures, picture.media_type)
    template = verifier.template(picture, quality.face)
    return Assessed(figures, picture.media_type, template, verifier.engine, verifier.engine_version)


def _rounded(figure: float | None) -> float | None:
    return None if figure is None else round(figure, 3)


class FaceActor:
    """The checker as an actor, one of `of`. Errors are returned as values."""

    def __init__(self, name: str, number: int, of: int) -> None:
        from actors.memory import limit_memory
        from actors.stills import shard_of
        from orchestrator import logs
        from orchestrator.settings import get_settings
        from orchestrator.vision import LbpVerifier, self_check

        self._name = name
        logs.configure(lambda: {"actor": self._name})
        cluster.raise_priority(19)
        self._settings = get_settings()
        self._verifier = LbpVerifier()
        self_check()
        limit_memory(ROOM)
        self._mine = lambda session_id: shard_of(session_id, of) == number
        self._checker: asyncio.Future[StillChecker] = asyncio.get_running_loop().create_future()
        self._assessing = asyncio.Semaphore(1)
        self._to_assess = 0
        self._main = asyncio.get_running_loop().create_task(self._run())

    def __repr__(self) -> str:
        return self._name

    async def ping(self) -> bool:
        return self._checker.done()

    async def look(self, still: Still) -> Glance | OrchestratorError | None:
        try:
            glance = await (await asyncio.shield(self._checker)).look(still)
        except OrchestratorError as error:
            return error
        if glance is not None:
            metrics.count(metrics.STILLS_CHECKED, verdict=glance.verdict)
        return glance

    async def assess(self, image: bytes) -> Assessed | OrchestratorError:
        if self._to_assess >= MAX_TO_ASSESS:
            return Unavailable("Many want a reference face at once; try again soon.", retry_after=3)
        self._to_assess += 1
        try:
            async with self._assessing:
                return await asyncio.to_thread(assess, image, self._verifier)
        except OrchestratorError as error:
            return error
        except MemoryError:
            return InvalidInput.at("/image", "The image takes too much memory to be looked at.")
        finally:
            self._to_assess -= 1

    async def forget(self, session_id: str) -> None:
        if self._checker.done():
            self._checker.result().forget(session_id)

    async def _run(self) -> None:
        checker = await self._made()
        with contextlib.suppress(OrchestratorError):
            await checker.sweep()  # what waits is older than what will come
        self._checker.set_result(checker)
        work = asyncio.get_running_loop().create_task(checker.work())
        while not work.done():
            try:
                await checker.sweep()
            except OrchestratorError as error:
                log.debug("sweep failed", extra={"reason": error.code})
            except Exception:
                log.exception("sweep failed")
            await asyncio.sleep(SWEEP_SECONDS)
        cluster.exit_process()  # without its work this process is of no use; Ray starts another one

    async def _made(self) -> StillChecker:
        from actors.client import InterviewClient
        from actors.storage import open_store
        from orchestrator.vision import check_frame

        while True:
            try:
                store = await open_store()
                break
            except OrchestratorError as error:
                log.info("the storage is not there yet", extra={"reason": error.code})
                await asyncio.sleep(1)
        client = InterviewClient(self._settings, store)
        return StillChecker(
            store,
            client,
            lambda image, template: check_frame(image, template, self._verifier),
            share=self._settings.face_cpus,
            evidence_days=self._settings.evidence_days,
            mine=self._mine,
        )
