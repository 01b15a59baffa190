"""What axe-core finds on a page."""

from __future__ import annotations

from pathlib import Path

from playwright.async_api import Page

from tests.servers import ROOT, cannot_run

AXE = ROOT / "api/web/node_modules/axe-core/axe.min.js"
LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


def script() -> Path:
    """Axe itself. Skips the test if it is not here."""
    if not AXE.exists():
        cannot_run("axe-core is not here; make web installs it", needs="npm")
    return AXE


async def violations(page: Page, axe: Path) -> list[str]:
    """What axe-core finds against WCAG 2.2 A and AA."""
    await page.evaluate(axe.read_text())  # as the page's own script it would need a place in its policy
    found = await page.evaluate("levels => axe.run({runOnly: levels})", LEVELS)
    return [f"{v['id']}: {node['html'][:200]}" for v in found["violations"] for node in v["nodes"]]
