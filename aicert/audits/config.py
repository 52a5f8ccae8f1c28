"""The config of an audit: TOML that may hold no unknown key (docs/spec/audit.md has an example).

The config names the inputs that hold the key and the lists; every other input is data, so that no
data can be left out. Parameters cannot be chosen: they follow from a kind of check and its version.
The counts that a config allows matter only if the audit has to hold before a training (`holding`).
"""

import tomllib
from collections.abc import Mapping
from typing import Final

from aicert.audits.fingerprints import PASSAGE
from aicert.audits.trees import KEY_BYTES
from aicert.errors import AicertError, ConfigError
from aicert.formats.fields import MAX_INT, Table
from aicert.formats.lockfile import CONFIG_INPUT, NAME
from aicert.frozen import dataclass

DOMAINS: Final = "domains/v1"
EXACT: Final = "exact/v1"
PASSAGES: Final = "passages/v1"
PATTERNS: Final = "patterns/v1"
# For each kind of check: whether it has a list, and whether it must name a column.
KINDS: Final = {
    DOMAINS: (True, True),
    EXACT: (True, False),
    PASSAGES: (True, False),
    PATTERNS: (False, False),
}
# `tomllib` takes quadratic time for a key with many dots.
MAX_BYTES: Final = 1 << 14
MAX_CHECKS: Final = 64
MAX_COLUMN: Final = 256
_REFERENCE: Final = "input:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check of an audit: what to look for, where, and how many matches are allowed.

    `column`: the column to look at, or None for all text of a row. `list`: the name of the input
    that holds the list. `at_most`: how many rows may match; `missing` and `unparsable`: how many
    rows may lack the column or be unreadable; `unusable`: how many entries of the list may be.
    """

    name: str
    kind: str
    column: str | None
    list: str | None
    at_most: int = 0
    missing: int = 0
    unparsable: int = 0
    unusable: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditConfig:
    """The config of an audit.

    `key`: the input that salts the record tree. `passages`: whether to build a tree of passages
    too. `domains`: the column of URLs of which a table of domains is made, or None.
    `unread_bytes`: how many bytes of the files may be in no row. `unread_texts`: how many texts
    beside the rows may be unreadable. `texts`: the inputs whose files are texts of that sort.
    """

    key: str
    passages: bool
    checks: tuple[Check, ...]
    domains: str | None = None
    unread_bytes: int = 0
    unread_texts: int = 0
    texts: tuple[str, ...] = ()

    @property
    def named(self) -> frozenset[str]:
        """The inputs that are not rows: the config, the key, the lists and the texts."""
        lists = (check.list for check in self.checks if check.list is not None)
        return frozenset((CONFIG_INPUT, self.key, *lists, *self.texts))


def parse(data: bytes) -> AuditConfig:
    """Read a config. Raises ConfigError."""
    if len(data) > MAX_BYTES:
        raise ConfigError(f"the audit's config is larger than {MAX_BYTES} bytes")
    try:
        document = tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"the audit's config is not TOML: {error}") from None
    table = _Table(document, "config")
    records = _Table(table.take("records", dict), "records")
    key = _input(records, "key")
    unread_bytes = _bound(records, "unread-bytes")
    unread_texts = _bound(records, "unread-texts")
    records.done()
    has_passages = table.has("passages")
    if has_passages:
        _read_passages(_Table(table.take("passages", dict), "passages"))
    domains = None
    if table.has("domains"):
        domains = _read_domains(_Table(table.take("domains", dict), "domains"))
    texts: tuple[str, ...] = ()
    if table.has("texts"):
        texts = _read_texts(_Table(table.take("texts", dict), "texts"))
    checks = tuple(
        _check(value, f"check[{place}]")
        for place, value in enumerate(table.tables("check", MAX_CHECKS, "expected [[check]]"))
    )
    table.done()
    names = [check.name for check in checks]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two checks are called {name}")
    kinds: dict[str, str] = {}
    for check in checks:
        if check.list == key:
            raise ConfigError(f"records.key: input {key} is also used as a list")
        if check.list is not None and kinds.setdefault(check.list, check.kind) != check.kind:
            raise ConfigError(
                f"check {check.name}: input {check.list} is a list for {kinds[check.list]}"
            )
    for name in texts:
        if name == key or name in kinds:
            raise ConfigError(f"texts.inputs: input {name} is the key or a list, too")
    return AuditConfig(
        key=key,
        passages=has_passages,
        checks=checks,
        domains=domains,
        unread_bytes=unread_bytes,
        unread_texts=unread_texts,
        texts=texts,
    )


def check_inputs(config: AuditConfig, sizes: Mapping[str, int | None]) -> None:
    """Check that a run has the inputs that its config names, and data besides. Raises ConfigError.

    `sizes`: the size in bytes of each input that is one file; None for directories.
    """
    check_named(config, sizes)
    if sizes.keys() <= config.named:
        raise ConfigError("every input is a key or a list of the audit: there is no data")


def check_named(config: AuditConfig, sizes: Mapping[str, int | None]) -> None:
    """Check that a run has the inputs that its config names; the data may come from elsewhere.

    `sizes` as in `check_inputs`. Raises ConfigError.
    """
    for name in sorted(config.named):
        if name not in sizes:
            raise ConfigError(f"the audit's config names input {name}, which the run does not have")
    if sizes[config.key] != KEY_BYTES:
        raise ConfigError(
            f"records.key: input {config.key} is not a file of {KEY_BYTES} bytes",
            hint=f"head -c {KEY_BYTES} /dev/urandom > record-key",
        )
    for check in config.checks:
        # Lists of texts are rows, and may lie in several files.
        if check.list is not None and check.kind != PASSAGES and sizes[check.list] is None:
            raise ConfigError(f"check {check.name}: input {check.list} is not one file")


class _Table(Table):
    __slots__ = ()
    error: type[AicertError] = ConfigError


def _read_passages(table: _Table) -> None:
    if table.take("words", int) != PASSAGE:
        raise table.wrong("words", f"{PASSAGES} is of {PASSAGE} words")
    table.done()


def _read_domains(table: _Table) -> str:
    column = _column(table)
    table.done()
    return column


def _read_texts(table: _Table) -> tuple[str, ...]:
    values = table.texts("inputs", MAX_CHECKS)
    table.done()
    names = [name for name in map(_referred, values) if name is not None]
    if not names or len(names) < len(values) or names != sorted(set(names)):
        raise table.wrong("inputs", "expected names like `input:NAME`, sorted, each once")
    return tuple(names)


def _check(value: object, where: str) -> Check:
    table = _Table(value, where)
    name, kind = table.text("name"), table.text("kind")
    if not NAME.fullmatch(name):
        raise table.wrong("name", "expected lowercase letters, digits and hyphens")
    if kind not in KINDS:
        raise table.wrong("kind", f"not one of {', '.join(KINDS)}")
    has_list, must_have_column = KINDS[kind]
    column = None
    if must_have_column or table.has("column"):
        column = _column(table)
    listed = _input(table, "list") if has_list else None
    check = Check(
        name=name,
        kind=kind,
        column=column,
        list=listed,
        at_most=_bound(table, "at-most"),
        missing=_bound(table, "missing"),
        unparsable=_bound(table, "unparsable"),
        unusable=_bound(table, "unusable"),
    )
    table.done()
    return check


def _column(table: Table) -> str:
    column = table.text("column")
    if not 0 < len(column) <= MAX_COLUMN or not column.isprintable():
        raise table.wrong("column", "expected the name of a column")
    return column


def _bound(table: Table, key: str) -> int:
    """Return the count that `key` allows, 0 by default."""
    number = table.take(key, int, 0)
    if not 0 <= number <= MAX_INT:
        raise table.wrong(key, "expected a number that is not negative")
    return number


def _input(table: _Table, key: str) -> str:
    name = _referred(table.text(key))
    if name is None:
        raise table.wrong(key, "expected `input:NAME`")
    return name


def _referred(text: str) -> str | None:
    """Return NAME of `input:NAME`; None if `text` is something else, or names the config."""
    scheme, _, name = text.partition(":")
    if f"{scheme}:" != _REFERENCE or not NAME.fullmatch(name) or name == CONFIG_INPUT:
        return None
    return name
