"""Question banks as files: YAML or CSV in, YAML out. Complaints name the line.

    job_id: backend
    title: Backend engineers
    pick: 5                 # each candidate gets five of them
    shuffle: true
    questions:
      - text: What is an index?
      - {text: Reverse a list., type: coding, time_limit_seconds: 600}

In CSV: the columns text, type and time_limit_seconds, a question in each row; the rest is said to the command.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from orchestrator.errors import InvalidInput
from orchestrator.tables import finite, read_text, rows_of

MAX_QUESTIONS = 200
COLUMNS = ("text", "type", "time_limit_seconds")

Lines = Mapping[str, int]
"""The line of each part, by its JSON pointer."""


def read_bank(path: Path) -> tuple[dict[str, Any], Lines]:
    """What a file says of a job, as the API takes it, and where it says so. Raises InvalidInput."""
    text = read_text(path)
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".yaml", ".yml"):
        raise InvalidInput(f"{path.name}: a bank is a .yaml or a .csv file.")
    bank, lines = _from_csv(text, path.name) if suffix == ".csv" else _from_yaml(text, path.name)
    questions = bank.get("questions")
    if isinstance(questions, list) and len(questions) > MAX_QUESTIONS:
        line = lines.get(f"/questions/{MAX_QUESTIONS}", 1)
        raise InvalidInput(
            f"{path.name}, line {line}: there are {len(questions)} questions; {MAX_QUESTIONS} is the most."
        )
    return bank, lines


def write_bank(job: dict[str, Any]) -> str:
    """A job as YAML that `read_bank` reads."""
    content: dict[str, Any] = {"job_id": job["job_id"], "title": job["title"]}
    if job.get("pick") is not None:
        content["pick"] = job["pick"]
    if job.get("shuffle"):
        content["shuffle"] = True
    content["questions"] = job["questions"]
    return yaml.safe_dump(content, allow_unicode=True, sort_keys=False, width=100)


def complaint(name: str, lines: Lines, pointer: str, detail: str) -> str:
    """What the service says of a part, with the line of that part, or of what it is in."""
    where = pointer
    while where and where not in lines:
        where = where.rpartition("/")[0]
    return f"{name}, line {lines.get(where, 1)}: {detail}"


def _from_csv(text: str, name: str) -> tuple[dict[str, Any], Lines]:
    questions: list[dict[str, Any]] = []
    lines: dict[str, int] = {}
    for line, cells in rows_of(text, name, ("text",), COLUMNS):
        lines[f"/questions/{len(questions)}"] = line
        question: dict[str, Any] = {"text": cells["text"]}
        if cells.get("type"):
            question["type"] = cells["type"].lower()
        if cells.get("time_limit_seconds"):
            try:
                question["time_limit_seconds"] = finite(cells["time_limit_seconds"])
            except ValueError:
                raise InvalidInput(f"{name}, line {line}: time_limit_seconds is not a number.") from None
        questions.append(question)
    return {"questions": questions}, lines


def _from_yaml(text: str, name: str) -> tuple[dict[str, Any], Lines]:
    lines: dict[str, int] = {}
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
                raise InvalidInput(f"{name}, line {event.start_mark.line + 1}: anchors and aliases are not taken.")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if not isinstance(node, yaml.MappingNode):
            raise InvalidInput(f"{name}, line 1: a bank is a mapping with job_id, title and questions.")
        _note_lines(node, "", lines, name)
        bank = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InvalidInput(f"{name}, line {line}: this is not YAML: {error.problem}.") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise InvalidInput(f"{name}: this is not YAML: {type(error).__name__}.") from None
    try:
        json.dumps(bank, allow_nan=False)
    except (TypeError, ValueError):
        raise InvalidInput(f"{name}: there is a date or the like in it; put text that looks so in quotes.") from None
    return _plain(bank), lines


def _note_lines(node: yaml.Node, pointer: str, lines: dict[str, int], name: str) -> None:
    lines[pointer] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                raise InvalidInput(f"{name}, line {key.start_mark.line + 1}: {key.value!r} is there twice.")
            seen.add(key.value)
            _note_lines(value, f"{pointer}/{key.value}", lines, name)
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            _note_lines(value, f"{pointer}/{number}", lines, name)


def _plain(bank: dict[Any, Any]) -> dict[str, Any]:
    """YAML makes dates and numbers of what may be meant as text; what the API does not take it refuses itself."""
    return {
        str(key): str(value) if key in ("job_id", "title") and value is not None else value
        for key, value in bank.items()
    }
