"""`aicert init`: write what a git repository needs for `./doit`, from the package's
`aicert_build/`.

The owner's files stay, except that missing lines are added at the end of `.gitignore` and
`.gitattributes`. Only `--upgrade` replaces files, and only ours: the wrapper, the recorded version,
the locks of the machine's images. It decides nothing.
"""

import argparse
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aicert.cli.terminal import help_formatter
from aicert.errors import ConfigError, ToolError
from aicert.files.atomic import write_atomically
from aicert.files.tree import read_tree
from aicert.formats.digest import Digest
from aicert.formats.listing import dir_digest

if TYPE_CHECKING:
    from aicert.cli.terminal import Subparsers, Write

HOME = Path(__file__).resolve().parents[2] / "aicert_build"
# The version of aicert, and the digest of its files beside this one. A repository has a copy.
TOOL = "tool.toml"
RECORD = "lockfiles/tool.toml"
WRAPPER = "doit"
_MARK = b"aicert in this repository (written by `aicert init`)"
_STARTER = "rules/starter"
# Files that are ours, and that an upgrade replaces, by their paths in the repository.
OURS = {
    WRAPPER: f"{_STARTER}/doit",
    RECORD: TOOL,
    "lockfiles/image.lock.toml": "lockfiles/image.lock.toml",
    "lockfiles/image-gpu.lock.toml": "lockfiles/image-gpu.lock.toml",
    "lockfiles/image-serve.lock.toml": "lockfiles/image-serve.lock.toml",
    "lockfiles/image-tools.lock.toml": "lockfiles/image-tools.lock.toml",
}
# Files that belong to the repository's owner from the start.
THEIRS = {
    "aicert.toml": f"{_STARTER}/aicert.toml",
    "dodo.py": f"{_STARTER}/dodo.txt",
    ".dvc/config": f"{_STARTER}/dvc-config",
    ".dvc/.gitignore": f"{_STARTER}/dvc-gitignore",
    ".github/workflows/aicert-review.yml": f"{_STARTER}/review.yml",
    ".github/workflows/aicert-review-comment.yml": f"{_STARTER}/review-comment.yml",
}
LINES = {".gitignore": f"{_STARTER}/gitignore", ".gitattributes": f"{_STARTER}/gitattributes"}
_DODO = "from rules.dodo import *"
_LINK = ".aicert/tool"
_NEXT = """\
next      ./doit add RUN config path:CONFIG.yml
          ./doit certify RUN
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    """A change to one file: the new content, None if it stays, and the word to print."""

    path: str
    data: bytes | None
    word: str


def add_command(commands: "Subparsers") -> None:
    """Add `init` to the parser of `aicert`."""
    parser = commands.add_parser(
        "init",
        help="set up `./doit` in this git repository",
        description="Write what a git repository needs to lock, certify and verify its own runs. "
        "Existing files are kept; lines are added to .gitignore and .gitattributes.",
        epilog="exit codes: 0 done, 2 it could not be written, 3 the repository cannot be set up",
        formatter_class=help_formatter,
    )
    parser.add_argument(
        "--upgrade",
        action="store_true",
        help="replace the wrapper, the recorded version and the image locks with this aicert's",
    )
    parser.set_defaults(run=_init, format="text")


def _init(options: argparse.Namespace, say: "Write") -> int:
    return run(options.upgrade, say)


def digest_of(home: Path) -> Digest:
    """Return the dirHash of `aicert_build/` without `tool.toml` and Python's caches."""
    facts = read_tree(home, skip=lambda path: path.endswith("__pycache__/"))
    return dir_digest({path: fact for path, fact in facts.items() if path != TOOL})


def tool(version: str, digest: Digest) -> str:
    """Return the text of `tool.toml`."""
    return (
        "# The aicert that this repository was set up with: `./doit` runs no other.\n"
        "# `aicert init --upgrade` writes the one that is installed.\n"
        f'version = "{version}"\n'
        f'digest = "{digest}"\n'
    )


def run(upgrade: bool, say: "Write") -> int:
    """Set up the repository in the current directory, and return exit code 0."""
    _require_whole(HOME)
    root = _repository(Path.cwd())
    changes = [*_ours(root, HOME, upgrade), *_theirs(root, HOME), *_lines(root, HOME)]
    for change in changes:
        if change.data is not None:
            _write(root / change.path, change.data)
    (root / WRAPPER).chmod(0o755)
    _link(root / _LINK, HOME)
    say("".join(f"{change.word:<8}  {change.path}\n" for change in changes))
    if _DODO.encode() not in (root / "dodo.py").read_bytes():
        say(f"add       to dodo.py, as its first line: {_DODO}\n")
    say(f"root      {root}\n{_NEXT}")
    return 0


def _require_whole(home: Path) -> None:
    try:
        named = (home / TOOL).read_text(encoding="ascii")
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(
            "this aicert is a checkout that is not installed",
            hint="pip install './CHECKOUT[build]'  # in a virtual environment",
        ) from None
    if f'digest = "{digest_of(home)}"' not in named.splitlines():
        raise ToolError(
            f"{home} is not what was installed: its files were changed",
            hint="pip install --force-reinstall './CHECKOUT[build]'",
        )


def _repository(folder: Path) -> Path:
    for place in (folder, *folder.parents):
        if (place / ".git").exists():
            return place
    raise ConfigError(f"{os.fspath(folder)!a} is not in a git repository", hint="git init")


def _ours(root: Path, home: Path, upgrade: bool) -> Iterable[_Change]:
    for path, source in OURS.items():
        data, there = (home / source).read_bytes(), _read(root / path)
        if path == WRAPPER and there is not None and _MARK not in there:
            raise ConfigError(
                "there is already a `doit`, and it is not aicert's", hint="git mv doit doit.old"
            )
        if there == data:
            yield _Change(path=path, data=None, word="there")
        elif there is None or upgrade:
            yield _Change(path=path, data=data, word="wrote")
        elif path in (WRAPPER, RECORD):
            raise ConfigError(
                f"{path} belongs to another version of aicert",
                hint="aicert init --upgrade  # then: git diff",
            )
        else:
            yield _Change(path=path, data=None, word="kept")


def _theirs(root: Path, home: Path) -> Iterable[_Change]:
    for path, source in THEIRS.items():
        there = os.path.lexists(root / path)
        data = None if there else (home / source).read_bytes()
        yield _Change(path=path, data=data, word="kept" if there else "wrote")


def _lines(root: Path, home: Path) -> Iterable[_Change]:
    """Add missing lines after those that are there."""
    for path, source in LINES.items():
        there = _read(root / path) or b""
        has = there.splitlines()
        wanted = (home / source).read_bytes().splitlines(keepends=True)
        missing = [line for line in wanted if line.rstrip(b"\n") not in has]
        if not missing:
            yield _Change(path=path, data=None, word="there")
            continue
        between = b"" if not there or there.endswith(b"\n") else b"\n"
        word = "added to" if there else "wrote"
        yield _Change(path=path, data=there + between + b"".join(missing), word=word)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data)


def _link(path: Path, home: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    beside = path.with_name(f"tool.{os.urandom(8).hex()}")
    beside.symlink_to(home)
    beside.replace(path)
