"""The command `parallel-interview`."""

from __future__ import annotations

from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.table import Table

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Runs many live interviews at once.")

Url = Annotated[str, typer.Option("--url", help="Where the service is.")]
Key = Annotated[str | None, typer.Option("--api-key", envvar="INTERVIEW_API_KEY", help="A staff key.")]
DEFAULT_URL = "http://localhost:8005"


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on.")] = 8005,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Front end processes.")] = 1,
    join: Annotated[str | None, typer.Option(help="The address of a Ray cluster to join.")] = None,
    insecure: Annotated[bool, typer.Option(help="Listen beyond loopback although no key is set.")] = False,
) -> None:
    """Run the service: the API, and a local Ray and a database where none are configured."""
    from orchestrator.serve import LOOPBACK, Supervisor
    from orchestrator.settings import get_settings

    settings = get_settings()
    if host not in LOOPBACK and settings.api_key is None and not insecure:
        typer.echo(
            f"error: no INTERVIEW_API_KEY is set, so anyone who reaches {host} could do anything. "
            "Set a key, listen on 127.0.0.1, or give --insecure.",
            err=True,
        )
        raise typer.Exit(2)
    if join is not None:
        settings = settings.model_copy(update={"ray_address": join})
        import os

        os.environ["RAY_ADDRESS"] = join
    raise typer.Exit(Supervisor(settings, host, port, workers).run())


@app.command()
def status(url: Url = DEFAULT_URL, api_key: Key = None) -> None:
    """Show sessions by state, live and warm actors, and the nodes."""
    headers = {"X-API-Key": api_key} if api_key else {}
    try:
        with httpx.Client(base_url=f"{url.rstrip('/')}/api/parallel_interview", headers=headers, timeout=10) as http:
            stats: dict[str, Any] = _member(http.get("/stats"), "stats")
            cluster: dict[str, Any] = _member(http.get("/cluster"), "cluster")
    except httpx.HTTPError as error:
        typer.echo(f"error: {url} does not answer: {error}", err=True)
        raise typer.Exit(1) from None
    Console().print(_status_table(stats, cluster), _node_table(cluster["nodes"]))


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


def _member(response: httpx.Response, name: str) -> Any:
    body = response.json()
    if response.status_code != 200:
        typer.echo(f"error: {body.get('detail', response.status_code)}", err=True)
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
        ("completed", stats["completed_sessions"]),
        ("total", stats["total_sessions"]),
    ]
    for (state, count), (kind, number) in zip(sessions, actors, strict=True):
        table.add_row(state, str(count), kind, str(number))
    return table


def _node_table(nodes: list[dict[str, Any]]) -> Table:
    table = Table("node", "address", "alive", "cpu", "memory GiB")
    for node in nodes:
        table.add_row(
            node["node"][:12],
            node["address"],
            "yes" if node["alive"] else "no",
            f"{node['cpu']:g}",
            f"{node['memory_bytes'] / 2**30:.1f}",
        )
    return table


def main() -> None:
    app()
