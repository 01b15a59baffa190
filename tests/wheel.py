"""The wheel, and an environment that has it and nothing of the source tree."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.servers import ROOT

COMMANDS = ("ray", "nx-27017")


def make_bundle(folder: Path) -> Path:
    """What every node of a cluster gets. Returns the wheel."""
    source = folder / "source"  # a build leaves things behind
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "node_modules", "*.egg-info", "build", "data"))
    bundle = folder / "bundle"
    run("deploy/make_bundle.sh", str(bundle), cwd=source, PYTHON=sys.executable)
    shutil.rmtree(source)
    return next(bundle.glob("*.whl"))


def install(wheel: Path, venv: Path) -> None:
    """The wheel in an environment of its own, with this one's packages beneath it. Takes seconds and no network."""
    run(sys.executable, "-m", "venv", "--without-pip", str(venv))
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(venv)}))
    ours = sysconfig.get_path("purelib")
    (site / "beneath.pth").write_text(
        f"{ours}\n"
    )  # what .pth files there say, as that of an editable install, is not read
    run(str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", str(wheel))
    for name in (*COMMANDS, "pip"):
        script = (Path(sysconfig.get_path("scripts")) / name).read_text()
        (venv / "bin" / name).write_text(f"#!{venv}/bin/python\n{script.partition(chr(10))[2]}")
        (venv / "bin" / name).chmod(0o755)


def run(*command: str, cwd: Path | None = None, **environment: str) -> str:
    """What it prints. Raises AssertionError with it where it fails."""
    import os

    done = subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout
