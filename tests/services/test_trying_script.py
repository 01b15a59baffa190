"""`test_parallel_interview.py`: the automated pass by subprocess, the menu through a pseudo-terminal, both for real."""

from __future__ import annotations

import contextlib
import fcntl
import http.server
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from parallel_interview_client import Client
from tests.servers import ROOT, Serve, serving

pytestmark = [pytest.mark.services, pytest.mark.timeout(240)]

SCRIPT = ROOT / "test_parallel_interview.py"
KEY = "a-staff-key-of-this-test"
COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    with serving(tmp_path_factory.mktemp("trying"), INTERVIEW_API_KEY=KEY, INTERVIEW_WARM_ACTORS="3") as service:
        yield service


@pytest.fixture
def staff(service: Serve) -> Iterator[Client]:
    with Client(service.url, KEY) as staff:
        yield staff


def tried(*options: str, key: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "INTERVIEW_API_KEY"}
    environment |= {} if key is None else {"INTERVIEW_API_KEY": key}
    command = [sys.executable, str(SCRIPT), *options]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=environment, stdin=subprocess.DEVNULL
    )


# --- the automated pass


def test_everything_passes_against_the_real_service_and_nothing_is_left(service: Serve, staff: Client) -> None:
    before = staff.stats()["total_sessions"]
    done = tried("--test", "--base-url", service.url, key=KEY)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\b(2\d) passed, 0 failed, 0 skipped in ", done.stdout), done.stdout
    assert staff.stats()["total_sessions"] == before
    assert [job["job_id"] for job in staff.jobs()] == ["default"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--base-url", "http://127.0.0.1:9"], "No answer from http://127.0.0.1:9"),
        (["--base-url", "localhost:8005"], "is no address"),
        (["--api-key", "wrong"], "401"),
        ([], "401"),
    ],
)
def test_a_service_that_cannot_be_used_is_one_clear_line(service: Serve, options: list[str], says: str) -> None:
    where = [] if "--base-url" in options else ["--base-url", service.url]
    done = tried("--test", *where, *options)
    assert done.returncode == 2 and done.stdout == ""
    assert re.fullmatch(r"error: .*\n", done.stderr) and says in done.stderr


Answer = Callable[[str, str], tuple[int, str, dict[str, object] | str]]
STATS = {
    "total_sessions": 0,
    "initialized_sessions": 0,
    "active_sessions": 0,
    "completed_sessions": 0,
    "completion_rate": 0,
}


