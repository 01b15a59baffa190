"""Every example in the README and in docs/ does what it says, against a real service; see tests/documents.py."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import PIL.Image
import pytest
from skimage import data as photographs

from tests.documents import DOCUMENTS, Examples, blocks
from tests.servers import ROOT, Serve, cannot_run, serving

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]

CLOSES = "PARALLEL_INTERVIEW_API.md"
"""It makes the first key, so that nothing is open afterwards: it gets a service of its own."""
WITH_EXAMPLES = [document for document in DOCUMENTS if any(block.runs for block in blocks(document))]
SHARED = [document for document in WITH_EXAMPLES if document.name != CLOSES]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    with serving(tmp_path_factory.mktemp("documents"), INTERVIEW_WARM_ACTORS="2") as service:
        yield service


@pytest.mark.parametrize("document", SHARED, ids=[document.name for document in SHARED])
def test_the_examples_of_a_document(document: Path, service: Serve, tmp_path: Path) -> None:
    run(document, service, tmp_path)


def test_the_examples_of_the_api(tmp_path: Path) -> None:
    with serving(tmp_path / "service", INTERVIEW_WARM_ACTORS="2") as service:
        run(ROOT / "docs" / CLOSES, service, tmp_path / "examples")


def run(document: Path, service: Serve, folder: Path) -> None:
    """Run a document's blocks one after another; a portrait lies beside them, for those that need a picture."""
    if shutil.which("curl") is None or shutil.which("bash") is None:
        cannot_run("curl and bash are not here, and the examples need them")
    examples = Examples(folder, service.url, dict(os.environ))
    PIL.Image.fromarray(photographs.astronaut()).crop((130, 0, 330, 230)).save(folder / "portrait.jpg")
    for block in blocks(document):
        if block.runs:
            try:
                examples.run(block)
            except AssertionError as error:
                raise AssertionError(f"{document.name}, line {block.line}: {error}") from None
    if examples.left_out:
        cannot_run("; ".join(examples.left_out), needs="node")
