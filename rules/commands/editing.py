"""Edit `aicert.toml` for the user, keeping comments, order and style of everything else.

The result is parsed again by the usual reader of `aicert.toml` before it is written. If the run
then cannot be locked, both files are restored.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.items import SingleKey, Table

from aicert.cli import terminal
from aicert.errors import ConfigError
from aicert.formats.lockfile import CONFIG_INPUT
from rules.host.names import UnknownNameError, nearest
from rules.host.places import documentation
from rules.host.work import write_whole
from rules.project import config, config_check, lock, locked, relock
from rules.project.config import FILE, Run
from rules.review import review, text
from rules.review.revisions import Checkout


def show(comparison: review.Review) -> int:
    """Write a review to standard output, and return its exit code: 0."""
    terminal.write(text.text(comparison))
    return 0


class Before:
    """The project's files, but with the lockfiles as they were at construction."""

    def __init__(self, root: Path) -> None:
        self.name = "before"
        self._checkout = Checkout(root)
        names = self._checkout.names(locked.DIRECTORY)
        self._texts = {name: self._checkout.read(name) for name in names}

    def read(self, path: str) -> bytes | None:
        """Return the bytes of a file."""
        if path.startswith(f"{locked.DIRECTORY}/"):
            return self._texts.get(path)
        return self._checkout.read(path)

    def names(self, folder: str) -> list[str]:
        """Return the files below a folder."""
        if folder.startswith(locked.DIRECTORY):
            return sorted(name for name in self._texts if name.startswith(f"{folder}/"))
        return self._checkout.names(folder)

    def odd(self) -> list[tuple[str, str]]:
        """Odd files of the earlier state are not checked."""
        return []


def with_input(data: bytes, run: str, name: str, source: str, *, allow_pickle: bool) -> bytes:
    """Return `aicert.toml` with that input added to the run, or with its source changed. Raises
    ConfigError.

    New lines get the line ending of the others.
    """
    changed = _with_input(data, run, name, source, allow_pickle=allow_pickle)
    if data.count(b"\r\n") and data.count(b"\n") == data.count(b"\r\n"):
        return changed.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return changed


def _with_input(data: bytes, run: str, name: str, source: str, *, allow_pickle: bool) -> bytes:
    document = tomlkit.parse(data.decode("utf-8"))
    runs: Any = document.get("runs")
    if not isinstance(runs, Mapping) or run not in runs:
        return _with_run(document, run, name, source)
    table: Any = runs[run]
    if name == CONFIG_INPUT:
        table[CONFIG_INPUT] = source
        return tomlkit.dumps(document).encode("utf-8")
    if "inputs" not in table:
        table["inputs"] = tomlkit.table()
    inputs: Any = table["inputs"]
    old = inputs.get(name)
    value: Any = source
    if allow_pickle:
        value = tomlkit.inline_table()
        value.update({"from": source, "allow-pickle": True})
    if isinstance(old, dict) and not allow_pickle:
        old["from"] = source
    elif old is None and isinstance(inputs, Table):
        _append(inputs, name, value)
    else:
        inputs[name] = value
    return tomlkit.dumps(document).encode("utf-8")


def _append(table: Table, name: str, value: Any) -> None:
    """Add a key after the last one, with its `=` aligned.

    tomlkit counts whatever follows the last key as part of this table, for example a comment on the
    next table.
    """
    body = table.value.body
    keys = [key for key, _ in body if key is not None]
    end = max((at + 1 for at, (key, _) in enumerate(body) if key is not None), default=len(body))
    after = body[end:]
    del body[end:]
    columns = {len(key.as_string()) + len(key.sep.partition("=")[0]) for key in keys}
    column = columns.pop() if len(columns) == 1 else 0
    table.append(SingleKey(name, sep=f"{' ' * max(1, column - len(name))}= "), value)
    body += after


def _with_run(document: Any, run: str, name: str, source: str) -> bytes:
    """Start a new run with its config, on the first machine in the file."""
    machines = list(document.get("machines", {}))
    if name != CONFIG_INPUT:
        if nearest(run, document.get("runs", {})):
            raise UnknownNameError(FILE, "run", run, document["runs"])
        raise ConfigError(
            f"{FILE} has no run {run!r}", hint=f"./doit add {run} config path:examples/{run}.yml"
        )
    if not machines:
        raise ConfigError(
            f"{FILE} defines no machine",
            hint=f"{documentation('docs/spec/aicert-toml.md')} shows how",
        )
    table = tomlkit.table()
    table["config"] = source
    table["machine"] = machines[0]
    table["outputs"] = ["model"]
    inputs = tomlkit.table()
    inputs.add(tomlkit.nl())
    table["inputs"] = inputs
    if "runs" not in document:
        document["runs"] = tomlkit.table(is_super_table=True)
    document["runs"][run] = table
    return tomlkit.dumps(document).encode("utf-8")


def add(root: Path, run: str, name: str, source: str, *, allow_pickle: bool) -> review.Review:
    """Add or change an input and lock the run. Returns what changed."""
    old = config.read(root)
    # The first run also starts with its config.
    config.parse(root, old, may_be_empty=name == CONFIG_INPUT)
    new = with_input(old, run, name, source, allow_pickle=allow_pickle)
    project = config.parse(root, new)

    def write() -> None:
        write_whole(root / FILE, new)
        changed = project.run(run)
        # Only new inputs are resolved at their source; other pins stay.
        fresh = lock.resolve(root, changed, keep=lock.pinned(root, changed))
        # Not as `lock` checks it: another input, or a config that fits this one, may follow.
        config_check.check_alone(root, fresh, gpu=changed.machine.gpu)
        lock.write(root, fresh)

    try:
        return _reviewed(root, write)
    except BaseException:
        # This also restores the files on Ctrl-C.
        write_whole(root / FILE, old)
        raise


def update(root: Path, runs: list[Run], name: str | None) -> review.Review:
    """Resolve inputs again and write the lockfiles. Returns what changed.

    A config that no run could use is refused, as when locking, before that run's lockfile is
    written.
    """
    for run in runs:
        names = [item.name for item in run.inputs]
        if name is not None and name not in names:
            raise UnknownNameError(f"run {run.name}", "input", name, names)

    def write() -> None:
        for run in runs:
            pinned = lock.pinned(root, run) if name is not None else {}
            keep = {other: item for other, item in pinned.items() if other != name}
            lock.write(root, relock.checked(root, run, keep))

    return _reviewed(root, write)


def _reviewed(root: Path, write: Callable[[], None]) -> review.Review:
    before = Before(root)
    write()
    return review.review(root, before, Checkout(root))
