"""A front end in a process of its own for what comes over sockets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.attacks.front_end import HEAD_SECONDS, LEFTOVER_SECONDS, SLOW_SECONDS, front_end


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A front end with usual patience."""
    with front_end(tmp_path_factory.mktemp("front_end") / "log") as url:
        yield url


@pytest.fixture(scope="session")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One that waits a second where others wait 15 to 30."""
    short = {HEAD_SECONDS: "1", SLOW_SECONDS: "1", LEFTOVER_SECONDS: "1"}
    with front_end(tmp_path_factory.mktemp("impatient") / "log", **short) as url:
        yield url
