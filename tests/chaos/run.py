"""`python -m tests.chaos.run`: a service of its own, a load, random faults, and an audit of what is left.

Exit code 1 if anything acknowledged was lost or doubled, a timer was lost, doubled or early, a journal is broken,
or anything is stuck; the data folder is then kept. The seed gives the same plans and choices, not the same timing.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import httpx
from rich.console import Console

from tests.chaos.audit import audit
from tests.chaos.checks import Findings
from tests.chaos.faults import KINDS, NoVictim, World
from tests.chaos.load import Load
from tests.chaos.report import Injected, line_of, progress, report
from tests.servers import Serve

WARM_UP_SECONDS = 5.0
BETWEEN_SECONDS = (3.5, 6.0)
RECOVERY_SECONDS = 30.0
SETTLE_SECONDS = 12.0
AUDIT_SECONDS = 600.0
PROGRESS_SECONDS = 30.0
FELT_AT_ONCE_SHARE = 0.7

console = Console(highlight=False)


@dataclass
class Run:
    """One run: makes the faults and remembers when."""

    world: World
    kinds: list[str]
    ends_at: float
    log: TextIO
    injected: list[Injected] = field(default_factory=list)
    last: dict[str, float] = field(default_factory=dict)

    async def faults(self) -> None:
        """One fault after the other, each after the service has recovered from the one before."""
        await asyncio.sleep(WARM_UP_SECONDS)
        while time.monotonic() < self.ends_at:
            kind = self._choose()
            fault = await self._inject(kind)
            if fault is not None:
                self.injected.append(fault)
                self.log.write(line_of(fault) + "\n")
                await self._until_recovered(fault)
            await asyncio.sleep(self.world.rng.uniform(*BETWEEN_SECONDS))

    def _choose(self) -> str:
        now = time.monotonic()
        allowed = [k for k in self.kinds if now - self.last.get(k, float("-inf")) >= KINDS[k].apart_seconds]
        return self.world.rng.choices(allowed, [KINDS[k].weight for k in allowed])[0]

    async def _inject(self, kind: str) -> Injected | None:
        self.world.victim = None
        try:
            await KINDS[kind].do(self.world)
        except NoVictim:
            return None
        self.last[kind] = now = time.monotonic()
        # Most faults are felt at once, the others when the candidates come to it.
        if self.world.rng.random() < FELT_AT_ONCE_SHARE:
            self.world.load.hurry(self.world.victim)
        return Injected(kind, now, time.time(), self.world.victim)

    async def _until_recovered(self, fault: Injected) -> None:
        give_up = time.monotonic() + RECOVERY_SECONDS
        while time.monotonic() < give_up:
            if self.world.load.record.succeeded_after(fault.at):
                return
            await asyncio.sleep(0.1)
        fault.recovered = False

    async def say_how_it_goes(self) -> None:
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            left = max(0.0, self.ends_at - time.monotonic())
            console.print(
                progress(self.world.load.record, self.injected, len(self.world.load.live), left), soft_wrap=True
            )


@asynccontextmanager
async def _background(*tasks: asyncio.Task[None]) -> AsyncIterator[None]:
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def run(service: Serve, folder: Path, options: argparse.Namespace) -> int:
    """The load with its faults, then the audit. The exit code."""
    began = time.monotonic()
    timeout = httpx.Timeout(25.0, connect=5.0)
    async with httpx.AsyncClient(base_url=service.api, timeout=timeout) as http:
        load = Load(http, options.candidates, options.seed, options.pace)
        world = World(service, load, http, random.Random(options.seed), folder)
        kinds = chosen_kinds(options.only, options.without)
        with open(folder.parent / "faults.log", "w", buffering=1) as log:
            run = Run(world, kinds, began + 60 * options.minutes, log)
            async with _background(asyncio.create_task(run.say_how_it_goes())):
                await _loaded(load, run)
        await world.continue_all()
        await asyncio.sleep(SETTLE_SECONDS)
        findings = await _audited(http, load)
    return report(console, load.record, run.injected, findings, time.monotonic() - began)


async def _loaded(load: Load, run: Run) -> None:
    loading = asyncio.create_task(load.run())
    faults = asyncio.create_task(run.faults())
    async with _background(loading, faults):
        done, _ = await asyncio.wait({loading, faults}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        load.stop()
        try:
            await asyncio.wait_for(loading, load.seconds_to_stop)
        except TimeoutError:
            load.record.errors.append("the load did not come to an end")


async def _audited(http: httpx.AsyncClient, load: Load) -> Findings:
    try:
        return await asyncio.wait_for(audit(http, load), AUDIT_SECONDS)
    except TimeoutError:
        return Findings(stuck=["the audit did not come to an end", *load.record.errors])


def chosen_kinds(only: str | None, without: str | None) -> list[str]:
    """Names of kinds that contain one of `only` and none of `without` (words between commas)."""
    wanted = only.split(",") if only else [""]
    unwanted = without.split(",") if without else []
    chosen = [k for k in KINDS if any(w in k for w in wanted) and not any(u in k for u in unwanted)]
    if not chosen:
        raise SystemExit(f"No kind of fault is left; there are: {', '.join(KINDS)}")
    return chosen


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run", description="Random faults under a load.")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--candidates", type=int, default=12)
    parser.add_argument("--pace", type=float, default=1.0, help="seconds that a candidate thinks, about")
    parser.add_argument("--only", help="kinds of faults that contain one of these words (a,b)")
    parser.add_argument("--without", help="no kinds that contain one of these words (a,b)")
    parser.add_argument("--keep", action="store_true", help="keep the data folder in any case")
    options = parser.parse_args()
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1 << 32)
    return options


def main() -> int:
    options = _options()
    logging.getLogger("httpx").setLevel(logging.WARNING)
    folder = Path(tempfile.mkdtemp(prefix="interview-chaos-"))
    faults_folder = folder / "faults"
    faults_folder.mkdir()
    console.print(f"seed {options.seed}, {options.candidates} candidates, {options.minutes:g} minutes, in {folder}")
    service = Serve(folder, INTERVIEW_WARM_ACTORS="3", INTERVIEW_FAULTS=str(faults_folder))
    code = 1
    try:
        service.start()
        code = asyncio.run(run(service, faults_folder, options))
    finally:
        if service.process is not None:
            service.stop()
        if code == 0 and not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            console.print(f"kept: {folder} (serve.log, faults.log, data/)", style="red")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
