"""What a run says on the terminal."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from tests.chaos.checks import Findings
from tests.chaos.record import Record

SHOWN = 20
COMMANDS = ("create", "start", "draft", "answer", "repeat", "extend", "pause", "resume", "end")


@dataclass
class Injected:
    """One fault that was made: when (monotonic and wall clock), and the session that it was about."""

    kind: str
    at: float
    wall: float
    victim: str | None
    recovered: bool = True
    """Some command succeeded soon enough afterwards."""


def percentile(values: list[float], share: float) -> float:
    """The nearest-rank percentile of `values` (not empty)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def progress(record: Record, injected: list[Injected], live: int, left: float) -> str:
    """One line while it runs."""
    acknowledged = sum(record.counts[c] for c in COMMANDS)
    return (
        f"{len(injected)} faults, {acknowledged} commands acknowledged, {len(record.interviews)} interviews "
        f"({live} live), {len(record.errors)} errors, {left:.0f} s left"
    )


def recovery_times(record: Record, injected: list[Injected]) -> dict[str, list[float]]:
    """Seconds from a fault to service again, by kind; what happens after the next fault is that one's."""
    times: dict[str, list[float]] = defaultdict(list)
    ends = [fault.at for fault in injected[1:]] + [math.inf]
    for fault, until in zip(injected, ends, strict=True):
        times[fault.kind] += record.recovery_after(fault.at, until, fault.victim)
    return times


def line_of(fault: Injected) -> str:
    """One fault in words."""
    when = datetime.fromtimestamp(fault.wall, UTC).isoformat("T", "milliseconds")
    about = f" (session {fault.victim})" if fault.victim else ""
    return f"{when} {fault.kind}{about}"


def report(console: Console, record: Record, injected: list[Injected], findings: Findings, seconds: float) -> int:
    """Print everything; the exit code."""
    console.print(_faults_table(record, injected))
    console.print(_counts_table(record, findings, seconds))
    for fault in injected:
        if not fault.recovered:
            findings.stuck.append(f"nothing succeeded within 30 s after {line_of(fault)}")
    for name in (*Findings.FAILURES, *Findings.WARNINGS):
        style = "red" if name in Findings.FAILURES else "yellow"
        for sentence in getattr(findings, name)[:SHOWN]:
            console.print(f"{name}: {sentence}", style=style, markup=False, soft_wrap=True)
    verdict = "failed" if findings.failed else "passed"
    console.print(f"{verdict}: {findings.checked} acknowledgements of {findings.sessions} sessions were checked.")
    return 1 if findings.failed else 0


def _faults_table(record: Record, injected: list[Injected]) -> Table:
    table = Table(title="Faults, and seconds until those who felt them were served again")
    for heading in ("fault", "times", "felt by", "p50 s", "p99 s", "most s"):
        table.add_column(heading, justify="left" if heading == "fault" else "right")
    counts = Counter(fault.kind for fault in injected)
    times = recovery_times(record, injected)
    for kind in sorted(counts):
        table.add_row(kind, str(counts[kind]), *_figures(times[kind]))
    table.add_section()
    table.add_row("all", str(len(injected)), *_figures([t for kind in times for t in times[kind]]))
    return table


def _figures(times: list[float]) -> tuple[str, str, str, str]:
    if not times:
        return "0", "-", "-", "-"
    return str(len(times)), f"{percentile(times, 0.5):.2f}", f"{percentile(times, 0.99):.2f}", f"{max(times):.2f}"


def _counts_table(record: Record, findings: Findings, seconds: float) -> Table:
    table = Table(title=f"{len(record.interviews)} interviews in {seconds:.0f} s")
    table.add_column("what")
    table.add_column("number", justify="right")
    for command in COMMANDS:
        table.add_row(f"acknowledged: {command}", str(record.counts[command]))
    failed = Counter(status for call in record.calls for status, _ in call.failures)
    for status, count in sorted(failed.items()):
        table.add_row(f"attempts repeated after {status or 'a broken connection'}", str(count))
    table.add_row("parked sessions started again", str(record.counts["parked"]))
    table.add_row("questions closed by their timer", str(findings.timers))
    table.add_row("acknowledgements checked", str(findings.checked))
    table.add_section()
    for name in (*Findings.FAILURES, *Findings.WARNINGS):
        table.add_row(name.replace("_", " "), str(len(getattr(findings, name))))
    return table
