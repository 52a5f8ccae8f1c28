r"""The lockfile of a run: everything that decides what the machine does (docs/spec/lockfile.md).

Output rules: TOML, LF, printable ASCII, no `"` or `\` in values; one block per input, sorted by
name, one fact per line in a fixed order, absent facts left out. `parse` accepts exactly what `emit`
writes, so a lockfile has one form and its identity is the SHA-256 of its bytes.
"""

import re
from collections.abc import Mapping

from aicert.errors import AicertError, LockError
from aicert.formats.canonical_toml import read
from aicert.formats.digest import Digest, of_bytes
from aicert.formats.fields import Table
from aicert.formats.measurement import input_events, replay
from aicert.frozen import dataclass

VERSION = 1
MAX_NAME = 63
NAME = re.compile(rf"[a-z0-9][a-z0-9-]{{0,{MAX_NAME - 1}}}")
CONFIG_INPUT = "config"
# How `from` begins if an input is another run's output: `run:RUN/OUTPUT`.
RUN_SCHEME = "run:"
# A public key: its curve, and its point in compressed form (SEC 1, 2.3.3) in hex.
SIGNER = "p256:0[23][0-9a-f]{64}|p384:0[23][0-9a-f]{96}|p521:0[23][0-9a-f]{132}"
# A lockfile is read before anything is authenticated. This is far above any that people could
# review.
MAX_BYTES = 1 << 20
# A reviewer reads every input, and every pattern; URIs of models have up to 200 characters.
MAX_INPUTS = 1000
MAX_PATTERNS = 100
MAX_VALUE = 1000
# Code that comes with an input: a model's Python files, and what a pickle runs when it is loaded.
CODE_WORDS = ("remote-code", "pickle")
# Processes on one machine; the largest have sixteen GPUs.
MAX_RANKS = 64
# Each audit reads all rows again.
MAX_AUDITS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedInput:
    """One input. `source` is what aicert.toml says (`from`), `uri` what it resolved to.

    `allow_remote_code`: Python files in it may run in the trainer. `signed_by`: the key whose model
    signature the input carries (`aicert.model_signature.signed_by`).
    """

    name: str
    source: str
    uri: str
    size: int
    digest: Digest
    only: tuple[str, ...] = ()
    except_: tuple[str, ...] = ()
    allow_pickle: bool = False
    allow_remote_code: bool = False
    signed_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lockfile:
    """A parsed lockfile; `emit(lockfile)` gives its bytes.

    `ranks`: how many processes train together. `audits`: the audits that must hold before the run
    trains; the config, key and lists of each are inputs (`audit_input`).
    """

    run: str
    trainer: str
    outputs: tuple[str, ...]
    inputs: tuple[LockedInput, ...]
    ranks: int = 1
    audits: tuple[str, ...] = ()

    def input(self, name: str) -> LockedInput:
        """Return the input of that name, which the caller knows to be there."""
        return next(i for i in self.inputs if i.name == name)


def emit(lockfile: Lockfile) -> bytes:
    """Return the canonical bytes. Raises LockError for what a lockfile cannot hold."""
    _check(lockfile)
    lines = [
        f"version = {VERSION}",
        f"run = {_quoted('run', lockfile.run)}",
        f"trainer = {_quoted('trainer', lockfile.trainer)}",
        f"outputs = {_array('outputs', lockfile.outputs)}",
    ]
    if lockfile.ranks != 1:
        lines.append(f"ranks = {lockfile.ranks}")
    if lockfile.audits:
        lines.append(f"audits = {_array('audits', lockfile.audits)}")
    for item in lockfile.inputs:
        where = f"input {item.name}"
        lines += ["", "[[input]]", f"name = {_quoted(where, item.name)}"]
        lines.append(f"from = {_quoted(where + ': from', item.source)}")
        if item.only:
            lines.append(f"only = {_array(where + ': only', item.only)}")
        if item.except_:
            lines.append(f"except = {_array(where + ': except', item.except_)}")
        if item.allow_pickle:
            lines.append("allow-pickle = true")
        if item.allow_remote_code:
            lines.append("allow-remote-code = true")
        if item.signed_by is not None:
            lines.append(f"signed-by = {_quoted(where + ': signed-by', item.signed_by)}")
        lines.append(f"uri = {_quoted(where + ': uri', item.uri)}")
        lines.append(f"size = {item.size}")
        lines.append(f'digest = "{item.digest}"')
    return ("\n".join(lines) + "\n").encode("ascii")


def parse(data: bytes) -> Lockfile:
    """Read a lockfile. Raises LockError unless `data` is exactly the canonical form."""
    if len(data) > MAX_BYTES:
        raise LockError(f"lockfile is larger than {MAX_BYTES} bytes")
    if b"\r" in data:
        raise LockError(
            "lockfile has CRLF line ends",
            hint="git config core.autocrlf false, then check it out again",
        )
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError as error:
        raise LockError(f"lockfile is not ASCII: byte {error.start}") from None
    lockfile = _read(read(text, "lockfile", "./doit lock"))
    if emit(lockfile) != data:
        raise LockError(
            "lockfile is not in canonical form: it was edited by hand or written by another tool",
            hint="./doit lock",
        )
    return lockfile


def pcr14(data: bytes) -> bytes:
    """Return the PCR 14 (32 bytes) of a machine that measured exactly this lockfile's inputs."""
    return pcr14_of(parse(data), data)


def pcr14_of(lockfile: Lockfile, data: bytes) -> bytes:
    """Like `pcr14`, for a lockfile that was already parsed from exactly these bytes."""
    return replay(input_events(data, [(item.name, item.digest) for item in lockfile.inputs]))


