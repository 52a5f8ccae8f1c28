"""`git+https:`: a file or a directory of a git repository at a commit, through the program `git`.

One commit is fetched without history into a temporary repository. Nothing is checked out, so that
no path, hook, filter or attribute of a stranger's repository takes effect here. Credentials come
from git's own helpers; git never asks the user for any. Submodules and links among the chosen files
are refused by name, since their bytes are not in the repository. A git LFS pointer stands for its
file (aicert.sources.lfs).
"""

import base64
import contextlib
import errno
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from aicert.errors import LockError, ToolError
from aicert.formats.digest import FileFact
from aicert.sources import lfs
from aicert.sources.choice import Choice, choose, refuse_pickles
from aicert.sources.forms import GitSource, is_commit
from aicert.sources.remote import FILE, ResolvedSource
from aicert.sources.store import room
from aicert.sources.transfer import Transfer
from aicert.sources.web import netrc_login

_LOGIN = re.compile(r"//[^/@\s]+@")
_NO_LOGIN = ("could not read Username", "Authentication failed", "error: 401", "error: 403")
# Interval at which the progress of a fetch is read.
LOOK_EVERY_S = 0.5
_KINDS = {"120000": "a symbolic link", "160000": "a submodule"}
# Allow https only, even after a redirect or the user's url.*.insteadOf; never ask questions.
_OPTIONS = (
    "-c", "protocol.allow=never", "-c", "protocol.https.allow=always", "-c", "gc.auto=0",
    "-c", "core.hooksPath=/dev/null", "-c", "core.askPass=true",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    mode: str
    oid: str


def resolve(source: GitSource, choice: Choice, transfer: Transfer) -> ResolvedSource:
    """Return the commit that the revision names, with the hashed files of the choice."""
    with _repository(transfer) as repository:
        commit = _commit(repository, source)
        _fetch(repository, source, commit, transfer)
        entries = _entries(repository, source, commit)
        if FILE in entries:
            if not choice.is_everything:
                raise LockError(
                    "`only` and `except` choose files in a directory, but this is a single file"
                )
            if not choice.allow_pickle:
                refuse_pickles([source.subdir])
            chosen = [FILE]
        else:
            chosen = choose(entries, choice)
        wanted = {path: entries[path] for path in chosen}
        return ResolvedSource(uri=source.at(commit), files=_take(repository, wanted, transfer))


def fetch(source: GitSource, wanted: Mapping[str, str], transfer: Transfer) -> None:
    """Put the files `{path: sha256}` of the pinned commit into the store."""
    with _repository(transfer) as repository:
        _fetch(repository, source, source.revision, transfer)
        entries = _entries(repository, source, source.revision)
        for path in wanted:
            if path not in entries:
                raise LockError(f"{path or source.subdir!a} is not in the locked commit")
        facts = _take(repository, {path: entries[path] for path in wanted}, transfer)
        for path, sha256 in wanted.items():
            if facts[path].sha256 != sha256:
                raise LockError(
                    f"the repository has different bytes for {path or source.subdir!a}"
                    f"\n  wanted  sha256:{sha256}\n  found   sha256:{facts[path].sha256}"
                )
        elsewhere = {p: fact for p, fact in facts.items() if not transfer.store.has(fact.sha256)}
        if elsewhere:
            lfs.fetch(source.url, elsewhere, transfer, lambda: _login(repository, source.url))


@contextmanager
def _repository(transfer: Transfer) -> Iterator[Path]:
    with transfer.store.scratch() as folder, room(transfer.store.root):
        repository = folder / "git"
        repository.mkdir()
        _git(repository, "init", "--quiet", "--bare", ".")
        yield repository


def _commit(repository: Path, source: GitSource) -> str:
    if is_commit(source.revision):
        return source.revision
    names = {f"refs/heads/{source.revision}", f"refs/tags/{source.revision}", source.revision}
    lines = _git(
        repository, "ls-remote", "--quiet", "--", source.url, source.revision,
        f"{source.revision}^{{}}",
    ).splitlines()  # fmt: skip
    commits: dict[str, str] = {}
    for line in lines:
        oid, _, ref = line.partition("\t")
        name = ref.removesuffix("^{}")
        # The line for an annotated tag's commit (`^{}`) follows the line for the tag itself.
        if name in names and is_commit(oid):
            commits[name] = oid
    if not commits:
        raise LockError(
            f"there is no branch or tag {source.revision!a}: misspelt or deleted",
            hint=f"git ls-remote {source.url}; a commit needs all its digits",
        )
    if len(set(commits.values())) > 1:
        raise LockError(
            f"{source.revision!a} is ambiguous, it names: {', '.join(sorted(commits))}",
            hint="name the commit itself",
        )
    return next(iter(commits.values()))


def _fetch(repository: Path, source: GitSource, commit: str, transfer: Transfer) -> None:
    shown = 0

    def show() -> None:
        nonlocal shown
        # While it is received, a pack has a temporary name; it gets its final name at the end.
        with contextlib.suppress(FileNotFoundError):
            received = sum(path.stat().st_size for path in repository.glob("objects/pack/*"))
            transfer.on_bytes(received - shown)
            shown = received

    _git(
        repository, "fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules",
        "--no-write-fetch-head", "--", source.url, commit, while_it_runs=show,
    )  # fmt: skip
    # In the end only the files count, and they are now taken out of the pack.
    transfer.on_bytes(-shown)


def _entries(repository: Path, source: GitSource, commit: str) -> dict[str, _Entry]:
    """Return the source's files by path, or by FILE if the source is one file."""
    tree = f"{commit}:{source.subdir}"
    if source.subdir:
        line = _git(repository, "ls-tree", "-z", commit, "--", source.subdir).rstrip("\0")
        if not line:
            raise LockError(f"the commit has no {source.subdir!a}")
        mode, _, oid = line.partition("\t")[0].split(" ")
        if mode != "040000":
            return {FILE: _Entry(mode=mode, oid=oid)}
    entries: dict[str, _Entry] = {}
    for line in _git(repository, "ls-tree", "-r", "-z", "--full-tree", tree).split("\0")[:-1]:
        facts, _, path = line.partition("\t")
        mode, _, oid = facts.split(" ")
        entries[path] = _Entry(mode=mode, oid=oid)
    return entries


def _take(
    repository: Path, entries: Mapping[str, _Entry], transfer: Transfer
) -> dict[str, FileFact]:
    """Copy blobs into the store, and hash them on the way."""
    for path, entry in entries.items():
        if entry.mode in _KINDS:
            raise LockError(
                f"{path!a} is {_KINDS[entry.mode]}: only regular files can be certified",
                hint="leave it out with `except`",
            )
    command = ["git", *_OPTIONS, "cat-file", "--batch"]
    with subprocess.Popen(
        command, cwd=repository, env=_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        stdin, stdout = cast(BinaryIO, process.stdin), cast(BinaryIO, process.stdout)
        facts: dict[str, FileFact] = {}
        for path, entry in entries.items():
            stdin.write(f"{entry.oid}\n".encode())
            stdin.flush()
            answer = stdout.readline().split()
            if len(answer) != 3 or answer[1] != b"blob":
                raise ToolError(f"git did not return {path!a}")
            facts[path] = _file_of(
                transfer, path, transfer.store.add(stdout, path, int(answer[2]), repository)
            )
            stdout.read(1)
        stdin.close()
    return facts


def _file_of(transfer: Transfer, path: str, blob: FileFact) -> FileFact:
    """Return the file that a blob is, or that it points to as a git LFS pointer."""
    if blob.size < lfs.MAX_POINTER:
        file = lfs.pointed(path, transfer.store.file(blob.sha256).read_bytes())
        if file is not None:
            transfer.store.remove(blob.sha256)
            return file
    transfer.on_bytes(blob.size)
    return blob


def _login(repository: Path, url: str) -> dict[str, str]:
    """Return an Authorization header from git's credential helpers or ~/.netrc; empty if neither
    knows.
    """
    done = subprocess.run(
        ["git", *_OPTIONS, "credential", "fill"],
        cwd=repository,
        env=_environment(),
        input=f"url={url}\n\n".encode(),
        capture_output=True,
    )
    answer = dict(line.partition(b"=")[::2] for line in done.stdout.splitlines())
    if done.returncode or not answer.get(b"password"):
        return netrc_login(url)
    pair = answer.get(b"username", b"") + b":" + answer[b"password"]
    return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}


def _environment() -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("GIT_DIR")}
    for name in ("GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"):
        inherited.pop(name, None)
    return inherited | {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C.UTF-8"}


def _git(
    repository: Path, *arguments: str, while_it_runs: Callable[[], None] = lambda: None
) -> str:
    try:
        process = subprocess.Popen(
            ["git", *_OPTIONS, *arguments],
            cwd=repository,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    except FileNotFoundError:
        raise ToolError("git is not installed", hint="apt-get install git") from None
    with process:
        try:
            out, err = _outputs(process, while_it_runs)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        text = err.decode("utf-8", "replace")
        if os.strerror(errno.ENOSPC) in text:
            raise OSError(errno.ENOSPC, text)
        raise _failed(text)
    try:
        return out.decode("utf-8")
    except UnicodeDecodeError:
        raise LockError("the repository has a path that is not UTF-8") from None


def _outputs(
    process: "subprocess.Popen[bytes]", while_it_runs: Callable[[], None]
) -> tuple[bytes, bytes]:
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=LOOK_EVERY_S)
        while_it_runs()


def _failed(text: str) -> LockError | ToolError:
    # The address that git prints may contain a token from a user's url.*.insteadOf.
    text = _LOGIN.sub("//", text)
    lines = [line for line in text.strip().splitlines() if line.strip()]
    reason = "; ".join(line[:300] for line in lines[-2:]) or "no details"
    if "not our ref" in text or "unadvertised object" in text:
        return LockError("the commit does not exist (any more)", hint="choose another revision")
    if any(words in text for words in _NO_LOGIN):
        return LockError(
            "the repository does not exist or needs a login",
            hint="check the address; for a private one set up git's credential helper",
        )
    if "not found" in text:
        return LockError("there is no such repository", hint="check the address in aicert.toml")
    return ToolError(f"git: {reason}", hint="check the network, then run it again")
