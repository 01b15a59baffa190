"""Every Mermaid block of the documents is read by Mermaid's own parser."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.documents import DOCUMENTS, blocks
from tests.node_tools import node_modules

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]

PARSER = """
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
const [modules] = process.argv.slice(2);
const { JSDOM } = createRequire(`${modules}/`)('jsdom');
globalThis.window = new JSDOM('').window;  // Mermaid cleans labels with it
globalThis.document = globalThis.window.document;
const { default: mermaid } = await import(pathToFileURL(`${modules}/mermaid/dist/mermaid.core.mjs`));
const diagrams = JSON.parse(await new Response(process.stdin).text());
const told = [];
for (const diagram of diagrams) {
  try {
    told.push((await mermaid.parse(diagram)).diagramType);
  } catch (error) {
    told.push(`error: ${error.message}`);
  }
}
console.log(JSON.stringify(told));
"""


def test_every_diagram_can_be_drawn(tmp_path: Path) -> None:
    modules = node_modules("mermaid@11", "jsdom@26")
    found = [(path.name, block) for path in DOCUMENTS for block in blocks(path) if block.language == "mermaid"]
    assert len(found) > 10
    told = parsed(modules, tmp_path, [block.code for _, block in found])
    wrong = [f"{n}, line {b.line}: {t}" for (n, b), t in zip(found, told, strict=True) if t.startswith("error")]
    assert not wrong, "\n".join(wrong)


def test_what_cannot_be_drawn_is_seen(tmp_path: Path) -> None:
    modules = node_modules("mermaid@11", "jsdom@26")
    told = parsed(modules, tmp_path, ["flowchart LR\n  a -->\n", "stateDiagram-v2\n  a --> b: fine\n"])
    assert told[0].startswith("error") and told[1] == "stateDiagram"


def parsed(modules: Path, folder: Path, diagrams: list[str]) -> list[str]:
    """The kind of each diagram, or what is wrong with it."""
    script = folder / "parse.mjs"
    script.write_text(PARSER)
    command = ["node", str(script), str(modules)]
    done = subprocess.run(command, input=json.dumps(diagrams), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
