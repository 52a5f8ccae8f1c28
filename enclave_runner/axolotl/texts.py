"""Name the texts that reach the trainer but come from no row: templates, formats, tokenizer rules.

A chat template can ignore the rows and write another corpus; so can a prompt format in the config,
a tokenizer's normalizer, its vocabulary, or an added token. Each is named with a SHA-256: that of
the text in UTF-8, or that of JSON in the form that `aicert.formats.strict_json` writes
(docs/spec/certificate.md). Left out: prompts in Axolotl's code, such as `alpaca`, which the image's
digest covers. The loss measurement shows how much of the trained text comes from these texts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

from aicert.errors import EvidenceError
from aicert.formats import strict_json
from aicert.formats.digest import Digest, of_bytes
from aicert.formats.run_report_facts import MAX_TEXTS, MORE_TEXTS
from enclave_runner.inputs.measure import MeasuredInput
from enclave_runner.inputs.model_files import tokenizer_texts
from enclave_runner.inputs.references import Reference, Text
from enclave_runner.sandbox.places import INPUTS, TEMPLATES

# Keys of the config, at any depth, whose values are trained on unchanged, or decide which fields of
# a row a template gets, under which name and for which role.
_CONFIG = frozenset(
    (
        "chat_template_jinja",
        "chat_template_kwargs",
        "chosen_format",
        "completion_format",
        "default_system_message",
        "eot_tokens",
        "format",
        "mask_token_str",
        "message_property_mappings",
        "no_input_format",
        "prompt_format",
        "rejected_format",
        "roles",
        "roles_to_train",
        "special_tokens",
        "step_separator",
        "system_format",
        "system_prompt",
        "tokens",
    )
)
# The one of these keys whose value is the place of a file that the runner shows.
_TEMPLATE = "chat_template_jinja"
# Keys of a tokenizer's files that are no texts: how long a text may be, and the file's format.
_NO_TEXT = frozenset(("model_max_length", "version"))
_ROLES = ("model", "tokenizer")
_BUILT_IN = "lib/python3.11/site-packages/axolotl/utils/chat_templates/templates"
_MAX_NAME = 200

Texts = tuple[tuple[str, Digest], ...]


def named(texts: Sequence[tuple[str, Text]]) -> Texts:
    """Name texts as a run report does: as many as it may hold, and one name for all others."""
    named = [(name, text.digest) for name, text in texts]
    if len(named) <= MAX_TEXTS:
        return tuple(named)
    rest = named[MAX_TEXTS - 1 :]
    folded = of_bytes(strict_json.dumps([[name, str(digest)] for name, digest in rest]))
    return tuple(sorted([*named[: MAX_TEXTS - 1], (f"{MORE_TEXTS}{len(rest)} more", folded)]))


def read_texts(
    config: bytes,
    references: Sequence[Reference],
    inputs: Mapping[str, MeasuredInput],
    training_env: Path,
    shown: Mapping[str, Path] | None = None,
) -> list[tuple[str, Text]]:
    """Return such texts, sorted by name.

    `shown`: place → file, for the files that the runner itself wrote for the trainer.
    """
    settings = json.loads(config)
    texts = dict(_of_config(settings, "", inputs, shown or {}))
    texts |= _built_in(settings, training_env)
    return _sorted(texts, of_files(references, inputs))


def of_files(
    references: Iterable[Reference], inputs: Mapping[str, MeasuredInput]
) -> list[tuple[str, Text]]:
    """Return the texts in files of models and tokenizers, sorted by name."""
    texts: dict[str, Text] = {}
    for reference in references:
        if reference.role in _ROLES:
            texts |= _of_files(inputs[reference.name], reference)
    return _sorted(texts, [])


def _sorted(texts: Mapping[str, Text], more: Iterable[tuple[str, Text]]) -> list[tuple[str, Text]]:
    texts = {**texts, **dict(more)}
    return sorted(
        ((_plain(name), text) for name, text in texts.items()),
        key=lambda each: (each[0], str(each[1].digest)),
    )


def _of_config(
    value: object, place: str, inputs: Mapping[str, MeasuredInput], shown: Mapping[str, Path]
) -> Iterator[tuple[str, Text]]:
    if isinstance(value, list):
        for index, each in enumerate(value):
            yield from _of_config(each, f"{place}[{index}]", inputs, shown)
    if not isinstance(value, dict):
        return
    for key, each in value.items():
        inner = f"{place}.{key}" if place else str(key)
        if key in _CONFIG and each not in (None, "", [], {}):
            yield f"config: {inner}", _of_value(key, each, inputs, shown)
        else:
            yield from _of_config(each, inner, inputs, shown)


def _of_value(
    key: str, value: object, inputs: Mapping[str, MeasuredInput], shown: Mapping[str, Path]
) -> Text:
    if not isinstance(value, str):
        return _text(strict_json.dumps(value), is_json=True)
    # Only under `_TEMPLATE` does a value name a file; under other keys it is just text.
    template = _of_template(value, inputs, shown) if key == _TEMPLATE else None
    return template or _text(value.encode())


def _text(data: bytes, *, is_json: bool = False) -> Text:
    return Text(digest=of_bytes(data), data=data, is_json=is_json)


def _of_template(
    place: str, inputs: Mapping[str, MeasuredInput], shown: Mapping[str, Path]
) -> Text | None:
    """Return the file that Axolotl opens at a place; None if the runner shows no such place."""
    if place.startswith(TEMPLATES + "/"):
        # The runner names such a file after its content.
        digest = Digest("sha256", place.removeprefix(TEMPLATES + "/").removesuffix(".jinja"))
        return Text(digest=digest, data=shown.get(place))
    name, _, inside = place.removeprefix(INPUTS + "/").partition("/")
    item = inputs.get(name) if place.startswith(INPUTS + "/") else None
    fact = item.files.get(inside) if item is not None else None
    if item is None or fact is None:
        return None
    return Text(digest=Digest("sha256", fact.sha256), data=item.path / inside)


def _built_in(settings: Mapping[str, object], training_env: Path) -> dict[str, Text]:
    """Return those of Axolotl's own chat templates that the config names."""
    entries = settings.get("datasets")
    places = [settings, *(entries if isinstance(entries, list) else ())]
    templates = {}
    for each in places:
        name = each.get("chat_template") if isinstance(each, Mapping) else None
        if not isinstance(name, str):
            continue
        name = name.removeprefix("tokenizer_default_fallback_")
        path = training_env / _BUILT_IN / f"{name}.jinja"
        if "/" not in name and path.is_file():
            templates[f"image: chat template {name}"] = _text(path.read_bytes())
    return templates