@contextlib.contextmanager
def answering(answer: Answer) -> Iterator[str]:
    """A server that is not the service: (method, path) to status, content type and body."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, kind, body = answer(self.command, self.path)
            content = (body if isinstance(body, str) else json.dumps(body)).encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def _always_right(method: str, path: str) -> tuple[int, str, dict[str, object] | str]:
    """Says yes to everything, with nothing in it."""
    return 200, "application/json", {"status": "success", "stats": STATS}


def _wrong_shapes(method: str, path: str) -> tuple[int, str, dict[str, object] | str]:
    """The right members, of the wrong kind."""
    return 200, "application/json", {"stats": STATS, "session_id": 7, "session": [], "candidate_token": None}


def _refuses(method: str, path: str) -> tuple[int, str, dict[str, object] | str]:
    """Everything but figures is refused, by no problem document."""
    return (200, "application/json", {"stats": STATS}) if path.endswith("/stats") else (500, "text/plain", "oops")


@pytest.mark.parametrize("answer", [_always_right, _wrong_shapes, _refuses])
def test_a_service_that_answers_wrongly_fails_with_reasons(answer: Answer) -> None:
    with answering(answer) as url:
        done = tried("--test", "--base-url", url)
    assert done.returncode == 1, done.stdout + done.stderr
    failed = re.search(r"(\d+) failed", done.stdout)
    assert failed and int(failed[1]) >= 15, done.stdout
    assert "Traceback" not in done.stdout + done.stderr and done.stderr == ""


def test_something_else_at_the_address_is_one_clear_line() -> None:
    with answering(lambda *_: (200, "text/html", "<h1>hello</h1>")) as url:
        done = tried("--test", "--base-url", url)
    assert done.returncode == 2 and re.fullmatch(r"error: .*not this service.*\n", done.stderr)


# --- the menu


class Terminal:
    """The script at a pseudo-terminal, and a person who reads before they type."""

    def __init__(self, *options: str) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, b"\x28\x00\x78\x00" + b"\x00" * 4)

        def take_terminal() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # what runs in the background may be told to take no notice

        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT), *options],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=take_terminal,
            env=os.environ | {"TERM": "xterm", "COLUMNS": "120"},
        )
        os.close(theirs)
        self.shown = ""
        self._read_until = 0

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def expect(self, pattern: str, seconds: float = 20.0) -> re.Match[str]:
        """Wait until what is shown has it, after what was waited for last."""
        give_up = time.monotonic() + seconds
        while not (found := re.search(pattern, self.shown[self._read_until :])):
            left = give_up - time.monotonic()
            assert left > 0, f"{pattern!r} was not shown; but:\n{self.shown[-3000:]}"
            self._more(left)
        self._read_until += found.end()
        return found

    def interrupt(self, pattern: str) -> None:
        """Press Ctrl-C; again if it came in the moment before Python waits for input, when it is only noted."""
        for _ in range(5):
            self.type("\x03")
            with contextlib.suppress(AssertionError):
                self.expect(pattern, 4)
                return
        self.expect(pattern, 0.1)

    def _more(self, seconds: float) -> None:
        if not select.select([self._ours], [], [], seconds)[0]:
            return
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # the other side has gone
            data = b""
        assert data, f"it has ended; it showed:\n{self.shown[-3000:]}"
        self.shown += COLOURS.sub("", data.decode(errors="replace")).replace("\r", "\n")

    def ended(self) -> int:
        """Wait for its end: the exit code."""
        with contextlib.suppress(AssertionError):
            while True:
                self._more(10)
        return self.process.wait(10)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        os.close(self._ours)


@pytest.fixture
def terminal(service: Serve) -> Iterator[Terminal]:
    terminal = Terminal("--base-url", service.url, "--api-key", KEY)
    try:
        terminal.expect("What now")
        yield terminal
        assert "Traceback" not in terminal.shown
    finally:
        terminal.close()


def test_a_person_creates_an_interview_takes_it_and_reads_the_report(terminal: Terminal, staff: Client) -> None:
    terminal.type("2\n")
    for prompt, answer in (
        ("Name", "Grace Hopper\n"),
        ("Email", "grace@example.com\n"),
        ("Question 1", "Why compilers?\n"),
        ("Question 2", "code: Reverse a list.\n"),
        ("Question 3", "\n"),
        ("Seconds", "lots\n"),
        ("valid integer", "90\n"),
    ):
        terminal.expect(prompt)
        terminal.type(answer)
    session_id = terminal.expect(r"Made session (\S+);")[1]
    terminal.expect("What now")

    terminal.type("3\n")
    terminal.expect("Which one")
    terminal.expect("Number")
    terminal.type("1\n")
    terminal.expect("Why compilers")
    terminal.expect(r"1:(30|2\d) > ")
    terminal.type("They save tinme")
    terminal.expect("They save tinme")
    terminal.expect(r"1:2\d > ")
    terminal.type("\x7f\x7f\x7fme.")
    terminal.expect("They save time")
    terminal.type("\n")
    terminal.expect("Reverse a list")
    terminal.type("def f(x):\n")
    terminal.expect(r"def f\(x\):\n")
    terminal.type("\treturn x[::-1]\x04")
    terminal.expect("The interview is over: finished")
    terminal.expect("What now")
    answers = [answer["answer"] for answer in staff.session(session_id)["answers"]]
    assert answers == ["They save time.", "def f(x):\n\treturn x[::-1]"]

    terminal.type("5\n")
    terminal.expect("Number")
    terminal.type("\n")
    terminal.expect("Grace Hopper: finished", 60)
    terminal.expect("the journal verifies")
    terminal.type("1\n")
    terminal.expect("sessions")
    terminal.expect("Grace Hopper")
    terminal.type("6\n")
    terminal.expect("completion rate")
    terminal.type("7\n")
    terminal.expect("Remove")
    terminal.type("y\n")
    terminal.expect("are gone")
    terminal.type("q\n")
    assert terminal.ended() == 0 and "Goodbye" in terminal.shown
    assert session_id not in [session["session_id"] for session in staff.sessions()]


def test_time_that_runs_out_while_somebody_types(terminal: Terminal, staff: Client) -> None:
    made = staff.create("Slow Joe", "joe@example.com", questions=["Why?", "Why now?"], text_question_timer=6)
    terminal.type("3\n")
    terminal.expect("Number")
    terminal.type("1\n")
    terminal.expect("new link")
    terminal.type("y\n")
    terminal.expect(r"0:0\d > ")
    terminal.type("I was about to")
    terminal.expect("Time is up", 30)
    terminal.expect("Why now")
    terminal.interrupt("Back to the menu")
    terminal.expect("What now")
    session = staff.session(made["session_id"])
    assert [(one["answer"], one["source"]) for one in session["answers"]][:1] == [("I was about to", "draft")]
    staff.delete(made["session_id"])


def test_an_interview_is_watched_as_it_happens(terminal: Terminal, staff: Client) -> None:
    made = staff.create("Watched", "w@example.com", questions=["Why?"])
    terminal.type("4\n")
    terminal.expect("Number")
    terminal.type("1\n")
    terminal.expect("the session is waiting")
    staff.start(made["session_id"])
    terminal.expect(r"question 1: Why\?")
    staff.pause(made["session_id"])
    terminal.expect("the clock is paused")
    staff.end(made["session_id"])
    terminal.expect("the interview is over: ended by staff")
    terminal.expect("What now")
    staff.delete(made["session_id"])


def test_wrong_input_and_ctrl_c_show_no_traceback(terminal: Terminal, staff: Client) -> None:
    for wrong in ("9\n", "hello\n", "\n"):
        terminal.type(wrong)
        terminal.expect("What now")
    terminal.type("4\n")
    terminal.expect("There is no session that is initialized or in progress")
    terminal.expect("What now")
    terminal.type("2\n")
    terminal.expect("Name")
    terminal.interrupt("Back to the menu")
    terminal.expect("What now")
    terminal.type("2\nNobody\nno address\nWhy?\n\n3\n")
    terminal.expect("is not an email address|greater than or equal|not valid")
    terminal.expect("What now")
    terminal.interrupt("Goodbye")
    assert terminal.ended() == 0


def test_the_menu_needs_a_terminal(service: Serve) -> None:
    done = tried("--base-url", service.url, key=KEY)
    assert done.returncode == 2 and "needs a terminal" in done.stderr


def test_pytest_does_not_take_the_script_for_tests() -> None:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "tests/unit/test_imports.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and SCRIPT.name not in done.stdout
