"""Many sessions at once: the bulk call, CSV files, and the command `invite`."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from orchestrator import cli, invite
from orchestrator.errors import InvalidInput, Unavailable
from orchestrator.interview.commands import Caller, Create
from orchestrator.session import Reply
from orchestrator.tables import read_text, rows_of, table
from tests.unit.api_world import BASE, MemoryClient, api

URL = f"{BASE}/sessions/bulk"
ADA = {"name": "Ada", "email": "ada@example.com"}


# The call


async def test_each_item_has_its_own_result_in_order() -> None:
    async with api() as (http, client):
        items = [
            ADA,
            {"name": "", "email": "x"},
            ADA | {"job_id": "nothing"},
            ADA | {"questions": ["Q"]},
            ADA | {"x": 1},
        ]
        answer = (await http.post(URL, json={"sessions": items})).json()
        results = answer["results"]
        assert [r["index"] for r in results] == list(range(5))
        assert [r["status"] for r in results] == ["success", "error", "error", "success", "error"]
        assert (answer["created"], answer["replayed"], answer["failed"]) == (2, 0, 3)
        assert {e["pointer"] for e in results[1]["errors"]} == {"/name", "/email"}
        assert (results[2]["code"], results[2]["http_status"]) == ("not_found", 404)
        assert results[4]["errors"][0]["pointer"] == "/x"
        assert results[0]["links"]["candidate"].endswith(
            f"/interview/{results[0]['session_id']}#{results[0]['candidate_token']}"
        )
        assert len(client.states) == 2


async def test_sending_it_again_makes_nothing_twice() -> None:
    async with api() as (http, client):
        items = [ADA | {"idempotency_key": f"k{n}"} for n in range(3)]
        first = (await http.post(URL, json={"sessions": items})).json()
        again = (await http.post(URL, json={"sessions": items[::-1]})).json()
        assert (again["created"], again["replayed"]) == (0, 3) and len(client.states) == 3
        ids = [r["session_id"] for r in first["results"]]
        assert [r["session_id"] for r in again["results"]] == ids[::-1]


async def test_the_calls_key_serves_for_items_without_one() -> None:
    async with api() as (http, client):
        for _ in range(2):
            await http.post(URL, json={"sessions": [ADA, ADA]}, headers={"Idempotency-Key": "once"})
        assert len(client.states) == 2


async def test_a_dry_run_makes_nothing() -> None:
    async with api() as (http, client):
        body = {"sessions": [ADA, {"name": "B", "email": "nobody"}, ADA | {"job_id": "nothing"}], "dry_run": True}
        answer = (await http.post(URL, json=body)).json()
        assert [r["status"] for r in answer["results"]] == ["success", "error", "error"]
        assert (answer["created"], answer["failed"]) == (0, 2) and client.states == {}


@pytest.mark.parametrize("sessions", [[], [ADA] * 1001, "x", [1], None])
async def test_what_is_no_bulk_call(sessions: Any) -> None:
    async with api() as (http, client):
        assert (await http.post(URL, json={"sessions": sessions})).status_code == 400
        assert client.states == {}


async def test_a_thousand_are_taken() -> None:
    async with api() as (http, client):
        answer = (await http.post(URL, json={"sessions": [ADA | {"questions": ["Q"]}] * 1000})).json()
        assert answer["created"] == len(client.states) == 1000


async def test_candidates_make_no_sessions() -> None:
    async with api(key="k3y") as (http, _):
        assert (await http.post(URL, json={"sessions": [ADA]})).status_code == 401


class Stumbling(MemoryClient):
    """Whose storage is away for every other creation at first."""

    calls = 0

    async def create(self, command: Create, caller: Caller, command_id: str | None) -> Reply:
        self.calls += 1
        if self.calls % 2 and self.calls < 20:
            raise Unavailable("away", retry_after=1)
        if command.name == "Fault":
            raise RuntimeError("a fault")
        return await super().create(command, caller, command_id)


async def test_one_that_fails_stops_no_other() -> None:
    async with api(Stumbling()) as (http, _):
        items = [ADA, ADA, ADA | {"name": "Fault"}, ADA | {"name": "Fault"}]
        results = (await http.post(URL, json={"sessions": items})).json()["results"]
        assert [r.get("code") for r in results] == ["unavailable", None, "unavailable", "internal_error"]
        assert results[0]["retry_after"] == 1 and "fault" not in results[3]["detail"].lower().replace("our", "")


# Files


def write(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "candidates.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    "text", ["name,email\nAda,a@b.co\n", "\ufeffName;E-mail\n".replace("E-mail", "EMAIL") + "Ada;a@b.co"]
)
def test_files_of_spreadsheets_are_read(tmp_path: Path, text: str) -> None:
    [(line, body)] = invite.read_candidates(write(tmp_path, text), "default")
    assert line == 2 and (body["name"], body["email"], body["job_id"]) == ("Ada", "a@b.co", "default")


def test_all_columns(tmp_path: Path) -> None:
    text = (
        '"email",name,phone,scheduled_at,time_multiplier,camera_exempt,"Metadata.ref",key\r\n'
        '"a@b.co","Lovelace, ""Ada""\nof London",+44 1,2026-12-01T09:00:00Z,"1,5",yes,R-1,second\r\n'
        "\r\n"
        "b@b.co,Bob,,,,,,\r\n"
    )
    (first, ada), (second, bob) = invite.read_candidates(write(tmp_path, text), "dev")
    assert (first, second) == (2, 5), "lines as an editor counts them"
    assert ada["name"] == 'Lovelace, "Ada"\nof London' and ada["phone"] == "+44 1" and ada["metadata"] == {"ref": "R-1"}
    assert ada["accommodations"] == {"time_multiplier": 1.5, "camera_exempt": True}
    assert bob.keys() == {"name", "email", "job_id", "idempotency_key"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "line 1: the column 'name' is missing"),
        ("name\nAda", "line 1: the column 'email' is missing"),
        ("name,email,name\n", "line 1: the column 'name' is there twice"),
        ("name,email,shoe\n", "line 1: 'shoe' is not a column"),
        ("name,email\n", "no candidate"),
        ("name,email\nAda\n", "line 2: it has 1 cells"),
        ("name,email\nAda,a@b.co\nBob,A@B.co\n", "line 3: A@B.co is in line 2 already"),
        ('name,email\n"=HYPERLINK(""http://x"")",a@b.co\n', "line 2: the name begins like a formula"),
        ("name,email,phone\nAda,a@b.co,=1+1\n", "line 2: a cell has a formula"),
        ("name,email,time_multiplier\nAda,a@b.co,twice\n", "line 2: time_multiplier is 'twice'"),
        ("name,email,time_multiplier\nAda,a@b.co,nan\n", "line 2: time_multiplier is 'nan'"),
        ("name,email,camera_exempt\nAda,a@b.co,maybe\n", "line 2: camera_exempt is 'maybe'"),
        ('name,email\nAda,"a@b.co\n', "this is not CSV"),
        (b"name,email\nAda,a@b.co\nJos\xe9,b@b.co\n", "line 3: this is not UTF-8"),
        ("name,email\nAda,a@b.co".encode("utf-16"), "line 1: this is not UTF-8"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, text: str | bytes, complaint: str) -> None:
    with pytest.raises(InvalidInput, match=r".*") as caught:
        invite.read_candidates(write(tmp_path, text), "default")
    assert complaint in caught.value.detail


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        read_text(tmp_path / "nothing.csv")
    with pytest.raises(InvalidInput):
        read_text(tmp_path)


def test_nothing_that_is_written_is_a_formula() -> None:
    cells = ["=1", "+1", "-1", "@x", "\tx", "a,b", 'a"b', "plain", "a\nb", "a;=1"]
    lines = "".join(table(["x"] * len(cells), [cells]))
    [_, row] = csv.reader(io.StringIO(lines))
    assert row == ["'=1", "'+1", "'-1", "'@x", "'\tx", "a,b", 'a"b', "plain", "a\nb", "a;=1"]
    assert '"a;=1"' in lines, "in quotes, whatever separates cells elsewhere"


def test_rows_are_read_one_at_a_time() -> None:
    text = "a\n" + "x\n" * 10
    assert [line for line, _ in rows_of(text, "f", ["a"], ["a"])] == list(range(2, 12))


# The command


class Service:
    """What answers bulk calls: `results` of each name, `down` calls that are refused first."""

    def __init__(self) -> None:
        self.made: dict[str, str] = {}
        self.calls: list[dict[str, Any]] = []
        self.down = 0
        self.busy: set[str] = set()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        import json

        body = json.loads(request.content)
        self.calls.append(body)
        if self.down:
            self.down -= 1
            return httpx.Response(503, json={"detail": "away"})
        return httpx.Response(
            200, json={"status": "success", "results": [self._one(i, x, body) for i, x in enumerate(body["sessions"])]}
        )

    def _one(self, index: int, item: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        if "@" not in item["email"]:
            return {"index": index, "status": "error", "code": "invalid_input", "detail": "email is not valid."}
        if body.get("dry_run"):
            return {"index": index, "status": "success"}
        if item["name"] in self.busy:
            self.busy.discard(item["name"])
            return {"index": index, "status": "error", "code": "unavailable", "detail": "away", "retry_after": 1}
        key = item["idempotency_key"]
        replayed = key in self.made
        session_id = self.made.setdefault(key, f"s{len(self.made)}")
        link = f"http://x/interview/{session_id}#t"
        return {
            "index": index,
            "status": "success",
            "session_id": session_id,
            "replayed": replayed,
            "links": {"candidate": link},
        }


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    service = Service()
    real = httpx.Client
    monkeypatch.setattr(cli.httpx, "Client", lambda **options: real(**options, transport=httpx.MockTransport(service)))
    monkeypatch.setattr(invite.time, "sleep", lambda _: None)
    return service


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli.app, ["invite", *arguments])


def test_a_file_becomes_links_and_running_it_again_makes_nothing(tmp_path: Path, service: Service) -> None:
    path = write(tmp_path, "name,email\n" + "".join(f"N{n},n{n}@b.co\n" for n in range(250)))
    service.down, service.busy = 2, {"N3", "N120"}
    first = run(str(path))
    assert first.exit_code == 0, first.output
    rows = list(csv.DictReader(io.StringIO(first.stdout)))
    assert len({row["session_id"] for row in rows}) == 250 and "250 made" in first.stderr
    assert {row["link"] for row in rows} == {f"http://x/interview/s{n}#t" for n in range(250)}
    output = tmp_path / "links.csv"
    again = run(str(path), "--output", str(output))
    assert again.exit_code == 0 and "250 there already" in again.stderr and again.stdout == ""
    output.chmod(0o644)
    run(str(path), "--output", str(output))
    assert output.stat().st_mode & 0o777 == 0o600
    same = {row["email"]: row["link"] for row in csv.DictReader(output.open())}
    assert same == {row["email"]: row["link"] for row in rows}


def test_of_a_file_with_an_error_nothing_is_made(tmp_path: Path, service: Service) -> None:
    path = write(tmp_path, "name,email\n" + "".join(f"N{n},n{n}@b.co\n" for n in range(150)) + "Bad,nobody\n")
    result = run(str(path))
    assert result.exit_code == 1 and service.made == {}
    assert "candidates.csv, line 152: email is not valid." in result.stderr and result.stdout == ""