def _of_files(item: MeasuredInput, reference: Reference) -> dict[str, Text]:
    below = f"{reference.inside}/" if reference.inside else ""
    names = (path.removeprefix(below) for path in item.files if path.startswith(below))
    texts: dict[str, Text] = {}
    for name, by_key in tokenizer_texts(names).items():
        path = below + name
        if by_key:
            texts |= _of_keys(item.path / path, f"{item.name}/{path}")
        else:
            digest = Digest("sha256", item.files[path].sha256)
            texts[f"{item.name}/{path}"] = Text(digest=digest, data=item.path / path)
    return texts


def _of_keys(path: Path, name: str) -> dict[str, Text]:
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        # No loader can read such a file either.
        return {}
    if not isinstance(document, dict):
        return {}
    texts = {}
    for key, value in cast(dict[str, object], document).items():
        if key not in _NO_TEXT and value not in (None, "", [], {}):
            try:
                data = value.encode() if isinstance(value, str) else strict_json.dumps(value)
            except (EvidenceError, UnicodeEncodeError, RecursionError):
                # UTF-8 cannot express this text, so the file's own bytes are used.
                data = json.dumps(value, sort_keys=True).encode()
            texts[f"{name}: {key}"] = _text(data, is_json=not isinstance(value, str))
    return texts


def _plain(name: str) -> str:
    """Return a name in printable ASCII, cut with a digest if it is too long for a table."""
    shown = "".join(each if " " <= each <= "~" else "?" for each in name)
    if len(shown) <= _MAX_NAME:
        return shown
    digest = of_bytes(name.encode("utf-8", "surrogateescape")).hex[:16]
    return f"{shown[: _MAX_NAME - 20]}... {digest}"
