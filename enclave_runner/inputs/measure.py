"""Hash every input in the machine, and compare it with the lockfile.

The comparison uses the bytes that were read here. After training, the stat keys of every file and
folder are compared with those from before the reading, so that a run is not certified if anything
was written, added or removed meanwhile. The trainer's user must be able to read everything that was
read here.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from aicert.errors import ConfigError, EvidenceError, LockError
from aicert.files.tree import read_file, read_tree
from aicert.formats.digest import Digest, FileFact, of_bytes
from aicert.formats.listing import dir_digest
from aicert.formats.lockfile import CONFIG_INPUT, LockedInput, Lockfile
from aicert.model_signature.signed_by import SIGNATURE
from aicert.model_signature.signed_by import check as check_signature

# The config is one document that people review; Axolotl's own examples have about 3 kB.
LARGEST_CONFIG = 1 << 20
OnBytes = Callable[[int], None]
StatKey = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredInput:
    """One input as it was read.

    `files`: `{path: fact}`, or `{"": fact}` if the input is one file. `stat_keys`: those of the
    files and of every folder (`FOLDER/`, `""` for the input itself). `uri`: the lockfile's name for
    its source.
    """

    name: str
    path: Path
    digest: Digest
    files: Mapping[str, FileFact]
    stat_keys: Mapping[str, StatKey]
    uri: str = ""

    @property
    def is_file(self) -> bool:
        """Whether the input is one file."""
        return self.digest.kind == "sha256"


def measure(
    lockfile: Lockfile, paths: Mapping[str, Path], on_bytes: OnBytes
) -> list[MeasuredInput]:
    """Hash each input of the lockfile, in order. LockError if one differs from the lockfile."""
    stray = sorted(set(paths) - {item.name for item in lockfile.inputs})
    if stray:
        raise LockError(
            f"the machine was given inputs that the lockfile does not list: {', '.join(stray)}"
        )
    return [_measure_one(item, paths.get(item.name), on_bytes) for item in lockfile.inputs]


def config_bytes(item: MeasuredInput, most: int, what: str = "the config") -> bytes:
    """Read the bytes of an input that is a config of at most `most` bytes. Raises ConfigError."""
    with item.path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ConfigError(f"{what} is larger than {most} bytes")
    # The bytes to be parsed must be the ones that were hashed: somebody may have written to the
    # path in between.
    if of_bytes(data) != item.digest:
        raise ConfigError(f"{what} changed while it was read")
    return data


def config_of(measured: Iterable[MeasuredInput]) -> bytes:
    """Read the bytes of the run's config. Raises ConfigError."""
    item = next(item for item in measured if item.name == CONFIG_INPUT)
    return config_bytes(item, LARGEST_CONFIG)


def folders(inputs: Iterable[MeasuredInput]) -> dict[str, bool]:
    """Return, for each input, whether it is a folder."""
    return {item.name: not item.is_file for item in inputs}


def file_sizes(inputs: Mapping[str, MeasuredInput]) -> dict[str, int | None]:
    """Return the size in bytes of each input that is one file; None for directories."""
    return {name: item.files[""].size if item.is_file else None for name, item in inputs.items()}


def check_unchanged(inputs: list[MeasuredInput]) -> None:
    """Raise EvidenceError if a file or folder changed since it was hashed.

    Device, inode, size and times are compared. Adding or removing an entry changes a folder's
    times.
    """
    for item in inputs:
        for path, key in item.stat_keys.items():
            if _stat_key(item.path / path) != key:
                raise EvidenceError(
                    f"input {item.name}: {path or item.path.name!a} changed while the run was "
                    "reading it",
                    hint="run it again while nothing writes to the inputs",
                )


def check_readable(inputs: list[MeasuredInput], user: int | None) -> None:
    """Raise EvidenceError unless `user`, which trains, can open every file and folder.

    `user`: None if the runner is not root. Whoever makes a volume chooses its permissions, owners
    and access lists, which no digest covers; and a loader treats an optional file that it may not
    open as missing.
    """
    if user is None:
        return
    with _as_user(user):
        for item in inputs:
            for path in item.stat_keys:
                try:
                    os.close(os.open(item.path / path, os.O_RDONLY | os.O_CLOEXEC))
                except OSError as error:
                    raise EvidenceError(
                        f"input {item.name}: the trainer cannot read "
                        f"{path or item.path.name!a}: {error.strerror}",
                        hint="make an input volume whose files every user can read",
                    ) from None


@contextmanager
def _as_user(user: int) -> Iterator[None]:
    """Give this process the rights of `user`, without the runner's groups, inside the context."""
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(user)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(os.getuid())
        os.setegid(os.getgid())
        os.setgroups(groups)


def check_signer(item: LockedInput, measured: MeasuredInput) -> None:
    """Refuse an input that is not signed by the lockfile's `signed-by`, if it has one."""
    if item.signed_by is None:
        return
    files = {path: fact.sha256 for path, fact in measured.files.items()}
    try:
        check_signature(item.signed_by, files, measured.path / SIGNATURE)
    except EvidenceError as error:
        raise LockError(f"input {item.name}: {error.message}", hint=error.hint) from None


def unchanged_weights(inputs: list[MeasuredInput], output: Mapping[str, FileFact]) -> list[str]:
    """Return the weight files of an output that have the same bytes as some input file."""
    known = {fact.sha256 for item in inputs for fact in item.files.values()}
    return [p for p, fact in output.items() if p.endswith(".safetensors") and fact.sha256 in known]


def _measure_one(item: LockedInput, path: Path | None, on_bytes: OnBytes) -> MeasuredInput:
    if path is None:
        raise LockError(f"input {item.name} was not given to the machine")
    keys = {"": _stat_key(path)}
    if item.digest.kind == "sha256":
        files = {"": read_file(path, on_bytes=on_bytes)}
        digest = Digest("sha256", files[""].sha256)
    else:
        for folder in _folders(path):
            keys[f"{folder}/"] = _stat_key(path / folder)

        def learned(inside: str, status: os.stat_result, _: str) -> None:
            keys[inside] = _key(status)

        files = read_tree(path, on_bytes=on_bytes, learned=learned)
        digest = dir_digest(files)
    size = sum(fact.size for fact in files.values())
    if digest != item.digest or size != item.size:
        raise LockError(
            f"input {item.name} is not what the lockfile says"
            f"\n  locked  {item.size} bytes  {item.digest}\n  found   {size} bytes  {digest}",
            hint="./doit lock, then review the difference",
        )
    return MeasuredInput(
        name=item.name, path=path, digest=digest, files=files, stat_keys=keys, uri=item.uri
    )


def _folders(root: Path) -> Iterator[str]:
    """Yield the path of every folder below `root`, without recursion, however deep they are."""
    waiting = [""]
    while waiting:
        above = waiting.pop()
        try:
            with os.scandir(root / above) as entries:
                names = [e.name for e in entries if e.is_dir(follow_symlinks=False)]
        except OSError as error:
            raise EvidenceError(f"cannot read {above or '.'!a}: {error.strerror}") from None
        below = [f"{above}/{name}" if above else name for name in names]
        yield from below
        waiting += below


def _stat_key(path: Path) -> StatKey:
    try:
        status = os.stat(path, follow_symlinks=False)
    except OSError as error:
        raise EvidenceError(f"an input disappeared: {path.name!a}: {error.strerror}") from None
    return _key(status)


def _key(status: os.stat_result) -> StatKey:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
