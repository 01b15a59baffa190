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
from tests.servers import Serve, cannot_run, serving

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]

WITH_EXAMPLES = [document for document in DOCUMENTS if any(block.runs for block in blocks(document))]
CLOSING = [one for one in WITH_EXAMPLES if any("keys create" in block.code for block in blocks(one) if block.runs)]
"""They make the first key, so that nothing is open afterwards: each gets a service of its own."""
OTHERS = [one for one in WITH_EXAMPLES if one not in CLOSING]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    with serving(tmp_path_factory.mktemp("documents"), INTERVIEW_WARM_ACTORS="2") as service:
        yield service


@pytest.mark.parametrize("document", OTHERS, ids=[document.name for document in OTHERS])
def test_the_examples_of_a_document(document: Path, service: Serve, tmp_path: Path) -> None:
    run(document, service, tmp_path)


@pytest.mark.parametrize("document", CLOSING, ids=[document.name for document in CLOSING])
def test_the_examples_of_a_document_with_keys(document: Path, tmp_path: Path) -> None:
    with serving(tmp_path / "service", INTERVIEW_WARM_ACTORS="2") as service:
        run(document, service, tmp_path / "examples")


def run(document: Path, service: Serve, folder: Path) -> None:
    """Run a document's blocks one after another; files that some of them need lie beside them."""
    if shutil.which("curl") is None or shutil.which("bash") is None:
        cannot_run("curl and bash are not here, and the examples need them")
    examples = Examples(folder, service.url, dict(os.environ))
    lay_out(folder)
    for block in blocks(document):
        if block.runs:
            try:
                examples.run(block)
            except AssertionError as error:
                raise AssertionError(f"{document.name}, line {block.line}: {error}") from None
    if examples.left_out:
        cannot_run("; ".join(examples.left_out), needs="node")


def lay_out(folder: Path) -> None:
    """What the reader of an example has: a picture of a candidate, and a list of candidates."""
    PIL.Image.fromarray(photographs.astronaut()).crop((130, 0, 330, 230)).save(folder / "portrait.jpg")
    (folder / "candidates.csv").write_text("name,email\nAda Lovelace,ada@example.com\n")