def audit_input(audit: str, name: str) -> str:
    """Return the name that an audit's input `name` has in the run that names the audit."""
    return f"{audit}-{name}"


def identity(data: bytes) -> Digest:
    """Return the digest that names this lockfile: the SHA-256 of its bytes."""
    return of_bytes(data)


def signers(lockfile: Lockfile) -> tuple[tuple[str, str], ...]:
    """Return the inputs that must be signed, each with the key."""
    return tuple((i.name, i.signed_by) for i in lockfile.inputs if i.signed_by is not None)


def input_code(lockfile: Lockfile) -> tuple[tuple[str, str], ...]:
    """Return the inputs whose code may run in the trainer, each after the word by which a policy
    allows it: one of CODE_WORDS.
    """
    asked = [
        (word, item.name)
        for item in lockfile.inputs
        for word, allowed in zip(
            CODE_WORDS, (item.allow_remote_code, item.allow_pickle), strict=True
        )
        if allowed
    ]
    return tuple(asked)


def check_name(kind: str, name: str) -> None:
    """Refuse a run, input or output name outside `[a-z0-9][a-z0-9-]{0,62}`."""
    if not NAME.fullmatch(name):
        raise LockError(
            f"{kind} {name[:80]!a} is not a name: lowercase letters, digits and -, up to {MAX_NAME}"
        )


def check_signer(where: str, text: str) -> None:
    """Refuse a `signed-by` that is not a public key.

    Whether it is a point on its curve is checked on use.
    """
    if not re.fullmatch(SIGNER, text):
        raise LockError(
            f"{where}: signed-by is not a public key like p256:02…: {text[:80]!a}",
            hint="aicert verify-signature DIR --key KEY.pub prints it",
        )


def _check(lockfile: Lockfile) -> None:
    check_name("run", lockfile.run)
    check_name("trainer", lockfile.trainer)
    if not lockfile.outputs or len(lockfile.outputs) > MAX_INPUTS:
        raise LockError("a run has at least one output")
    for output in lockfile.outputs:
        check_name("output", output)
    _check_sorted("outputs", lockfile.outputs)
    if not 1 <= lockfile.ranks <= MAX_RANKS:
        raise LockError(f"ranks is not a number from 1 to {MAX_RANKS}: {lockfile.ranks}")
    names = tuple(item.name for item in lockfile.inputs)
    for item in lockfile.inputs:
        check_name("input", item.name)
        if not 0 <= item.size < 2**63:
            raise LockError(f"input {item.name}: size is out of range")
        if item.signed_by is not None:
            check_signer(f"input {item.name}", item.signed_by)
    _check_sorted("inputs", names)
    _check_config(names, lockfile, CONFIG_INPUT)
    if len(names) > MAX_INPUTS:
        raise LockError(f"more than {MAX_INPUTS} inputs")
    _check_sorted("audits", lockfile.audits)
    if len(lockfile.audits) > MAX_AUDITS:
        raise LockError(f"more than {MAX_AUDITS} audits")
    for audit in lockfile.audits:
        check_name("audit", audit)
        _check_config(names, lockfile, audit_input(audit, CONFIG_INPUT))


def _check_config(names: tuple[str, ...], lockfile: Lockfile, config: str) -> None:
    if config not in names or lockfile.input(config).digest.kind != "sha256":
        raise LockError(f"a run has an input named {config} that is one file")


def _check_sorted(what: str, names: tuple[str, ...]) -> None:
    if list(names) != sorted(set(names)):
        raise LockError(f"{what} are not sorted by name, or one is repeated")


def _quoted(where: str, value: str) -> str:
    printable = value.isascii() and value.isprintable()
    if not value or len(value) > MAX_VALUE or not printable or '"' in value or "\\" in value:
        raise LockError(
            f"{where}: a lockfile holds printable ASCII without quotes or backslashes, "
            f"found {value[:80]!a}"
        )
    return f'"{value}"'


def _array(where: str, values: tuple[str, ...]) -> str:
    return "[" + ", ".join(_quoted(where, value) for value in values) + "]"


def _read(document: Mapping[str, object]) -> Lockfile:
    version = document.get("version")
    if type(version) is not int or version != VERSION:
        raise LockError(f"lockfile version is not {VERSION}", hint="./doit lock")
    table = Table(document, "lockfile")
    table.take("version", int)
    inputs = table.tables("input", MAX_INPUTS, "expected a list of tables")
    lockfile = Lockfile(
        run=table.text("run"),
        trainer=table.text("trainer"),
        outputs=table.texts("outputs", MAX_PATTERNS),
        ranks=table.take("ranks", int, 1),
        audits=table.texts("audits", MAX_PATTERNS) if table.has("audits") else (),
        inputs=tuple(_read_input(item, f"input[{i}]") for i, item in enumerate(inputs)),
    )
    table.done()
    return lockfile


def _read_input(value: object, where: str) -> LockedInput:
    table = Table(value, where)
    try:
        digest = Digest.parse(table.text("digest"))
    except LockError:
        raise
    except AicertError as error:
        raise LockError(f"{where}.digest: {error}") from None
    item = LockedInput(
        name=table.text("name"),
        source=table.text("from"),
        uri=table.text("uri"),
        size=table.take("size", int),
        digest=digest,
        only=table.texts("only", MAX_PATTERNS) if table.has("only") else (),
        except_=table.texts("except", MAX_PATTERNS) if table.has("except") else (),
        allow_pickle=table.take("allow-pickle", bool, False),
        allow_remote_code=table.take("allow-remote-code", bool, False),
        signed_by=table.text("signed-by") if table.has("signed-by") else None,
    )
    table.done()
    return item
