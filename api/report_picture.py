"""The timeline of a report as an SVG picture: a row for each lane, minutes below.

Its colours on a screen are in report.css; those that it carries itself are for PDFs, where no style sheet reaches it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from markupsafe import Markup, escape

from orchestrator.interview.report import LANES

WIDTH, LEFT, ROW, BAR = 960.0, 104.0, 30.0, 18.0
"""In units of the picture."""
STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800)
"""Seconds between two ticks, the first that gives few enough."""
TICKS = 10
CHARACTER = 7.0
PAPER = {
    "questions": "#0b5cad",
    "clock": "#805300",
    "connection": "#1a6b34",
    "video": "#1a6b34",
    "machine": "#444444",
    "proctoring": "#b3261e",
}
MIDDLE = 'text-anchor="middle" font-size="12"'
MARK = 3.0
"""The width of what happened at once."""


def picture(spans: Sequence[dict[str, Any]], started_at: str, completed_at: str) -> Markup:
    """`spans`: the report's `timeline`."""
    first, last = _ms(started_at), _ms(completed_at)
    whole = max(1, last - first)
    lanes = [lane for lane in LANES if any(span["lane"] == lane for span in spans)]
    height = ROW * len(lanes) + 28

    def x(at: int) -> float:
        return round(LEFT + (WIDTH - LEFT - 8) * (at - first) / whole, 1)

    parts = [
        f'<svg class="timeline" viewBox="0 0 {WIDTH:g} {height:g}" role="img" aria-label="What happened when; '
        'the tables below say the same in words" preserveAspectRatio="xMinYMin meet">'
    ]
    for at in _ticks(first, last):
        parts.append(
            f'<line class="tick" stroke="#bbbbbb" x1="{x(at)}" x2="{x(at)}" y1="0" y2="{ROW * len(lanes):g}"/>'
        )
        parts.append(
            f'<text class="minute" {MIDDLE} fill="#444444" x="{x(at)}" y="{height - 10:g}">{_clock(at - first)}</text>'
        )
    for number, lane in enumerate(lanes):
        top = ROW * number
        parts.append(f'<text class="lane" font-size="12" x="0" y="{top + 20:g}">{lane.capitalize()}</text>')
        for span in (s for s in spans if s["lane"] == lane):
            begin, end = x(_ms(span["from"])), x(_ms(span["until"]))
            width = max(MARK, end - begin)
            label = escape(span["label"])
            title = f"{escape(words(span['kind']))} {label}: {_clock(_ms(span['from']) - first)}"
            if span["seconds"]:
                title += f", {span['seconds']:g} s"
            parts.append(
                f'<g><title>{title}</title><rect class="bar {_class(span)}" fill="{PAPER[lane]}" '
                f'stroke="#ffffff" x="{begin}" y="{top + 6:g}" '
                f'width="{round(width, 1)}" height="{BAR:g}" rx="2"/>'
            )
            if lane == "questions" and width > CHARACTER * len(span["label"]) + 4:
                where = f'x="{round(begin + width / 2, 1)}" y="{top + 19:g}"'
                parts.append(f'<text class="within" {MIDDLE} fill="#ffffff" {where}>{label}</text>')
            parts.append("</g>")
    return Markup("".join((*parts, "</svg>")))  # nosec B704 # numbers, and labels that are escaped


def _class(span: dict[str, Any]) -> str:
    return f"lane-{span['lane']} kind-{''.join(c if c.isalnum() else '-' for c in span['kind'])}"


def words(name: str) -> str:
    """A name of ours, for people."""
    return name.replace("_", " ")


def _ticks(first: int, last: int) -> list[int]:
    step = next((s for s in STEPS if (last - first) / 1000 / s <= TICKS), math.ceil((last - first) / 1000 / TICKS))
    return list(range(first, last + 1, step * 1000))


def _clock(ms: int) -> str:
    """Minutes and seconds since the start."""
    seconds = max(0, round(ms / 1000))
    hours, minutes = seconds // 3600, seconds // 60 % 60
    return f"{hours}:{minutes:02}:{seconds % 60:02}" if hours else f"{minutes}:{seconds % 60:02}"


def _ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)
