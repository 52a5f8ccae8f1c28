"""A no-op over 10,000 files: `./doit certify` next to `dvc status` and `dvc repro` on one tree.

A copy of this checkout gets a run with one more input of FILES files and is really certified once.
The same files are the dependencies of a DVC stage in a separate repository, reproduced once.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from aicert.errors import ToolError
from rules.bench.training import copy_checkout
from rules.dvc import environment
from rules.host.bootstrap import cache_directory

FILES = 10_000
_INPUT = 'files = "path:files"\n'
_STAGE = """\
stages:
  train:
    cmd: echo model > model.bin
    deps:
    - examples
    - files
    outs:
    - model.bin
"""


def prepare(folder: Path) -> list[list[str]]:
    """Make both in `folder`, which is empty and on the repository's disk. This takes a minute or
    two.

    Returns the commands that find nothing to do: `certify`, `dvc status`, `dvc repro`.
    """
    checkout = (folder / "checkout").absolute()
    copy_checkout(checkout)
    for name in ("doit", ".gitignore"):
        shutil.copy(name, checkout / name)
    # `./doit` compares this before it starts anything, and never makes it here.
    (checkout / ".venv").symlink_to(Path(sys.prefix).resolve())
    (checkout / ".dvc").mkdir()
    shutil.copy(".dvc/config", checkout / ".dvc" / "config")
    _run(("git", "init", "--quiet"), checkout)
    table = "[runs.tiny-alpaca.inputs]"
    toml = Path("aicert.toml").read_text()
    start = toml.index("\n", toml.index(table)) + 1
    (checkout / "aicert.toml").write_text(toml[:start] + _INPUT + toml[start:])
    make_files(checkout / "files")
    for arguments in (("lock",), ("certify",)):
        _run(("./doit", *arguments), checkout)
    stage = (folder / "stage").absolute()
    stage.mkdir()
    for name in ("files", "examples"):
        # Hard links: the same inodes, and the same state of the page cache.
        _run(("cp", "-al", str(checkout / name), str(stage / name)), folder)
    (stage / "dvc.yaml").write_text(_STAGE)
    dvc = str(environment.program())
    for command in (
        ("git", "init", "--quiet"),
        (dvc, "init", "--quiet"),
        (dvc, "config", "core.analytics", "false"),
        (dvc, "config", "core.check_update", "false"),
        (dvc, "repro", "--quiet"),
    ):
        _run(command, stage)
    cache = f"AICERT_CACHE={cache_directory()}"
    return [
        ["env", "-C", str(checkout), cache, "./doit", "certify"],
        ["env", "-C", str(stage), dvc, "status"],
        ["env", "-C", str(stage), dvc, "repro"],
    ]


def make_files(folder: Path) -> None:
    """FILES small files in a hundred directories."""
    for number in range(FILES):
        shelf = folder / f"{number % 100:02}"
        shelf.mkdir(parents=True, exist_ok=True)
        (shelf / f"{number:05}.json").write_text(f'{{"row": {number}}}\n' * 20)


def _run(command: tuple[str, ...], folder: Path) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"AICERT_CACHE": str(cache_directory())},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise ToolError(f"cannot be measured: {' '.join(command)}\n{done.stderr[-1000:]}")
