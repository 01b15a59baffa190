"""The command `parallel-interview`."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import httpx
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from orchestrator.errors import InvalidInput, NotFound, OrchestratorError

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Runs many live interviews at once.")

Url = Annotated[str, typer.Option("--url", help="Where the service is.")]
Key = Annotated[str | None, typer.Option("--api-key", envvar="INTERVIEW_API_KEY", help="A staff key.")]
DEFAULT_URL = "http://localhost:8005"


class Opens(StrEnum):
    """What a staff key opens, as orchestrator/keys.py has it."""

    READ = "read"
    MANAGE = "manage"
    PROCTOR = "proctor"
    ADMIN = "admin"


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on.")] = 8005,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Front end processes.")] = 1,
    join: Annotated[str | None, typer.Option(help="The address of a Ray cluster to join.")] = None,
    insecure: Annotated[bool, typer.Option(help="Listen beyond loopback although there is no key.")] = False,
) -> None:
    """Run the service: the API, and a local Ray and a database where none are configured."""
    from orchestrator.serve import Supervisor
    from orchestrator.settings import get_settings

    settings = get_settings()
    if join is not None:
        settings = settings.model_copy(update={"ray_address": join})
        os.environ["RAY_ADDRESS"] = join
    raise typer.Exit(Supervisor(settings, host, port, workers, insecure).run())


@app.command()
def status(url: Url = DEFAULT_URL, api_key: Key = None) -> None:
    """Show sessions by state, parked ones with the reason, live and warm actors, and the nodes."""
    with _service(url, api_key) as http:
        stats: dict[str, Any] = _member(http.get("/stats"), "stats")
        cluster: dict[str, Any] = _member(http.get("/cluster"), "cluster")
    console = Console()
    console.print(_status_table(stats, cluster), _node_table(cluster["nodes"]))
    if cluster["parked"]:
        console.print(_parked_table(cluster["parked"]))


@app.command()
def drain(
    node: Annotated[str | None, typer.Option(help="The node's id, or its beginning, as `status` shows it.")] = None,
    this_node: Annotated[bool, typer.Option("--this-node", help="The node that runs on this machine.")] = False,
    cancel: Annotated[bool, typer.Option(help="Take the node into use again.")] = False,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait until no interview is left there.")] = 600,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Hand the live interviews of a node over to others, and place no new ones there.

    Exits with 0 when the node is empty, with 1 when interviews are still there after the wait.
    """
    if (node is None) != this_node:
        raise typer.BadParameter("Give either --node or --this-node.")
    node = node or _this_node()
    give_up = time.monotonic() + wait
    shown = -1
    with _service(url, api_key) as http:
        while True:
            answer = http.post("/cluster/drain", json={"node": node, "draining": not cancel})
            if answer.status_code == 503 and time.monotonic() < give_up:
                time.sleep(1)
                continue
            left: int = _member(answer, "live_interviews")
            if cancel:
                typer.echo(f"node {node} is in use again")
                return
            if left != shown:
                typer.echo(f"node {node}: {left} live interviews left")
                shown = left
            if left == 0 or time.monotonic() >= give_up:
                raise typer.Exit(1 if left else 0)
            time.sleep(0.5)


def _this_node() -> str:
    from orchestrator.this_node import this_node

    try:
        return this_node()
    except NotFound as error:
        typer.echo(f"error: {error.detail}", err=True)
        raise typer.Exit(1) from None


