"""Examples in documents: found, and run in the order in which they stand.

A fenced block is an example by its language:

    bash, sh     runs with -e and pipefail, and must not fail; curl fails on an HTTP error
    console      commands after "$ "; what stands under them is what they print
    python       runs as a program
    javascript   runs as an ES module in Node
    others       are read: json, yaml and toml must be what they say

Blocks of one document share a folder and the shell's variables, which programs see in their environment. In what a
console shows, "…" stands for what was left out, and ids, times and the like may be others. A comment in front of a
block leaves it out, and says why:

    <!-- not run: it never ends -->

and this one puts its content into a file, for the blocks after it:

    <!-- saved as backend.yaml -->
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers import ROOT

BLOCK = re.compile(r"^(?:<!-- (?P<note>[^\n]*?) -->\n\s*)?^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.M | re.S)
SHELL, PROGRAMS = ("bash", "sh"), {"python": "py", "javascript": "mjs"}
EXAMPLE_SECONDS = 180
ADDRESS = "localhost:8005"
LEFT_OUT = "…"
CHANGING = [
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UUID"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "TIME"),
    (r'"(elapsed|remaining)_seconds": ?[\d.]+', r'"\1_seconds":SECONDS'),
    (r"InterviewActor-[0-9a-f]{8}", "ACTOR"),
    (r"\b[0-9a-f]{56}\b", "NODE"),
    (r"\b[0-9a-f]{64}\b", "SHA256"),
    (r"\bwh_[0-9a-f]{16}\b", "WEBHOOK"),
    (r'"(key|request)_id": ?"[0-9a-f]{12,16}"', r'"\1_id":"ID"'),
    (r"(RateLimit: .*;r=)\d+;t=\d+", r"\1LEFT"),
]


@dataclass(frozen=True)
class Block:
    """One fenced block. `line`: where it begins. `note`: the comment in front of it."""

    language: str
    code: str
    line: int
    note: str

    @property
    def is_left_out(self) -> bool:
        return self.note.startswith("not run: ")

    @property
    def runs(self) -> bool:
        is_program = self.language in (*SHELL, "console") or self.language in PROGRAMS
        return not self.is_left_out and (is_program or self.file is not None)

    @property
    def file(self) -> str | None:
        """The file that it is saved as."""
        return self.note.removeprefix("saved as ") if self.note.startswith("saved as ") else None


def blocks(document: Path) -> list[Block]:
    """All fenced blocks of a document that name a language."""
    text = document.read_text()
    return [
        Block(found["language"], found["code"], text.count("\n", 0, found.start("language")) + 1, found["note"] or "")
        for found in BLOCK.finditer(text)
    ]


def commands(console: str) -> list[tuple[str, str]]:
    """Pairs of a command and the output shown under it. A command goes on after "> "."""
    pairs: list[tuple[str, str]] = []
    for line in console.splitlines():
        if line.startswith("$ "):
            pairs.append((line[2:], ""))
            continue
        command, shown = pairs[-1]
        pairs[-1] = (f"{command}\n{line[2:]}", "") if line.startswith("> ") else (command, f"{shown}{line}\n")
    return pairs


def comparable(text: str) -> str:
    """Without what changes from run to run, and without the layout of JSON."""
    for pattern, name in CHANGING:
        text = re.sub(pattern, name, text)
    return re.sub(r'(?<=[:,]) (?=["\[{\d-]|null|true|false|…)', "", re.sub(r"\s*\n\s*", "", text))


def difference(shown: str, got: str) -> str | None:
    """The first piece that is shown and was not printed, in order."""
    text, at = comparable(got), 0
    for number, piece in enumerate(comparable(shown).split(LEFT_OUT)):
        found = text.find(piece, at)
        if found < 0 or (number == 0 and found > 0):
            return piece
        at = found + len(piece)
    return None


class Examples:
    """Runs the blocks of one document in a folder against a service at `url`."""

    def __init__(self, folder: Path, url: str, environment: dict[str, str]) -> None:
        self._folder = folder
        self._address = url.removeprefix("http://")
        self._variables = folder / ".variables"
        self._programs = 0
        self._node = shutil.which("node")
        self.left_out: list[str] = []
        """What could not be run here, and why."""
        tools = folder / ".tools"
        tools.mkdir(parents=True)
        self._add_command(tools / "parallel-interview", url)
        (tools / ".curlrc").write_text("fail-with-body\n")
        path = f"{tools}:{Path(sys.executable).parent}:{environment['PATH']}"
        self._environment = environment | {"PATH": path, "CURL_HOME": str(tools), "COLUMNS": "200", "LC_ALL": "C.UTF-8"}

    @staticmethod
    def _add_command(script: Path, url: str) -> None:
        """`parallel-interview` as in the documents, for this service and not for the one at the usual address."""
        real = Path(sys.executable).parent / "parallel-interview"
        script.write_text(f'#!/bin/sh\nexec "{real}" "$@" --url "{url}"\n')
        script.chmod(0o755)

    def run(self, block: Block) -> None:
        code = block.code.replace(ADDRESS, self._address).replace(".venv/bin/", "")
        if block.file is not None:
            (self._folder / block.file).write_text(block.code)
        elif block.language in SHELL:
            self._succeeds(code)
        elif block.language == "console":
            self._console(block.code)
        elif block.language == "javascript" and self._node is None:
            self.left_out.append(f"line {block.line}: node is not here")
        else:
            self._program(code, block.language)

    def _console(self, code: str) -> None:
        last_shown = last_got = ""
        for written, shown in commands(code):
            command = _with_real_value(written, last_shown, last_got)
            command = command.replace(ADDRESS, self._address).replace(".venv/bin/", "")
            done = self._shell(command)
            if shown:
                missing = difference(shown, done.stdout)
                assert missing is None, f"{written}\nshows {missing!r}\nbut gave {done.stdout}{done.stderr}"
                last_shown, last_got = shown, done.stdout
            else:
                assert done.returncode == 0, f"{written}\n{done.stdout}{done.stderr}"

    def _program(self, code: str, language: str) -> None:
        self._programs += 1
        file = self._folder / f"example{self._programs}.{PROGRAMS[language]}"
        file.write_text(code)
        self._succeeds(f"{'python' if language == 'python' else self._node} {file}")

    def _succeeds(self, code: str) -> None:
        done = self._shell(code)
        assert done.returncode == 0, f"{code}\nended with {done.returncode}\n{done.stdout}\n{done.stderr}"

    def _shell(self, code: str) -> subprocess.CompletedProcess[str]:
        """Run code with the variables that the code before it has left."""
        script = "\n".join(
            (
                "set -a",
                f"[ -e {self._variables} ] && . {self._variables}",
                f"trap 'export -p > {self._variables}' EXIT",
                "set -e -o pipefail",
                code,
            )
        )
        return subprocess.run(
            ["timeout", "--kill-after=5", str(EXAMPLE_SECONDS), "bash", "-c", script],  # ends what it has begun, too
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )


def _with_real_value(command: str, shown: str, got: str) -> str:
    """`ID=<what the answer above shows>`, with what the answer really has."""
    given = re.fullmatch(r"(\w+)=([\w.:-]+)", command)
    if given is None:
        return command
    member = re.search(rf'"(\w+)": ?"{re.escape(given[2])}', shown)
    assert member is not None, f"{command}: the answer above does not show this"
    real = re.search(rf'"{member[1]}": ?"([^"]*)"', got)
    assert real is not None, f"{command}: the answer has no {member[1]}"
    return f"{given[1]}={real[1]}"


def read_as_data(block: Block) -> Any:
    """The content of a json, yaml or toml block. Raises ValueError or what its parser raises."""
    import tomllib

    import yaml

    readers = {"json": json.loads, "toml": tomllib.loads, "yaml": yaml.safe_load}
    return readers[block.language](block.code) if block.language in readers else None


DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
