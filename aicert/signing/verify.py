"""Verify a model signature against a model on disk: four checks, each with a verdict.

The checks are `signer.trusted`, `signature.valid`, `manifest.form` and `files.match`, in this
order; a check whose prerequisite failed is not made. Every covered byte is read now, whatever a
cache may know. A file that the signature does not cover fails, unless the signer named it as left
out, it is on the closed list of what hubs and this program put beside a model, or the verifier
asked to ignore it. Such files are printed each time.
"""

import os
import shlex
import stat
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Literal, NoReturn, TypeVar

from aicert.errors import ConfigError, EvidenceError
from aicert.files.bounded import StrPath, read_bounded
from aicert.files.harmless import blob_of
from aicert.formats.paths import UnclearNameError, check_path
from aicert.formats.uncovered_names import FOLDERS, ignored_paths
from aicert.frozen import dataclass
from aicert.model_signature import reader as bundles
from aicert.model_signature.reader import Bundle, Manifest
from aicert.signing import hashing
from aicert.signing.hashing import OnBytes
from aicert.signing.keys import Trusted, trust_key
from aicert.signing.sign import default_signature, located
from aicert.text import MAX_LINES, counted, error_lines, safe

Verdict = Literal["ok", "failed", "not-checked"]
CHECKS = ("signer.trusted", "signature.valid", "manifest.form", "files.match")
T = TypeVar("T")
Keyless = Callable[[bytes], Trusted]
SHOWN = 8
# The start of the reader's note on links, which holds for a verifier that follows no links.
_FOLLOWED = "the signer followed symbolic links"
# A data set's README.md says what is loaded as which rows, even from the network, so it must always
# be signed.
MAY_BE_UNSIGNED = frozenset(ignored_paths()) - {"README.md"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignoring:
    """What the verifier chose to ignore.

    `paths`: everything at or below them, signed or not. `unsigned`: files that nobody signed may be
    there.
    """

    paths: tuple[str, ...] = ()
    unsigned: bool = False

    def covers(self, path: str) -> bool:
        """Return whether `path` is one to ignore."""
        return any(f"{path}/".startswith(f"{each}/") for each in self.paths)


NOTHING = Ignoring()


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureCheck:
    """One check and its verdict; `hint` is a command that helps, if there is one."""

    id: str
    verdict: Verdict
    detail: str
    hint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureResult:
    """The result of verifying a signature.

    `covered` is (files verified, files signed); `notes` are for people. `ignoring` is what the
    verifier asked to ignore, and `unsigned` lists the files that passed although nobody signed
    them.
    """

    checks: tuple[SignatureCheck, ...]
    subject: str
    covered: tuple[int, int]
    notes: tuple[str, ...]
    ignoring: Ignoring
    unsigned: tuple[str, ...]

    @property
    def verdict(self) -> Literal["passed", "failed"]:
        """`passed` if every check is ok."""
        return "passed" if all(check.verdict == "ok" for check in self.checks) else "failed"

    @property
    def exit_code(self) -> int:
        """0 if the verdict is passed, 1 if the signature or the files say no."""
        return 0 if self.verdict == "passed" else 1

    def __bool__(self) -> NoReturn:
        raise TypeError("a SignatureResult is neither true nor false: compare its verdict")


def verify(
    target: StrPath,
    *,
    at: datetime,
    key: StrPath | None = None,
    roots: Sequence[StrPath] = (),
    keyless: Keyless | None = None,
    signature: StrPath | None = None,
    only: Sequence[str] = (),
    ignoring: Ignoring = NOTHING,
    links: bool = False,
    on_bytes: OnBytes | None = None,
) -> SignatureResult:
    """Verify `target` (a directory or a file) against its signature file.

    Args:
        target: the model or data directory, or one file.
        at: the time at which certificates are judged.
        key: PEM of the public key that you trust, or
        roots: PEM files of the certificates that you trust to certify signers, or
        keyless: from a signature file's bytes to whom you trust (aicert.signing.sigstore_signer).
        signature: the signature file; by default as `aicert sign` places it.
        only: relative paths to verify, instead of all: other files are then not looked at.
        ignoring: what may be there unsigned or changed all the same.
        links: those to files of the same directory may be there in place of files.
        on_bytes: called with the number of bytes read, for progress.

    Raises:
        EvidenceError: no or no readable signature, or files that cannot be read.
        ConfigError: the key, a root or a path in `only` is wrong.
    """
    root = located(target)
    _check_options((key is not None, bool(roots), keyless is not None), only)
    ignoring = _checked(ignoring, only)
    place = default_signature(root) if signature is None else Path(signature)
    data = _read(place, root, is_named=signature is not None)
    read = bundles.parse(data)

    def trust() -> tuple[str, Trusted]:
        if keyless is not None:
            return _why(keyless(data))
        return _why(_trust_chain(read, roots, at) if key is None else trust_key(read, key))

    steps = _Steps()
    signer = steps.take("signer.trusted", trust)
    valid = steps.take("signature.valid", lambda: _valid(read, signer))
    manifest = steps.take("manifest.form", lambda: _manifest(read, valid, root))
    unsigned: list[str] = []
    if only:
        match = partial(_match_some, root, manifest, only, links, on_bytes)
    else:
        match = partial(
            _match_all, root, manifest, place, ignoring, links, steps.notes, unsigned, on_bytes
        )
    verified = steps.take("files.match", match, no=_MismatchError)
    return SignatureResult(
        checks=tuple(steps.results),
        subject=root.name,
        covered=(verified or 0, 0 if manifest is None else len(manifest.files)),
        notes=tuple(steps.notes),
        ignoring=ignoring,
        unsigned=tuple(unsigned),
    )


def _check_options(trusted: tuple[bool, ...], only: Sequence[str]) -> None:
    if sum(trusted) != 1:
        raise ConfigError(
            "say whom you trust: by a public key, certificates or an identity",
            hint="--key PUB, --certificate-chain PEM, or --identity ID --issuer URL",
        )
    for path in only:
        try:
            if path != bundles.SINGLE:
                check_path(path)
        except EvidenceError as error:
            hint = f"--only {shlex.quote(os.path.normpath(path))}"
            raise ConfigError(f"--only: {error.message}", hint=hint) from None


def _checked(ignoring: Ignoring, only: Sequence[str]) -> Ignoring:
    """Return `ignoring`, after checking that each path of --ignore is a plain relative path."""
    if only and ignoring != NOTHING:
        raise ConfigError("--only looks at no other files, so there is nothing to ignore")
    paths = hashing.plain_paths(ignoring.paths, hint="paths are relative to the directory")
    return Ignoring(paths=tuple(paths), unsigned=ignoring.unsigned)


def _read(place: Path, root: Path, *, is_named: bool) -> bytes:
    """Read the signature file.

    A file in the directory may be anybody's: there no link is followed, and a FIFO, which would
    block for ever, is not opened.
    """
    if not os.path.lexists(root):
        raise EvidenceError(f"nothing to verify at {os.fspath(root)!a}")
    hint = None if os.path.lexists(place) else "--signature FILE"
    own = located(place)
    if hint is None and own.is_relative_to(root):
        # In a snapshot of the hub's cache, the signature is a link, as every file is.
        place = blob_of(root, own.relative_to(root).as_posix()) or place
    if hint is None and (own.is_relative_to(root) or not is_named):
        if not stat.S_ISREG(place.lstat().st_mode):
            raise EvidenceError(f"the signature {os.fspath(place)!a} is not a regular file")
    elif hint and root.is_file() and default_signature(root.parent).is_file():
        folder, name = shlex.quote(str(root.parent)), shlex.quote(root.name)
        hint = f"aicert verify-signature {folder} --only {name}, with your key"
    return read_bounded(place, bundles.MAX_BYTES, "signature", hint=hint)


def _trust_chain(read: Bundle, roots: Sequence[StrPath], at: datetime) -> Trusted:
    # Loading X.509 is a third of the start-up time: only for those who have certificates.
    from aicert.signing.x509_signers import trust_chain

    return trust_chain(read, roots, at)


class _MismatchError(EvidenceError):
    """The files were read and differ; any other EvidenceError means that they were not read."""


class _Steps:
    """Run checks and keep their results; after the first that is not ok, the rest are not made."""

    def __init__(self) -> None:
        self.results: list[SignatureCheck] = []
        self.notes: list[str] = []
        self._cause: str | None = None

    def take(
        self,
        check: str,
        work: Callable[[], tuple[str, T]],
        *,
        no: type[EvidenceError] = EvidenceError,
    ) -> T | None:
        """Run `work` as this check and return its value; None if it or an earlier check says no."""
        if self._cause is not None:
            self._put(check, "not-checked", f"not checked: {self._cause} failed")
            return None
        try:
            detail, value = work()
        except UnclearNameError:
            # The signer has other rules. That does not speak against the signer, but cannot be
            # judged here.
            raise
        except no as error:
            self._cause = check
            self._put(check, "failed", error.message, error.hint)
            return None
        self._put(check, "ok", detail)
        return value

    def _put(self, check: str, verdict: Verdict, detail: str, hint: str | None = None) -> None:
        self.results.append(SignatureCheck(id=check, verdict=verdict, detail=detail, hint=hint))


def _why(trust: Trusted) -> tuple[str, Trusted]:
    return trust.why, trust


def _valid(read: Bundle, signer: Trusted | None) -> tuple[str, bytes]:
    if signer is None:
        raise ValueError("a signature is verified with a trusted key")
    return signer.verify(read), read.payload


def _manifest(read: Bundle, payload: bytes | None, root: Path) -> tuple[str, Manifest]:
    if payload is not read.payload:
        raise ValueError("a manifest is read from what was verified")
    manifest = bundles.read_manifest(payload)
    if manifest.is_single == root.is_dir():
        kinds = ("a directory", "one file")
        raise EvidenceError(
            f"the signature is for {kinds[manifest.is_single]}, "
            f"but this is {kinds[not root.is_dir()]}"
        )
    named = f" as {manifest.name[:80]!a}" if manifest.name else ""
    parts = " in parts" if manifest.parts is not None else ""
    return (
        f"{counted(len(manifest.files), 'file')} by {manifest.algorithm}{parts}, signed{named}",
        manifest,
    )


def _match_some(
    root: Path,
    manifest: Manifest | None,
    only: Sequence[str],
    links: bool,
    on_bytes: OnBytes | None,
) -> tuple[str, int]:
    if manifest is None:
        raise ValueError("files are matched with a manifest")
    wanted = sorted(set(only))
    for path in wanted:
        if path not in manifest.files:
            raise _MismatchError(
                f"not signed: {path[:200]!a}", hint="--only wants paths relative to the directory"
            )
        if not os.path.lexists(root / path):
            raise _MismatchError(f"missing   {path}")
    same = hashing.compare(root, manifest, wanted, on_bytes, links=links)
    changed = [f"changed   {path}" for path in wanted if not same[path]]
    if changed:
        raise _MismatchError(_lines("these files are not the signed ones", changed))
    detail = f"{len(wanted)} of {len(manifest.files)} signed files, the rest was not looked at"
    return detail, len(wanted)


def _match_all(
    root: Path,
    manifest: Manifest | None,
    place: Path,
    ignoring: Ignoring,
    links: bool,
    notes: list[str],
    unsigned: list[str],
    on_bytes: OnBytes | None,
) -> tuple[str, int]:
    if manifest is None:
        raise ValueError("files are matched with a manifest")
    notes.extend(note for note in manifest.notes if not (links and note.startswith(_FOLLOWED)))
    own = located(place)
    left_out = _left_out(root, manifest, own)
    skipped = left_out | set(ignoring.paths)
    signed = {path for path in manifest.files if not ignoring.covers(path)}
    if not signed:
        raise ConfigError("--ignore leaves no signed file to verify")
    refused: dict[str, str] = {}

    def on_refusal(path: str, error: EvidenceError) -> None:
        refused[path] = f"refused   {path[:200]!a}: {error.message}"

    if manifest.algorithm == "sha256" and manifest.parts is None:
        facts = hashing.whole_files(root, skipped, on_bytes, on_refusal, links=links)
        sizes = {path: fact.size for path, fact in facts.items()}
        there = facts.keys() & signed
        same = {path: facts[path].sha256 == manifest.files[path] for path in there}
    else:
        sizes = hashing.names(root, skipped, on_refusal, links=links)
        there = sizes.keys() & signed
        same = hashing.compare(root, manifest, there, on_bytes, links=links)
    extra = sorted(path for path in sizes if path not in signed)
    if manifest.parts is not None:
        # The format names parts of files; an empty file has none.
        notes.extend(
            f"an empty file cannot be signed in parts: {path}" for path in extra if not sizes[path]
        )
        extra = [path for path in extra if sizes[path]]
    if ignoring.unsigned:
        unsigned.extend(extra)
        extra = []
    lines = [refused[path] for path in sorted(refused)]
    lines += [f"missing   {p}" for p in sorted(signed) if p not in sizes and p not in refused]
    lines += [f"changed   {path}" for path in sorted(same) if not same[path]]
    lines += [f"unsigned  {path}" for path in extra]
    if lines:
        linked = not links and any(hashing.inside(root, path) for path in refused)
        raise _MismatchError(
            _lines("the files are not the signed ones", lines),
            hint="--allow-symlinks" if linked else None,
        )
    if links:
        notes.extend(
            f"a link, read where it leads: {path}"
            for path in sorted(there)
            if (root / path).is_symlink()
        )
    if root.is_dir():
        here = [name for name in hashing.left_out(root, left_out) if root / name != own]
        notes.extend(f"present, not signed: {name}" for name in here)
    notes.extend(
        f"--ignore names {path}, but nothing is there"
        for path in ignoring.paths
        if not os.path.lexists(root / path)
    )
    total = sum(size for path, size in sizes.items() if path in signed)
    rest = "and no other" if not skipped - left_out and not unsigned else "others were ignored"
    return f"{counted(len(same), 'file')}, {total} bytes, {rest}", len(same)


def _left_out(root: Path, manifest: Manifest, own: Path) -> set[str]:
    """Return the paths that may be there unsigned: the signer's list, ours, and the signature."""
    left_out = set(manifest.ignored)
    if own != root and own.is_relative_to(root):
        left_out.add(own.relative_to(root).as_posix())
    covered = left_out.intersection(manifest.files)
    if covered:
        raise _MismatchError(f"both signed and left out: {min(covered)!a}")
    return left_out | {name for name in MAY_BE_UNSIGNED if _is_loose(root, name, manifest)}


def _is_loose(root: Path, name: str, manifest: Manifest) -> bool:
    """Return whether a name of the closed list is of the listed kind, and nobody signed it."""
    if name in manifest.files or any(path.startswith(f"{name}/") for path in manifest.files):
        return False
    try:
        mode = (root / name).lstat().st_mode
    except OSError:
        return False
    return stat.S_ISDIR(mode) if f"{name}/" in FOLDERS else stat.S_ISREG(mode)


def _lines(head: str, lines: list[str]) -> str:
    more = len(lines) - SHOWN
    rest = [f"and {more} more"] if more > 0 else []
    return "\n".join([head, *lines[:SHOWN], *rest])


def to_json(result: SignatureResult) -> dict[str, object]:
    """The result as JSON-ready values, in the shape of `aicert verify`."""
    verified, signed = result.covered
    return {
        "verdict": result.verdict,
        "tier": None,
        "checks": [
            {"id": check.id, "verdict": check.verdict, "detail": check.detail}
            for check in result.checks
        ],
        "subject": result.subject,
        "lockfile": None,
        "filesVerified": verified,
        "filesSigned": signed,
        "ignored": list(result.ignoring.paths),
        "ignoreUnsigned": result.ignoring.unsigned,
        "unsigned": list(result.unsigned),
        "notes": list(result.notes),
    }


def _ignored_lines(result: SignatureResult) -> list[str]:
    """List what the verdict leaves out because the verifier asked for that."""
    names = [f"{path}, as asked" for path in result.ignoring.paths]
    if result.ignoring.unsigned:
        names.append(f"{counted(len(result.unsigned), 'unsigned file')}, as asked")
        names += [f"  {path}" for path in result.unsigned]
    more = [f"and {len(names) - MAX_LINES} more"] if len(names) > MAX_LINES else []
    return [f"Ignores   {safe(name)}" for name in [*names[:MAX_LINES], *more]]


def text(result: SignatureResult) -> str:
    """Format the result for people: the verdict column first, then what it rests on."""
    lines = []
    for check in result.checks:
        word = {"ok": "ok", "failed": "FAILED"}.get(check.verdict, "-")
        first, *more = check.detail.split("\n")
        lines.append(f"  {word:<6}  {check.id:<16} {safe(first)}")
        lines += [" " * 27 + safe(line) for line in more[:MAX_LINES]]
    lines += [f"  note    {safe(note)}" for note in result.notes[:MAX_LINES]]
    if len(result.notes) > MAX_LINES:
        lines.append(f"  note    and {len(result.notes) - MAX_LINES} more")
    verified, signed = result.covered
    if result.verdict == "passed":
        partial = "" if verified == signed else f", {verified} of {signed} files"
        lines += ["", f"PASSED    signed by the signer you named{partial}"]
        lines += _ignored_lines(result)
        lines.append("Omits     what the model is, and where it came from: a signature says who")
    else:
        failed = [check for check in result.checks if check.verdict == "failed"]
        lines += ["", f"FAILED    {len(failed)} of {len(result.checks)} checks", ""]
        first = failed[0].detail.partition("\n")[0]
        lines += error_lines(f"{failed[0].id}: {first}", failed[0].hint).splitlines()
    return "\n".join(lines) + "\n"
