"""Compare what a lockfile names with its source, for `./doit lock --check` and `aicert sources`.

If the source gives digests, only metadata is compared; small files and git commits are fetched and
hashed. A mismatch is not the same as a source that could not be asked: only a mismatch says
anything about the lockfile.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from aicert.errors import AicertError, ConfigError, LockError, ToolError
from aicert.formats.digest import FileFact
from aicert.formats.lockfile import LockedInput, Lockfile
from aicert.sources.choice import Choice
from aicert.sources.forms import Remote, WebSource, parse
from aicert.sources.remote import ResolvedSource, choice_of, resolve, scheme_of
from aicert.sources.store import Store
from aicert.sources.transfer import Transfer

Verdict = Literal["ok", "failed", "not-checked", "not-applicable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One input's verdict; `detail` says what was compared or what differs."""

    name: str
    verdict: Verdict
    detail: str
    hint: str | None = None


@dataclass(slots=True, kw_only=True)
class Asker:
    """Asks each source once, however many inputs name it.

    `pinned`: ask the pinned uri, and not whatever `from` leads to by now.
    """

    transfer: Transfer
    pinned: bool
    _found: dict[tuple[str, Choice], ResolvedSource] = field(default_factory=dict)

    def compare(self, item: LockedInput) -> Comparison:
        """Compare one input with its source."""
        try:
            source, pinned = parse(item.source), parse(item.uri)
            if not isinstance(source, Remote) or not isinstance(pinned, Remote):
                detail = f"{item.uri} is in the builder's repository"
                if item.uri != item.source:
                    raise LockError(f"uri is {item.uri}, but from is {item.source}")
                return Comparison(name=item.name, verdict="not-applicable", detail=detail)
            if source.place != pinned.place:
                raise LockError(f"uri is {item.uri}, which does not belong to {item.source}")
            detail = self._compare(item, pinned if self.pinned else source)
        except ToolError as error:
            return Comparison(
                name=item.name, verdict="not-checked", detail=error.message, hint=error.hint
            )
        except (LockError, ConfigError) as error:
            return Comparison(
                name=item.name, verdict="failed", detail=error.message, hint=error.hint
            )
        return Comparison(name=item.name, verdict="ok", detail=f"{item.uri}: {detail}")

    def _compare(self, item: LockedInput, source: Remote) -> str:
        if isinstance(source, WebSource):
            if item.digest.kind != "sha256":
                raise LockError(f"{item.uri} is one file, but a directory is locked")
            try:
                scheme_of(source)
                from aicert.sources import web

                return web.compare(source, FileFact(item.size, item.digest.hex), self.transfer)
            except AicertError as error:
                raise type(error)(f"{item.uri}: {error.message}", hint=error.hint) from None
        text = item.uri if self.pinned else item.source
        key = (text, choice_of(item))
        if key not in self._found:
            self._found[key] = resolve(text, key[1], self.transfer)
        offered = self._found[key]
        if offered.uri != item.uri:
            raise LockError(
                f"{item.source} has moved\n  locked  {item.uri}\n  found   {offered.uri}",
                hint=f"./doit update, or name the commit in aicert.toml (input {item.name})",
            )
        if (offered.size, offered.digest) != (item.size, item.digest):
            raise LockError(
                f"{item.uri} has different bytes\n  locked  {item.size} bytes  {item.digest}"
                f"\n  found   {offered.size} bytes  {offered.digest}"
            )
        count = len(offered.files)
        return f"SHA-256 of {count} {'file' if count == 1 else 'files'}"


def compare_all(lockfile: Lockfile) -> list[Comparison]:
    """Compare every input of a lockfile with its pinned source; keep nothing of what is read."""
    # A thread that still waits for a silent server may yet write to this folder.
    with TemporaryDirectory(prefix="aicert-sources-", ignore_cleanup_errors=True) as folder:
        with Transfer(Store(Path(folder))) as transfer:
            asker = Asker(transfer=transfer, pinned=True)
            return [asker.compare(item) for item in lockfile.inputs]


def exit_code(comparisons: Iterable[Comparison]) -> int:
    """Return 1 if a source differs, else 2 if one could not be asked, else 0."""
    verdicts = {item.verdict for item in comparisons}
    return 1 if "failed" in verdicts else 2 if "not-checked" in verdicts else 0
