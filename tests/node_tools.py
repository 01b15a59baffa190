"""Packages from npm that tests run: installed once into the user's cache, never into the repository."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.servers import cannot_run

NODE_DIR = Path.home() / ".cache" / "parallel-interview" / "node"
INSTALL_SECONDS = 240


def node_modules(*packages: str) -> Path:
    """The node_modules folder with these packages (`name@version`); skips the test where they cannot be had."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        cannot_run(f"npm and node are not installed, and {', '.join(packages)} needs them", needs="npm")
    modules = NODE_DIR / "node_modules"
    missing = [one for one in packages if not (modules / one.rpartition("@")[0] / "package.json").exists()]
    if missing:
        NODE_DIR.mkdir(parents=True, exist_ok=True)
        install = [npm, "install", "--prefix", str(NODE_DIR), "--no-audit", "--no-fund", *missing]
        try:
            done = subprocess.run(install, check=False, capture_output=True, text=True, timeout=INSTALL_SECONDS)
        except subprocess.TimeoutExpired:
            cannot_run(f"npm could not install {' '.join(missing)} within {INSTALL_SECONDS} s")
        if done.returncode:
            cannot_run(f"npm could not install {' '.join(missing)}: {done.stderr[-500:]}")
    return modules
