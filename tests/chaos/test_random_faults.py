"""A short run of `make chaos`: random faults of every kind under a load, and the audit."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys

import pytest

from tests.chaos.conftest import say
from tests.servers import ROOT

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(400)]


def test_random_faults(capsys: pytest.CaptureFixture[str]) -> None:
    seed = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(1 << 32))
    say(capsys, f"random faults with seed {seed}; CHAOS_SEED={seed} makes the same choices again")
    command = [sys.executable, "-m", "tests.chaos.run", "--minutes", "0.8", "--candidates", "6", "--seed", str(seed)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=360)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert re.search(r"passed: [1-9]\d* acknowledgements", done.stdout)
