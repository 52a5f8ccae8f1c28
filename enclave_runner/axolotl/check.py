"""Check a training's config and models as the runner will, before the host starts a machine.

This only saves time: the runner checks them again in the machine, and decides.

`python -m enclave_runner.axolotl.check --config FILE [--kernels]` reads the run's inputs from
stdin, as JSON: `{"NAME": INPUT}`. If nothing is refused, it exits with 0 and prints two lines: the
keys of the config that ask for checkpoints, which the runner drops, as a JSON list of `KEY: VALUE`;
and the effective config. If something is refused, it exits with the error's code and prints one
line of JSON: `{"message", "hint"}`.

INPUT has `files` (the SHA-256 of each path; null if the input is one file), `path` (null if its
bytes are not here), `allowPickle` and `allowRemoteCode`. The program reads the config, and those
files of models that the trainer would see, but no rows.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from aicert.errors import AicertError
from aicert.formats.digest import FileFact
from aicert.formats.listing import EMPTY_DIR
from enclave_runner.axolotl import config, config_rules
from enclave_runner.axolotl.known_keys import axolotl_keys
from enclave_runner.inputs import model_files
from enclave_runner.inputs.measure import MeasuredInput
from enclave_runner.inputs.references import Reference

# For these model types Transformers takes a tekken.json before any other file, with a tokenizer
# that Axolotl can save only if the config asks for it (docs/adr/0053-mistral-common.md).
_MISTRAL = ("ministral", "ministral3", "mistral", "mistral3", "mixtral", "pixtral", "voxtral",
            "voxtral_realtime")  # fmt: skip

# The keys of which Axolotl takes the first that is set.
_TOKENIZERS = ("tokenizer_config", "base_model_config", "base_model")


def main() -> int:
    """Check one config, and the models that it names."""
    parser = parser_of(__doc__)
    parser.add_argument("--kernels", action="store_true", help="check as on a machine with a GPU")
    arguments = parser.parse_args()
    return answer(arguments, partial(_check, kernels=arguments.kernels))


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """Return the parser of the command line that every trainer's check has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--config", required=True, type=Path, help="the run's config")
    return parser


def answer(
    arguments: argparse.Namespace, check: Callable[[bytes, Mapping[str, Any]], Iterable[str]]
) -> int:
    """Check the config and the inputs on stdin; print what `check` returns, or its refusal."""
    inputs: Mapping[str, Any] = json.load(sys.stdin)
    try:
        lines = list(check(arguments.config.read_bytes(), inputs))
    except AicertError as error:
        print(json.dumps({"message": error.message, "hint": error.hint}))
        return error.exit_code
    for line in lines:
        print(line)
    return 0


def views_of(inputs: Mapping[str, Any]) -> dict[str, config.InputView]:
    """Return the inputs as configs see them, none of them with code of its own."""
    return {
        name: config.InputView(is_file=item["files"] is None, files=frozenset(item["files"] or ()))
        for name, item in inputs.items()
    }


def check_models(
    references: Iterable[Reference],
    inputs: Mapping[str, Any],
    *,
    pickles: frozenset[str] = frozenset(),
    allow_code: frozenset[str] = frozenset(),
) -> dict[str, MeasuredInput]:
    """Check the models that are here as the runner will; return the folders that are here."""
    at_hand = {item.name: item for item in inputs_at_hand(inputs)}
    with tempfile.TemporaryDirectory() as folder:
        model_files.prepare(
            [each for each in references if is_whole(each, at_hand)],
            at_hand.values(),
            pickles,
            Path(folder),
            model_types=axolotl_keys().model_types,
            allow_code=allow_code,
        )
    return at_hand


def _check(data: bytes, inputs: Mapping[str, Any], *, kernels: bool) -> Iterator[str]:
    views = {
        name: replace(view, code=inputs[name]["allowRemoteCode"])
        for name, view in views_of(inputs).items()
    }
    effective = config.resolve(data, views, kernels=kernels)
    code = effective.code_of(views)
    pickles = frozenset(name for name, item in inputs.items() if item["allowPickle"])
    at_hand = check_models(effective.references, inputs, pickles=pickles, allow_code=code)
    if not code:
        _refuse_unasked_tekken(effective, at_hand)
    yield json.dumps([f"{o.key}: {o.configured}" for o in effective.overrides if _drops(o)])
    yield effective.config.decode("ascii")


def _refuse_unasked_tekken(
    effective: config.Effective, at_hand: Mapping[str, MeasuredInput]
) -> None:
    """Refuse a training that Axolotl ends before its first step, when it saves the tokenizer."""
    settings = json.loads(effective.config)
    of_a_kind = settings.get("tokenizer_type") not in (None, "", "AutoTokenizer")
    if settings.get("tokenizer_use_mistral_common") or of_a_kind:
        return
    by_key = {each.key: each for each in effective.references}
    reference = next(by_key[key] for key in _TOKENIZERS if key in by_key)
    item = at_hand.get(reference.name)
    beside = f"{reference.inside}/" if reference.inside else ""
    named = f"{beside}config.json"
    # Axolotl takes this word in a name for the switch.
    asked = settings.get("tokenizer_use_mistral_common") is None and any(
        "magistral" in str(settings.get(each)).lower() for each in _TOKENIZERS
    )
    if item is None or asked or not {named, f"{beside}tekken.json"} <= item.files.keys():
        return
    if json.loads((item.path / named).read_bytes()).get("model_type") in _MISTRAL:
        other = "`tokenizer_type: TokenizersBackend` for its tokenizer.json"
        raise config_rules.ConfigRefused(
            reference.key,
            f"{item.name}/{beside}tekken.json is this model's tokenizer, and Axolotl cannot save "
            "that unless the config asks for it",
            hint="write `tokenizer_use_mistral_common: true`"
            + (f", or {other}" if f"{beside}tokenizer.json" in item.files else ""),
        )


def _drops(override: config.AppliedOverride) -> bool:
    """Return whether this key of the config asked for checkpoints, which are not kept."""
    empty = override.configured in (None, False, "no")
    return override.why == config_rules.NO_CHECKPOINTS and not empty


def is_whole(reference: Reference, at_hand: Mapping[str, MeasuredInput]) -> bool:
    """Return whether the referenced input is here with the file that its role needs.

    If it is not, it is not checked early; the runner refuses a folder that lacks such a file.
    """
    item = at_hand.get(reference.name)
    needed = model_files.NEEDED.get(reference.role)
    place = "/".join(part for part in (reference.inside, needed) if part)
    return item is not None and (needed is None or place in item.files)


def inputs_at_hand(inputs: Mapping[str, Any]) -> Iterator[MeasuredInput]:
    """Yield the folders whose files are all here; they were hashed when locked or fetched."""
    for name, item in inputs.items():
        if item["path"] is None or item["files"] is None:
            continue
        root = Path(item["path"])
        if all((root / path).is_file() for path in item["files"]):
            files = {
                path: FileFact(sha256=digest, size=(root / path).stat().st_size)
                for path, digest in item["files"].items()
            }
            yield MeasuredInput(name=name, path=root, digest=EMPTY_DIR, files=files, stat_keys={})


if __name__ == "__main__":
    sys.exit(main())
