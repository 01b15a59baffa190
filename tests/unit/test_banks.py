"""Question banks: versions, drawing questions, and files."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from api.app import create_app
from orchestrator import cli
from orchestrator.banks import read_bank, write_bank
from orchestrator.errors import InvalidInput
from orchestrator.jobs import DEFAULT_JOB, draw, seed_of
from orchestrator.settings import Settings
from tests.unit.api_world import BASE, MemoryClient, api

BANK = """\
job_id: backend
title: Backend engineers
pick: 2
shuffle: true
questions:
  - text: What is an index?
  - {text: Reverse a list., type: coding, time_limit_seconds: 600}
  - text: |
      Why?
      Say it in two lines.
"""


def bank(count: int, **more: Any) -> dict[str, Any]:
    return {"questions": [{"text": f"Q{n}"} for n in range(count)], **more}


# Drawing


@given(st.integers(1, 30), st.data(), st.integers(0, 2**48))
def test_drawn_questions_are_of_the_bank_and_no_two_alike(count: int, data: st.DataObject, seed: int) -> None:
    pick = data.draw(st.none() | st.integers(1, count))
    shuffle = data.draw(st.booleans())
    job = bank(count, pick=pick, shuffle=shuffle, version=3)
    questions, how = draw(job, seed)
    assert draw(job, seed) == (questions, how) == draw(job, how["seed"])
    assert len(questions) == (pick or count) == len({q["text"] for q in questions})
    numbers = [int(q["text"][1:]) for q in questions]
    assert shuffle or numbers == sorted(numbers)
    assert (how["version"], how["pick"], how["shuffle"]) == (3, pick, shuffle)


def test_each_candidate_gets_a_draw_of_their_own() -> None:
    job = bank(10, pick=3, shuffle=True)
    draws = {tuple(q["text"] for q in draw(job, seed)[0]) for seed in range(200)}
    assert len(draws) > 100 and {text for drawn in draws for text in drawn} == {f"Q{n}" for n in range(10)}


def test_a_repeat_has_the_same_seed_and_others_have_others() -> None:
    seeds = {seed_of(b"s", who, key) for who in "ab" for key in "xy"}
    assert len(seeds) == 4 and seed_of(b"s", "a", "x") == seed_of(b"s", "a", "x") < 2**48
    assert len({seed_of(b"s", "a", None) for _ in range(20)}) == 20


async def test_a_session_keeps_the_questions_it_was_created_with() -> None:
    async with api() as (http, client):
        job = {
            "job_id": "dev",
            "title": "T",
            "questions": [{"text": f"Q{n}"} for n in range(20)],
            "pick": 5,
            "shuffle": True,
        }
        assert (await http.post(f"{BASE}/jobs", json=job)).json()["job"]["version"] == 1
        body = {"name": "A", "email": "a@b.co", "job_id": "dev"}
        headers = {"Idempotency-Key": "k"}
        first = (await http.post(f"{BASE}/create", json=body, headers=headers)).json()
        questions = [q["text"] for q in first["session"]["questions"]]
        assert len(questions) == 5
        again = await http.post(f"{BASE}/create", json=body, headers=headers)
        assert again.json()["session_id"] == first["session_id"]
        replaced = (await http.put(f"{BASE}/jobs/dev", json={"title": "T", "questions": [{"text": "new"}]})).json()[
            "job"
        ]
        assert replaced["version"] == 2
        session = (await http.get(f"{BASE}/session/{first['session_id']}")).json()["session"]
        assert [q["text"] for q in session["questions"]] == questions
        drawn = client.states[first["session_id"]].drawn
        assert drawn is not None and drawn["version"] == 1
        old = (await http.get(f"{BASE}/jobs/dev?version=1")).json()["job"]
        assert [q["text"] for q in draw(old, drawn["seed"])[0]] == questions, "anybody can draw them again"
        again = await http.post(f"{BASE}/create", json=body, headers=headers)
        assert again.json()["session_id"] == first["session_id"], "though the bank has changed"
        changed = await http.patch(f"{BASE}/session/{first['session_id']}", json={"job_id": "dev"})
        assert [q["text"] for q in changed.json()["session"]["questions"]] == ["new"]
        state = client.states[first["session_id"]]
        assert state.drawn is not None and state.drawn["version"] == 2


async def test_versions_of_a_job() -> None:
    async with api() as (http, _):
        for title in ("one", "two", "two", "three"):
            path, body = f"{BASE}/jobs/dev", {"title": title, "questions": [{"text": "Q"}]}
            answer = await http.put(path, json=body)
            if answer.status_code == 404:
                answer = await http.post(f"{BASE}/jobs", json=body | {"job_id": "dev"})
            assert answer.status_code == 200
        titles = [(await http.get(f"{path}?version={n}")).json()["job"]["title"] for n in (1, 2, 3)]
        assert titles == ["one", "two", "three"], "the same again makes no version"
        assert (await http.get(f"{path}?version=4")).status_code == 404
        assert (await http.get(f"{path}?version=0")).status_code == 400


@pytest.mark.parametrize("more", [{"pick": 3}, {"pick": 0}, {"pick": "2"}, {"shuffle": 1}])
async def test_more_than_there_is_cannot_be_picked(more: dict[str, Any]) -> None:
    async with api() as (http, _):
        job = {"job_id": "dev", "title": "T", "questions": [{"text": "Q1"}, {"text": "Q2"}], **more}
        assert (await http.post(f"{BASE}/jobs", json=job)).status_code == 400


# Files


def write(tmp_path: Path, text: str | bytes, name: str = "bank.yaml") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_yaml(tmp_path: Path) -> None:
    content, lines = read_bank(write(tmp_path, BANK))
    assert (content["job_id"], content["pick"], content["shuffle"], len(content["questions"])) == (
        "backend",
        2,
        True,
        3,
    )
    assert content["questions"][1] == {"text": "Reverse a list.", "type": "coding", "time_limit_seconds": 600}
    assert (lines["/questions/0"], lines["/questions/1/type"], lines["/pick"]) == (6, 7, 3)


def test_csv(tmp_path: Path) -> None:
    text = 'text,type,time_limit_seconds\n"What,\nnow?",,\nReverse it,Coding,600\n'
    content, lines = read_bank(write(tmp_path, text, "bank.csv"))
    assert content["questions"] == [
        {"text": "What,\nnow?"},
        {"text": "Reverse it", "type": "coding", "time_limit_seconds": 600.0},
    ]
    assert lines["/questions/1"] == 4


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    content, _ = read_bank(write(tmp_path, BANK))
    again, _ = read_bank(write(tmp_path, write_bank(content)))
    assert again == content
    nasty = {"job_id": "1e3", "title": "=1+1 é", "questions": [{"text": "on: off\n- x\n#\t{}", "type": "text"}]}
    assert read_bank(write(tmp_path, write_bank(nasty)))[0] == nasty


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "line 1: a bank is a mapping"),
        ("- a\n- b\n", "line 1: a bank is a mapping"),
        ("title: a\ntitle: b\n", "line 2: 'title' is there twice"),
        ("title: 'x\n", "this is not YAML"),
        ("title: a\nquestions: [\n  {text: b\n", "this is not YAML"),
        ("a: &x [1]\nb: *x\n", "line 1: anchors and aliases"),
        ("a: !!python/object/apply:os.system [ls]\n", "this is not YAML"),
        (b"title: Jos\xe9\n", "line 1: this is not UTF-8"),
        ("questions:\n" + "  - {text: q}\n" * 10_000, "line 202: there are 10000 questions"),
        ("[" * 5_000, "this is not YAML"),
        ("? [a]\n: b\n", "this is not YAML"),
        ("questions:\n  - text: 2024-01-01\n", "in quotes"),
        ("questions:\n  - time_limit_seconds: .nan\n", "in quotes"),
    ],
)
def test_what_is_no_bank(tmp_path: Path, text: str | bytes, complaint: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_bank(write(tmp_path, text))
    assert complaint in caught.value.detail


@pytest.mark.parametrize(
    ("text", "line"), [("text\n", 0), ("type\ntext\n", 1), ("text,time_limit_seconds\nQ,long\n", 2)]
)
def test_what_is_no_bank_in_csv(tmp_path: Path, text: str, line: int) -> None:
    path = write(tmp_path, text, "bank.csv")
    if not line:
        assert read_bank(path)[0] == {"questions": []}
        return
    with pytest.raises(InvalidInput, match=f"line {line}"):
        read_bank(path)
    with pytest.raises(InvalidInput, match=r"yaml or a \.csv"):
        read_bank(write(tmp_path, text, "bank.xlsx"))


# The command


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryClient]:
    with warnings.catch_warnings(action="ignore"):  # it says that another library than httpx will do one day
        from starlette.testclient import TestClient
    client = MemoryClient()
    settings = Settings(_env_file=None, mongodb_url=None)  # pyright: ignore[reportCallIssue]
    with TestClient(create_app(settings, client), base_url=f"http://test{BASE}") as http:

        @contextmanager
        def connected(url: str, api_key: str | None) -> Iterator[Any]:
            yield http

        monkeypatch.setattr(cli, "_service", connected)
        yield client


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli.app, ["jobs", *arguments])


def test_a_bank_goes_in_and_comes_out(tmp_path: Path, service: MemoryClient) -> None:
    path = write(tmp_path, BANK)
    result = run("import", str(path))
    assert result.exit_code == 0 and "job backend: 3 questions, version 1" in result.output, result.output
    assert "version 1" in run("import", str(path)).output, "the same again changes nothing"
    write(tmp_path, BANK.replace("Why?", "Why not?"))
    assert "version 2" in run("import", str(path)).output
    assert yaml.safe_load(run("export", "backend").stdout)["questions"][2]["text"].startswith("Why not?")
    output = tmp_path / "old.yaml"
    assert run("export", "backend", "--version", "1", "--output", str(output)).exit_code == 0
    assert read_bank(output)[0]["questions"][2]["text"].startswith("Why?")
    listed = run("list").output
    assert "backend" in listed and "2 of 3" in listed and "default" in listed


def test_csv_takes_its_names_from_the_command_or_the_file(tmp_path: Path, service: MemoryClient) -> None:
    path = write(tmp_path, "text\nQ1\n", "sales.csv")
    assert "job sales: 1 questions" in run("import", str(path)).output
    assert "job other: 1 questions" in run("import", str(path), "--job", "other", "--title", "Others").output
    assert service.store.jobs["other"]["title"] == "Others"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("type: coding", "type: riddle"), "bank.yaml, line 7: questions.1.type is not valid"),
        (("time_limit_seconds: 600", "time_limit_seconds: 1"), "bank.yaml, line 7: questions.1.time_limit_seconds"),
        (("pick: 2", "pick: 9"), "bank.yaml, line 1: "),
        (("pick: 2", "pick: many"), "bank.yaml, line 3: pick is not valid"),
        (("  - text: What is an index?", "  - 17"), "bank.yaml, line 6: "),
        (("title: Backend engineers", "colour: red"), "bank.yaml, line 2: colour is not a known field"),
        (("job_id: backend", "job_id: ../x"), "bank.yaml, line 1: "),
    ],
)
def test_what_the_service_refuses_is_said_with_its_line(
    tmp_path: Path, service: MemoryClient, change: tuple[str, str], complaint: str
) -> None:
    before = dict(service.store.jobs)
    result = run("import", str(write(tmp_path, BANK.replace(*change))))
    assert result.exit_code == 1 and complaint in result.output, result.output
    assert service.store.jobs == before


def test_the_job_that_ships_can_be_exported(service: MemoryClient) -> None:
    assert yaml.safe_load(run("export", "default").stdout)["questions"] == DEFAULT_JOB["questions"]
    assert run("export", "nothing").exit_code == 1
