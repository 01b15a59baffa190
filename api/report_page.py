"""A report as a page that a person reads, prints and forwards. It loads nothing but our style sheet."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name

from api.report_picture import picture, words

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}
PICTURES = 12
"""Stills that are shown; the others are told of."""

REASONS = {
    "finished": "All questions were gone through.",
    "ended_by_candidate": "The candidate ended it early.",
    "ended_by_staff": "Staff ended it early.",
    "abandoned": "The candidate was never there.",
}
STATUSES = {
    "answered": "Answered",
    "draft": "Time ran out; this is what was typed by then",
    "no_answer": "Time ran out without an answer",
    "left_open": "Open when the interview ended, without an answer",
    "not_reached": "Not reached",
}
CAUSES = {
    "network": "the connection was lost",
    "crash": "a machine of ours failed",
    "hung": "a machine of ours hung",
    "extended": "given by staff",
    "storage_unavailable": "answers could not be stored",
    "parked": "the interview was interrupted",
}
HIGHLIGHTED, HIGHLIGHTED_IN_ALL, PIECE = 10_000, 40_000, 1_000
"""Characters of an answer and of a page that are highlighted, and of what a lexer gets at once."""
LANGUAGES = frozenset(
    {
        "bash",
        "c",
        "c++",
        "c#",
        "cpp",
        "csharp",
        "css",
        "dart",
        "elixir",
        "go",
        "haskell",
        "html",
        "java",
        "javascript",
        "js",
        "json",
        "kotlin",
        "lua",
        "perl",
        "php",
        "python",
        "r",
        "ruby",
        "rust",
        "scala",
        "sh",
        "shell",
        "sql",
        "swift",
        "ts",
        "typescript",
    }
)
"""Those that are highlighted: a candidate names the language, and not every lexer is kind to every text."""
VERDICTS = {"advance": "Advance", "hold": "Hold", "reject": "Reject"}


def render(report: dict[str, Any], pictures: Sequence[tuple[str, bytes, str]] = (), *, for_staff: bool = True) -> str:
    """The page. `pictures`: (still id, bytes, media type) of those that are shown."""
    interview = report["interview"]
    images = {still: f"data:{kind};base64,{base64.b64encode(data).decode()}" for still, data, kind in pictures}
    return (
        _environment()
        .get_template("report.html")
        .render(
            report=report,
            interview=interview,
            images=images,
            codes=_codes(report["questions"]),
            for_staff=for_staff,
            drawing=picture(report["timeline"], interview["started_at"], interview["completed_at"]),
            reasons=REASONS,
            statuses=STATUSES,
            causes=CAUSES,
            verdicts=VERDICTS,
        )
    )


def _codes(questions: Sequence[dict[str, Any]]) -> dict[int, Markup]:
    """Answers in code, by the index of their question; highlighted as long as that takes no time to speak of."""
    found: dict[int, Markup] = {}
    left = HIGHLIGHTED_IN_ALL
    for question in questions:
        if question["type"] == "coding" and question["answer"]:
            left -= len(question["answer"])
            text, language = question["answer"], question["language"]
            found[question["index"]] = code(text, language) if left >= 0 else escape(text)
    return found


def message(detail: str, again_in: int | None = None) -> str:
    """A page that says one thing. `again_in` (s): the browser looks again by itself."""
    return _environment().get_template("report_message.html").render(detail=detail, again_in=again_in)


def code(text: str, language: str | None) -> Markup:
    """An answer in code, highlighted if the language is known."""
    name = (language or "").lower()
    if name not in LANGUAGES or len(text) > HIGHLIGHTED:
        return escape(text)
    lexer = get_lexer_by_name(name, stripnl=False, ensurenl=False)
    formatter = HtmlFormatter(nowrap=True, classprefix="hl-")

    def shown(piece: str) -> Markup:
        if len(piece) > PIECE:
            return escape(piece)
        with_end = Markup(highlight(piece, lexer, formatter))  # nosec B704 # Pygments has escaped it
        return with_end if piece.endswith("\n") else with_end.removesuffix("\n")

    return Markup("").join(map(shown, _pieces(text)))


def _pieces(text: str) -> Iterator[str]:
    """A text in pieces of whole lines: lexers may take a time that grows with the square of the length."""
    piece = ""
    for line in text.splitlines(keepends=True):
        if len(piece) + len(line) > PIECE and piece:
            yield piece
            piece = ""
        piece += line
    yield piece


def moment(text: str | None) -> str:
    """A time of the report for people: to the second, in UTC."""
    return "" if text is None else f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M:%S} UTC"


def clock(text: str | None) -> str:
    """The time of day alone, in UTC."""
    return "" if text is None else f"{datetime.fromisoformat(text):%H:%M:%S}"


def who(principal: str) -> str:
    """Whose key it was, for people."""
    return {"open": "somebody (no key is set)", "key:environment": "the staff key"}.get(principal, principal)


def duration(seconds: float | None) -> str:
    """3 h 2 min, 2 min 5 s, 14.2 s"""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    return f"{whole // 3600} h {whole // 60 % 60} min"


@lru_cache
def _environment() -> Environment:
    found = Environment(
        loader=PackageLoader("api", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"moment": moment, "duration": duration, "words": words, "clock": clock, "who": who}
    return found
