"""A training config as dotted fields, for a review. Its text is hostile, and decides nothing.

The runner parses the config with stricter rules. If this cannot compare a config, it says so.
"""

import json
from collections.abc import Iterator, Mapping

MAX_BYTES = 1 << 20
MAX_FIELDS = 5000
_MAX_DEPTH = 50


def fields(data: bytes) -> dict[str, str] | None:
    """Return `{dotted.path: value as JSON}`; None if the config cannot be read as plain YAML."""
    import yaml

    if len(data) > MAX_BYTES:
        return None
    try:
        text = data.decode("utf-8")
        depth = 0
        for event in yaml.parse(text, yaml.SafeLoader):
            # Aliases can expand without limit: a small file, an endless comparison. Nesting costs
            # the reader quadratic time.
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent) or depth > _MAX_DEPTH:
                return None
        values: dict[str, str] = {}
        for path, value in _flat(yaml.safe_load(text), "", 0):
            # Two fields written alike: one could hide a change of the other.
            if len(values) >= MAX_FIELDS or path in values:
                return None
            values[path] = value
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError, ValueError):
        return None
    return values


def _flat(value: object, path: str, depth: int) -> Iterator[tuple[str, str]]:
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deeply")
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else str(key), depth + 1)
    elif isinstance(value, list) and value:
        for number, inner in enumerate(value):
            yield from _flat(inner, f"{path}[{number}]", depth + 1)
    else:
        yield path, json.dumps(value, default=str)


def changes(old: Mapping[str, str], new: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Return (field, old, new) of every field that differs, by path; empty text where it is
    absent.
    """
    return [
        (path, old.get(path, ""), new.get(path, ""))
        for path in sorted(old.keys() | new.keys())
        if old.get(path) != new.get(path)
    ]
