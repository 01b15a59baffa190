"""A report as a PDF: the page that people read, set by WeasyPrint in a process of its own.

`python -m api.report_pdf` turns HTML on its input into a PDF on its output. A process of its own, since setting a long
report takes seconds and tens of megabytes. Nothing is loaded but our style sheet, and pictures that the page carries.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
import resource
import sys
from importlib.resources import files

from orchestrator.errors import NotInstalled, Unavailable

log = logging.getLogger(__name__)

COMMAND = (sys.executable, "-P", "-m", "api.report_pdf")
SECONDS = 60.0
MEMORY_BYTES = 2 * 2**30
WAITING = 4
"""PDFs that may wait for the one that is being made."""
NO_LIBRARY = 3
PAGES = """
@page { size: A4; @bottom-right { content: counter(page) " / " counter(pages); font-size: 8pt; color: #444444 } }
html { font-size: 10.5pt }
.facts { grid-template-columns: repeat(4, 1fr) }
.question, section { break-inside: auto }
footer { break-inside: avoid }
.stills { grid-template-columns: repeat(4, 1fr) }
"""
"""What differs from the page on a screen, and from what browsers print."""
MISSING = (
    "PDFs need the libraries Pango and HarfBuzz on the machine of the front end (Debian: libpango-1.0-0, "
    "libpangoft2-1.0-0, libharfbuzz-subset0). The page prints well without: ?format=html."
)


class PdfMaker:
    """Makes one PDF at a time."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def make(self, page: str) -> bytes:
        """Raises NotInstalled, or Unavailable if too many are wanted or it takes too long."""
        if self._waiting > WAITING:
            raise Unavailable("Other reports are being made into PDFs; try again soon.", retry_after=5)
        self._waiting += 1
        try:
            async with self._turn:
                return await _made(page)
        finally:
            self._waiting -= 1


async def _made(page: str) -> bytes:
    if importlib.util.find_spec("weasyprint") is None:
        raise NotInstalled("PDFs need the Python package weasyprint in the environment of the front end.")
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(SECONDS):
            made, said = await process.communicate(page.encode("utf-8", "replace"))
    except TimeoutError:
        raise Unavailable("The report is too long to be made into a PDF in time.", retry_after=60) from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode == NO_LIBRARY:
        raise NotInstalled(MISSING)
    if process.returncode or not made.startswith(b"%PDF"):
        log.error("no PDF", extra={"code": process.returncode, "last": said.decode(errors="replace")[-300:]})
        raise Unavailable("The report could not be made into a PDF.", retry_after=60)
    return made


def main() -> int:
    os.nice(10)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    page = sys.stdin.buffer.read().decode()
    try:
        from weasyprint import CSS, HTML
        from weasyprint.urls import URLFetcher
    except OSError:  # what it needs of the system is not there
        return NO_LIBRARY
    style = CSS(string=(files("api") / "web" / "dist" / "report.css").read_text(encoding="utf-8"))
    document = HTML(string=page, url_fetcher=URLFetcher(allowed_protocols=["data"]))
    made = document.write_pdf(stylesheets=[style, CSS(string=PAGES)])
    assert made is not None  # since no file was named
    sys.stdout.buffer.write(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