@app.command()
def recover(
    dry_run: Annotated[bool, typer.Option(help="Only show them.")] = False,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Take up interviews in progress that no actor holds, soonest deadline first, and show what became of each.

    The Registry does the same by itself when it starts, and every ten seconds.
    """
    with _service(url, api_key) as http:
        answer = http.post("/cluster/recover", json={"dry_run": dry_run}, timeout=90)
        found: list[dict[str, str]] = _member(answer, "sessions")
    if not found:
        typer.echo("every interview in progress is held by an actor")
        return
    table = Table("session", "outcome", title="Interviews that nobody held")
    for session in found:
        table.add_row(session["session_id"], session["outcome"])
    Console().print(table)


@app.command()
def backup(to: Annotated[Path, typer.Argument(help="A new data folder.", metavar="FOLDER")]) -> None:
    """Copy the embedded database, while the service runs or not. The copy is a data folder to start `serve` with."""
    from orchestrator.settings import get_settings
    from orchestrator.storage.embedded import back_up

    settings = get_settings()
    try:
        files = back_up(settings.data_dir, to)
    except OrchestratorError as error:
        typer.echo(f"error: {error.detail}", err=True)
        raise typer.Exit(1) from None
    size = sum(file.stat().st_size for file in files)
    typer.echo(f"{len(files)} files, {size / 2**20:.1f} MiB, in {to}: INTERVIEW_DATA_DIR={to} starts with it")


@app.command()
def demo(
    candidates: Annotated[int, typer.Option(min=1, max=2000, help="How many simulated candidates.")] = 10,
    url: Url = DEFAULT_URL,
    seed: Annotated[int | None, typer.Option(help="Makes a run repeatable.")] = None,
    api_key: Key = None,
) -> None:
    """Have simulated candidates run whole interviews, and print what they saw."""
    from orchestrator.demo import run_demo

    raise typer.Exit(run_demo(url, candidates, seed, api_key))


jobs = typer.Typer(no_args_is_help=True, help="Question banks.")
app.add_typer(jobs, name="jobs")


@jobs.command("list")
def list_jobs(url: Url = DEFAULT_URL, api_key: Key = None) -> None:
    """Show the jobs that there are."""
    with _service(url, api_key) as http:
        found: list[dict[str, Any]] = _member(http.get("/jobs"), "jobs")
    rows = Table("job", "title", "questions", "version")
    for job in found:
        picked = f"{job['pick']} of " if job.get("pick") else ""
        rows.add_row(
            job["job_id"], escape(job["title"]), f"{picked}{len(job['questions'])}", str(job.get("version", 1))
        )
    Console().print(rows)


@jobs.command("import")
def import_job(
    bank: Annotated[Path, typer.Argument(help="A YAML or CSV file.", metavar="FILE")],
    job_id: Annotated[str | None, typer.Option("--job", help="The job's id, if the file does not say.")] = None,
    title: Annotated[str | None, typer.Option(help="Its title, if the file does not say; else its id.")] = None,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Make a job of a file, or a new version of the job that there is; sessions keep the questions that they have."""
    from orchestrator import banks

    try:
        content, lines = banks.read_bank(bank)
    except InvalidInput as error:
        typer.echo(f"error: {error.detail}", err=True)
        raise typer.Exit(1) from None
    name = job_id or content.get("job_id") or bank.stem
    content |= {"job_id": name, "title": title or content.get("title") or name}
    with _service(url, api_key) as http:
        answer = http.put(f"/jobs/{quote(str(name), safe='')}", json=content)
        if answer.status_code == 404:
            answer = http.post("/jobs", json=content)
        body: dict[str, Any] = answer.json()
    if answer.status_code != 200:
        problems = body.get("errors") or [{"pointer": "", "detail": body.get("detail", answer.status_code)}]
        for one in problems[:20]:
            typer.echo(f"error: {banks.complaint(bank.name, lines, one['pointer'], one['detail'])}", err=True)
        raise typer.Exit(1)
    job = body["job"]
    typer.echo(f"job {job['job_id']}: {len(job['questions'])} questions, version {job.get('version', 1)}")


@jobs.command("export")
def export_job(
    job_id: Annotated[str, typer.Argument(help="The job's id.", metavar="JOB")],
    version: Annotated[int | None, typer.Option(help="An older version.")] = None,
    output: Annotated[Path | None, typer.Option(help="Where to write it; else it is printed.")] = None,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Print (or write) a job as YAML that `import` reads."""
    from orchestrator import banks

    with _service(url, api_key) as http:
        asked = {} if version is None else {"version": version}
        job: dict[str, Any] = _member(http.get(f"/jobs/{quote(job_id, safe='')}", params=asked), "job")
    _write([banks.write_bank(job)], output)


keys = typer.Typer(no_args_is_help=True, help="Staff keys.")
app.add_typer(keys, name="keys")


@keys.command("create")
def create_key(
    name: Annotated[
        str, typer.Argument(help="Who the journal says has acted. A key that follows another has its name.")
    ],
    scope: Annotated[list[Opens], typer.Option(help="What it opens; may be given more than once.")],
    days: Annotated[float | None, typer.Option(min=0.01, help="How long it is good; not given: until revoked.")] = None,
    output: Annotated[Path | None, typer.Option(help="A new file for the key, which only you can read.")] = None,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Make a staff key, and print it (or write it to a file): nobody can see it again.

    read: look at everything but pictures. manage: read, and create, change and delete sessions and question banks.
    proctor: read, pictures, verdicts, the clock of live interviews. admin: everything.

    The first key closes a service that was open to everyone on this machine; it needs the scope admin.
    """
    body: dict[str, Any] = {"name": name, "scopes": [one.value for one in dict.fromkeys(scope)]}
    if days is not None:
        body["expires_at"] = (datetime.now(UTC) + timedelta(days=days)).isoformat()
    if output is not None and output.exists():
        typer.echo(f"error: {output} is there already; a key that is in it would be lost", err=True)
        raise typer.Exit(1)
    with _service(url, api_key) as http:
        answer = http.post("/keys", json=body)
        made = _member(answer, "key")
    typer.echo(f"{made['key_id']}: {made['name']}, {', '.join(made['scopes'])}", err=True)
    _write([answer.json()["secret"] + "\n"], output)


@keys.command("list")
def list_keys(url: Url = DEFAULT_URL, api_key: Key = None) -> None:
    """Show the keys that were ever made; not their secrets, which nobody knows."""
    with _service(url, api_key) as http:
        found: list[dict[str, Any]] = _member(http.get("/keys"), "keys")
    rows = Table()
    for column in ("key", "name", "scopes", "state", "created", "by", "expires"):
        rows.add_column(column, no_wrap=column in ("key", "state", "created", "expires"), overflow="fold")
    for key in found:
        values = (key["key_id"], escape(key["name"]), " ".join(key["scopes"]), key["state"], key["created_at"][:10])
        rows.add_row(*values, escape(key["created_by"]), (key["expires_at"] or "never")[:10])
    Console().print(rows)


@keys.command("revoke")
def revoke_key(
    key: Annotated[str, typer.Argument(help="The key's id, or its name if only one that is good has it.")],
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Revoke a key: from then on it opens nothing, at any front end."""
    with _service(url, api_key) as http:
        known: list[dict[str, Any]] = _member(http.get("/keys"), "keys")
        named = [one for one in known if one["name"] == key and one["state"] == "good"]
        if len(named) > 1:
            ids = ", ".join(one["key_id"] for one in named)
            typer.echo(f"error: {len(named)} keys are named {key}; give the id of one: {ids}", err=True)
            raise typer.Exit(1)
        key_id = named[0]["key_id"] if named else key
        revoked = _member(http.delete(f"/keys/{quote(key_id, safe='')}"), "key")
    typer.echo(f"{revoked['key_id']} ({revoked['name']}) is revoked")


@app.command()
def invite(
    candidates: Annotated[Path, typer.Argument(help="A CSV file with the columns name and email.", metavar="CSV")],
    job: Annotated[str, typer.Option(help="The job whose questions are asked.")] = "default",
    output: Annotated[Path | None, typer.Option(help="Where to write the links; else they are printed.")] = None,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Make a session for each candidate in a file, and print (or write) their links as CSV.

    Further columns: phone, scheduled_at, expires_at, time_multiplier, camera_exempt, metadata.<name>; and key, to
    invite the same person more than once. Running it again makes nothing twice. A file with an error makes nothing.
    """
    from orchestrator import invite as inviting
    from orchestrator.tables import table

    counts: Counter[str] = Counter()
    try:
        rows = inviting.read_candidates(candidates, job)
        with _service(url, api_key) as http:
            problems = inviting.check(http, rows, candidates.name)
            if problems:
                typer.echo("\n".join(f"error: {problem}" for problem in problems[:20]), err=True)
                typer.echo(f"{len(problems)} of {len(rows)} lines are wrong; nothing was made", err=True)
                raise typer.Exit(1)
            with Progress(console=Console(stderr=True), transient=True) as progress:
                bar = progress.add_task("inviting", total=len(rows))
                results = list(inviting.invite(http, rows, lambda n: progress.advance(bar, n)))
    except InvalidInput as error:
        typer.echo(f"error: {error.detail}", err=True)
        raise typer.Exit(1) from None
    for _, _, result in results:
        counts["failed" if result["status"] == "error" else "there already" if result["replayed"] else "made"] += 1
    _write(table(["name", "email", "session_id", "link", "problem"], (_invited(*one) for one in results)), output)
    typer.echo(", ".join(f"{number} {what}" for what, number in sorted(counts.items())), err=True)
    raise typer.Exit(1 if counts["failed"] else 0)


def _invited(line: int, body: dict[str, Any], result: dict[str, Any]) -> list[str]:
    if result["status"] == "error":
        again = " (invited before, with other details)" if result["code"] == "command_id_reused" else ""
        return [body["name"], body["email"], "", "", f"line {line}: {result['detail']}{again}"]
    return [body["name"], body["email"], result["session_id"], result["links"]["candidate"], ""]


def _write(lines: Iterable[str], output: Path | None) -> None:
    """To a file that only its owner reads (links let people in), or to the terminal."""
    if output is None:
        for line in lines:
            typer.echo(line, nl=False)
        return
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.fchmod(descriptor, 0o600)  # it may have been there, and open to others
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
        file.writelines(lines)


@contextmanager
def _service(url: str, api_key: str | None) -> Iterator[httpx.Client]:
    """A client of the service; a service that does not answer is one clear line and exit code 1."""
    key = api_key or _key_of_the_settings()
    if key is not None and not key.isascii():
        typer.echo("error: the staff key has a character that no key has; was it copied in full?", err=True)
        raise typer.Exit(1)
    headers = {"X-API-Key": key} if key else {}
    try:
        with httpx.Client(base_url=f"{url.rstrip('/')}/api/parallel_interview", headers=headers, timeout=10) as http:
            yield http
    except httpx.HTTPError as error:
        typer.echo(f"error: {url} does not answer: {error}", err=True)
        raise typer.Exit(1) from None


def _key_of_the_settings() -> str | None:
    """The one in a `.env` file of this folder."""
    from orchestrator.settings import get_settings

    key = get_settings().api_key
    return key.get_secret_value() if key is not None else None


def _member(response: httpx.Response, name: str) -> Any:
    body = response.json()
    if response.status_code != 200:
        how = " Set INTERVIEW_API_KEY, or give --api-key." if response.status_code == 401 else ""
        typer.echo(f"error: {body.get('detail', response.status_code)}{how}", err=True)
        raise typer.Exit(1)
    return body[name]


def _status_table(stats: dict[str, Any], cluster: dict[str, Any]) -> Table:
    table = Table("sessions", "count", "actors", "count", title="Parallel Interview")
    actors = [
        ("live", cluster["live_actors"]),
        ("warm", cluster["warm_actors"]),
        ("starting", cluster["starting_actors"]),
        ("capacity", cluster["capacity"]),
    ]
    sessions = [
        ("initialized", stats["initialized_sessions"]),
        ("in progress", stats["active_sessions"]),
        ("parked", stats["parked_sessions"]),
        ("completed", stats["completed_sessions"]),
        ("total", stats["total_sessions"]),
    ]
    for (state, count), (kind, number) in zip_longest(sessions, actors, fillvalue=("", "")):
        table.add_row(state, str(count), kind, str(number))
    return table


def _node_table(nodes: list[dict[str, Any]]) -> Table:
    table = Table("node", "address", "alive", "live", "warm", "draining", "cpu", "memory GiB")
    for node in nodes:
        table.add_row(
            node["node"][:12],
            node["address"],
            "yes" if node["alive"] else "no",
            str(node["live_interviews"]),
            str(node["warm_actors"]),
            f"yes, {node['live_on_draining']} live left" if node["draining"] else "no",
            f"{node['cpu']:g}",
            f"{node['memory_bytes'] / 2**30:.1f}",
        )
    return table


def _parked_table(parked: list[dict[str, Any]]) -> Table:
    table = Table("session", "since", "reason", title="Parked: staff can start them again or end them")
    for session in parked:
        table.add_row(session["session_id"], session["since"], session["reason"])
    return table


def main() -> None:
    app()
