"""Read YAML strictly, and write JSON that YAML reads back as the same values.

`load` takes one document of plain values: mappings with distinct string (or integer) keys, lists,
strings, booleans, numbers, null. It refuses every other tag, duplicate keys, text that is not
UTF-8, and anything over the limits, which are checked with every alias expanded, before any value
is built. `canonical` writes UTF-8 JSON, keys sorted, that PyYAML's safe loader reads as the same
values (YAML 1.1 reads `1e-05` as a string and an escaped surrogate pair as two characters).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Hashable
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from aicert.errors import ConfigError

MAX_BYTES = 64 * 1024
MAX_NODES = 10_000
MAX_DEPTH = 32
MAX_KEY = 128
_INT64 = range(-(2**63), 2**63)
_TAG = "tag:yaml.org,2002:"
_PLAIN = frozenset(_TAG + name for name in ("null", "bool", "int", "float", "str", "seq", "map"))


class YamlError(ConfigError):
    """Raised for a document that this reader does not accept; the message names the line."""


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Construct a mapping as SafeLoader does, but refuse duplicate keys."""
        seen: set[object] = set()
        for key_node, _ in node.value:
            if key_node.tag == _TAG + "merge":
                continue
            if not isinstance(key_node, ScalarNode):
                raise _at(key_node, "a key must be a plain scalar")
            key = self.construct_object(key_node)
            if isinstance(key, bool) or not isinstance(key, (str, int)):
                raise _at(key_node, f"the key {key_node.value!r} is not a string: quote it")
            if len(str(key)) > MAX_KEY:
                raise _at(key_node, f"a key is longer than {MAX_KEY} characters")
            if str(key) in seen:
                raise _at(key_node, f"the key {key!r} appears here twice")
            seen.add(str(key))
        return super().construct_mapping(node, deep=deep)


def mapping(data: bytes, keys: str) -> dict[str, Any]:
    """Read a config. ConfigError if it is no mapping; `keys`: which it should have."""
    try:
        document = load(data)
    except YamlError as error:
        raise ConfigError(f"config: {error.message}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"config: not a mapping with {keys}")
    return document


def load(data: bytes) -> object:
    """Read a document and return its value. Raises YamlError."""
    if len(data) > MAX_BYTES:
        raise YamlError(f"larger than {MAX_BYTES} bytes")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise YamlError(f"not UTF-8 at byte {error.start}") from error
    if text.startswith("\ufeff"):
        raise YamlError("starts with a byte order mark")
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _Census().count(node, 1)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark is not None else ""
        raise YamlError(f"{where}{error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise YamlError(" ".join(str(error).split())) from error
    except RecursionError as error:
        raise YamlError(f"nested deeper than {MAX_DEPTH}") from error
    except ValueError as error:
        # int() or float() refused a text that YAML 1.1 takes for a number.
        raise YamlError(f"a number cannot be read: {error}") from error


def _at(node: Node, problem: str) -> YamlError:
    return YamlError(f"line {node.start_mark.line + 1}: {problem}")


class _Census:
    """Counts nodes as if every alias were expanded, without expanding any."""

    def __init__(self) -> None:
        self._sizes: dict[int, tuple[int, int]] = {}
        self._open: set[int] = set()

    def count(self, node: Node, depth: int) -> tuple[int, int]:
        """Return the number of nodes from `node` down, and their depth.

        Raises YamlError if a limit is exceeded.
        """
        known = self._sizes.get(id(node))
        if known is not None:
            size, height = known
        elif id(node) in self._open:
            raise _at(node, "an alias that contains itself")
        else:
            size, height = self._measure(node, depth)
        if size > MAX_NODES:
            raise _at(node, f"more than {MAX_NODES} values, aliases expanded")
        if depth + height > MAX_DEPTH:
            raise _at(node, f"nested deeper than {MAX_DEPTH}")
        return size, height

    def _measure(self, node: Node, depth: int) -> tuple[int, int]:
        merge = node.tag == _TAG + "merge"
        if node.tag not in _PLAIN and not merge:
            raise _at(node, f"a value of kind {node.tag.removeprefix(_TAG)!r}: quote it")
        if depth > MAX_DEPTH:
            raise _at(node, f"nested deeper than {MAX_DEPTH}")
        _check_number(node)
        below: list[Node] = []
        if isinstance(node, SequenceNode):
            below = list(node.value)
        elif isinstance(node, MappingNode):
            below = [each for pair in node.value for each in pair]
        self._open.add(id(node))
        counted = [self.count(each, depth + 1) for each in below]
        self._open.remove(id(node))
        total = 1 + sum(size for size, _ in counted)
        height = 1 + max((height for _, height in counted), default=0) if below else 0
        self._sizes[id(node)] = total, height
        return total, height


def _check_number(node: Node) -> None:
    if not isinstance(node, ScalarNode) or node.tag not in (_TAG + "int", _TAG + "float"):
        return
    if len(node.value) > 64:
        raise _at(node, "a number of more than 64 characters")
    value = yaml.safe_load(node.value) if node.style is None else None
    if isinstance(value, int) and value not in _INT64:
        raise _at(node, "an integer beyond 64 bits")
    if isinstance(value, float) and not math.isfinite(value):
        raise _at(node, "a number that is not finite")


_ESCAPED = re.compile("[\x7f-\uffff]")


def _string(text: str) -> str:
    return _ESCAPED.sub(lambda each: f"\\u{ord(each[0]):04x}", json.dumps(text, ensure_ascii=False))


def _float(value: float) -> str:
    text = repr(value)
    mantissa, mark, exponent = text.partition("e")
    return f"{mantissa}.0e{exponent}" if mark and "." not in mantissa else text


def canonical(value: object) -> bytes:
    """Return the canonical form of a value from `load` (integer keys become strings)."""
    return (_emit(value, 0) + "\n").encode("utf-8")


def _emit(value: object, depth: int) -> str:
    inner, outer = "\n" + "  " * (depth + 1), "\n" + "  " * depth
    if isinstance(value, dict):
        ordered = sorted((str(key), each) for key, each in value.items())
        rows = [f"{_string(key)}: {_emit(each, depth + 1)}" for key, each in ordered]
        return "{" + inner + ("," + inner).join(rows) + outer + "}" if rows else "{}"
    if isinstance(value, list):
        rows = [_emit(each, depth + 1) for each in value]
        return "[" + inner + ("," + inner).join(rows) + outer + "]" if rows else "[]"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, float):
        return _float(value)
    return json.dumps(value)
