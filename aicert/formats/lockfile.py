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
from aicert.formats.measurement import input_events, replay
from aicert.frozen import dataclass

VERSION = 1
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
CONFIG_INPUT = "config"
# A public key: its curve, and its point in compressed form (SEC 1, 2.3.3) in hex.
SIGNER = "p256:0[23][0-9a-f]{64}|p384:0[23][0-9a-f]{96}|p521:0[23][0-9a-f]{132}"
# Read before anything is authenticated: far above any lockfile that people could review.
MAX_BYTES = 1 << 20
# A reviewer reads every input, and every pattern; URIs of models have up to 200 characters.
MAX_INPUTS = 1000
MAX_PATTERNS = 100
MAX_VALUE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedInput:
    """One input. `source` is what aicert.toml says (`from`), `uri` what it resolved to.

    `signed_by`: the key whose model signature the input carries
    (`aicert.model_signature.signed_by`).
    """

    name: str
    source: str
    uri: str
    size: int
    digest: Digest
    only: tuple[str, ...] = ()
    except_: tuple[str, ...] = ()
    allow_pickle: bool = False
    signed_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lockfile:
    """The parsed form; `emit(lockfile)` gives its bytes."""

    run: str
    trainer: str
    outputs: tuple[str, ...]
    inputs: tuple[LockedInput, ...]

    def input(self, name: str) -> LockedInput:
        """The input of that name; KeyError where there is none."""
        return next(i for i in self.inputs if i.name == name)


def emit(lockfile: Lockfile) -> bytes:
    """The canonical bytes. Raises LockError for what a lockfile cannot hold."""
    _check(lockfile)
    lines = [
        f"version = {VERSION}",
        f"run = {_quoted('run', lockfile.run)}",
        f"trainer = {_quoted('trainer', lockfile.trainer)}",
        f"outputs = {_array('outputs', lockfile.outputs)}",
    ]
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
    """The PCR 14 (32 bytes) that a machine has after measuring exactly this lockfile's inputs."""
    lockfile = parse(data)
    return replay(input_events(data, [(item.name, item.digest) for item in lockfile.inputs]))


def identity(data: bytes) -> Digest:
    """What names this lockfile: the SHA-256 of its bytes."""
    return of_bytes(data)


def signers(lockfile: Lockfile) -> tuple[tuple[str, str], ...]:
    """The inputs that somebody has to have signed, each with the key."""
    return tuple((i.name, i.signed_by) for i in lockfile.inputs if i.signed_by is not None)


def check_name(kind: str, name: str) -> None:
    """Refuse a run, input or output name outside `[a-z0-9][a-z0-9-]{0,62}`."""
    if not NAME.fullmatch(name):
        raise LockError(
            f"{kind} {name[:80]!a} is not a name: lowercase letters, digits and -, up to 63"
        )


def check_signer(where: str, text: str) -> None:
    """Refuse a `signed-by` that is no public key; whether it is a point is seen when it is used."""
    if not re.fullmatch(SIGNER, text):
        raise LockError(
            f"{where}: signed-by is no public key like p256:02…: {text[:80]!a}",
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
    names = tuple(item.name for item in lockfile.inputs)
    for item in lockfile.inputs:
        check_name("input", item.name)
        if not 0 <= item.size < 2**63:
            raise LockError(f"input {item.name}: size is out of range")
        if item.signed_by is not None:
            check_signer(f"input {item.name}", item.signed_by)
    _check_sorted("inputs", names)
    if CONFIG_INPUT not in names or lockfile.input(CONFIG_INPUT).digest.kind != "sha256":
        raise LockError("a run has an input named config that is one file")
    if len(names) > MAX_INPUTS:
        raise LockError(f"more than {MAX_INPUTS} inputs")


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
    left = dict(document)
    if left.pop("version", None) != VERSION or isinstance(document["version"], bool):
        raise LockError(f"lockfile version is not {VERSION}", hint="./doit lock")
    inputs = left.pop("input", [])
    if not isinstance(inputs, list) or len(inputs) > MAX_INPUTS:
        raise LockError("input: a list of tables is wanted")
    lockfile = Lockfile(
        run=_text(left, "run"),
        trainer=_text(left, "trainer"),
        outputs=_texts(left, "outputs", "outputs"),
        inputs=tuple(_read_input(item, f"input[{i}]") for i, item in enumerate(inputs)),
    )
    _no_more(left, "lockfile")
    return lockfile


def _read_input(value: object, where: str) -> LockedInput:
    if not isinstance(value, dict):
        raise LockError(f"{where}: a table is wanted")
    left: dict[str, object] = dict(value)
    size = left.pop("size", None)
    if type(size) is not int:
        raise LockError(f"{where}.size: an integer is wanted")
    allow_pickle = left.pop("allow-pickle", False)
    if type(allow_pickle) is not bool:
        raise LockError(f"{where}.allow-pickle: true is wanted")
    try:
        digest = Digest.parse(_text(left, "digest", where))
    except LockError:
        raise
    except AicertError as error:
        raise LockError(f"{where}.digest: {error}") from None
    item = LockedInput(
        name=_text(left, "name", where),
        source=_text(left, "from", where),
        uri=_text(left, "uri", where),
        size=size,
        digest=digest,
        only=_texts(left, "only", f"{where}.only") if "only" in left else (),
        except_=_texts(left, "except", f"{where}.except") if "except" in left else (),
        allow_pickle=allow_pickle,
        signed_by=_text(left, "signed-by", where) if "signed-by" in left else None,
    )
    _no_more(left, where)
    return item


def _text(table: dict[str, object], key: str, where: str = "lockfile") -> str:
    value = table.pop(key, None)
    if type(value) is not str:
        raise LockError(f"{where}.{key}: a string is wanted")
    return value


def _texts(table: dict[str, object], key: str, where: str) -> tuple[str, ...]:
    values = table.pop(key, None)
    if not isinstance(values, list) or len(values) > MAX_PATTERNS:
        raise LockError(f"{where}: a list of strings is wanted")
    holder: dict[str, object] = {str(i): value for i, value in enumerate(values)}
    return tuple(_text(holder, str(i), where) for i in range(len(values)))


def _no_more(left: Mapping[str, object], where: str) -> None:
    if left:
        raise LockError(f"{where} has an unknown key {next(iter(left))[:80]!a}")
