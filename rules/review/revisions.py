"""Read files of a revision, or of the checkout, without checking anything out.

A revision under review is data: nothing in it is executed, and every read is bounded.
"""

import contextlib
import os
import subprocess
import threading
from pathlib import Path
from typing import IO, Protocol

from aicert.errors import ConfigError, ToolError
from aicert.formats.paths import check_path
from rules.host.git import is_shallow, refused
from rules.review import plain_files

# Far more than any text compared here; of a data set in git, only this much is read.
MAX_BYTES = 64 << 20
_MAX_NAMES = 100_000


class Files(Protocol):
    """A tree of files, by path relative to the repository's root."""

    name: str

    def read(self, path: str) -> bytes | None:
        """Return a file's bytes; None if there is no such file, or it is too big to compare."""
        ...

    def names(self, folder: str) -> list[str]:
        """Return the paths of all files below `folder`, sorted."""
        ...

    def odd(self) -> list[tuple[str, str]]:
        """Entries that are not plain files where they must be (`plain_files`): path, and what each
        is.
        """
        ...


class Checkout:
    """The files of the checkout."""

    def __init__(self, root: Path) -> None:
        self.name = "the checkout"
        self._root = root

    def read(self, path: str) -> bytes | None:
        """Return a regular file's bytes. Links are never followed."""
        full = self._root
        for part in path.split("/"):
            full /= part
            if full.is_symlink():
                return None
        if not full.is_file() or full.stat().st_size > MAX_BYTES:
            return None
        return full.read_bytes()

    def names(self, folder: str) -> list[str]:
        """Return every file below `folder`."""
        paths = [
            os.path.relpath(os.path.join(parent, name), self._root)
            for parent, _, names in os.walk(self._root / folder)
            for name in names
        ]
        return sorted(paths)

    def odd(self) -> list[tuple[str, str]]:
        """See Files. File modes count only if git trusts them on this file system."""
        command = ["git", "config", "--type=bool", "--get", "core.fileMode"]
        try:
            done = subprocess.run(command, cwd=self._root, capture_output=True, text=True)
            modes = done.stdout.strip() != "false"
        except OSError:
            modes = False
        return list(plain_files.in_folder(self._root, modes=modes))


class Revision:
    """The files of a git revision, read from git's objects. Links and submodules are left out."""

    def __init__(self, root: Path, revision: str) -> None:
        self._root = root
        self._commit = resolve(root, revision)
        # The project may be a folder of a larger repository: only the files below it count.
        prefix = os.fsdecode(git(root, "rev-parse", "--show-prefix").removesuffix(b"\n"))
        self._base = f"{self._commit}:{prefix}"
        self.name = f"{revision} ({self._commit[:10]})"
        self._sizes: dict[str, int] | None = None
        self._odd: list[tuple[str, str]] = []

    def read(self, path: str) -> bytes | None:
        """Return a blob's bytes."""
        size = self._tree().get(path)
        if size is None or size > MAX_BYTES:
            return None
        return git(self._root, "cat-file", "blob", f"{self._base}{path}")

    def names(self, folder: str) -> list[str]:
        """Return every regular file below `folder`."""
        return sorted(path for path in self._tree() if path.startswith(f"{folder}/"))

    def odd(self) -> list[tuple[str, str]]:
        """See Files."""
        self._tree()
        return self._odd

    def lay_out(self, folder: Path) -> None:
        """Write every regular file below `folder`, without git's filters, hooks, links or
        attributes.

        Raises EvidenceError for a path that would not stay below it.
        """
        for path in self._tree():
            check_path(path)
        names = list(self._tree())
        asked = "".join(f"{self._base}{path}\n" for path in names).encode()
        command = ["git", "cat-file", "--batch"]
        with subprocess.Popen(
            command, cwd=self._root, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            # Request all objects from another thread while reading, or both sides would wait.
            feeder = threading.Thread(target=_feed, args=(process, asked))
            feeder.start()
            for path in names:
                if process.stdout is None:
                    raise ToolError("git cat-file has no output")
                facts = process.stdout.readline().split()
                if len(facts) != 3 or facts[1] != b"blob":
                    raise ToolError(f"git cat-file has no {path!a}")
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                _copy(process.stdout, target, int(facts[2]))
            feeder.join()

    def _tree(self) -> dict[str, int]:
        if self._sizes is None:
            listed = self._listed()
            if listed.count(b"\0") > _MAX_NAMES:
                # Not truncated: the files that come last by name would appear as removed.
                raise ToolError(
                    f"{self.name} has more than {_MAX_NAMES:,} files",
                    hint=f"git ls-tree -r --name-only {self._commit[:10]} | cut -d/ -f1 | uniq -c",
                )
            self._sizes = {}
            modes: list[tuple[bytes, str]] = []
            for entry in listed.split(b"\0"):
                facts, tab, name = entry.partition(b"\t")
                mode, kind, _, size = facts.split() if tab else (b"", b"", b"", b"")
                path = name.decode("utf-8", "backslashreplace")
                if tab:
                    modes.append((mode, path))
                # Not links (120000) and not submodules.
                if kind == b"blob" and mode in (b"100644", b"100755"):
                    self._sizes[path] = int(size)
            self._odd = list(plain_files.in_tree(modes))
        return self._sizes

    def _listed(self) -> bytes:
        tree = self._base.removesuffix("/") if self._base.endswith("/") else self._commit
        known = subprocess.run(["git", "cat-file", "-e", tree], cwd=self._root, capture_output=True)
        if known.returncode != 0 and tree != self._commit:
            # That revision had no such folder yet.
            return b""
        return git(self._root, "ls-tree", "-r", "-l", "-z", "--full-tree", tree)


def _feed(process: "subprocess.Popen[bytes]", asked: bytes) -> None:
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError), process.stdin as stream:
            stream.write(asked)


def _copy(source: IO[bytes], target: Path, size: int) -> None:
    with target.open("xb") as file:
        left = size
        while left and (block := source.read(min(left, 1 << 20))):
            file.write(block)
            left -= len(block)
    if left or not source.read(1):
        raise ToolError(f"git cat-file ended in the middle of {target.name!a}")


def resolve(root: Path, revision: str) -> str:
    """Return the commit that `revision` names. Raises ConfigError."""
    command = [
        "git",
        "rev-parse",
        "--verify",
        "--quiet",
        "--end-of-options",
        f"{revision}^{{commit}}",
    ]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    commit = done.stdout.strip()
    if done.returncode != 0 or not commit:
        shallow = is_shallow(root)
        more = ": this clone is shallow and lacks older commits" if shallow else ""
        raise ConfigError(
            f"git does not know revision {revision!a}{more}{_reason(done.stderr)}",
            hint="git fetch --unshallow" if shallow else "git branch --all",
        )
    return commit


def _reason(stderr: str) -> str:
    """git's own reason, because git may refuse the repository itself."""
    return f"\n{stderr.strip()[:500]}" if stderr.strip() else ""


def git(root: Path, *arguments: str) -> bytes:
    """Return the output of a git command. Raises ToolError."""
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True)
    if done.returncode != 0:
        raise refused(root, arguments[0], done.stderr)
    return done.stdout
