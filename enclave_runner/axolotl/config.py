"""Turn the config that a lockfile pins into the one that Axolotl runs, or refuse it.

docs/spec/axolotl.md says what is read, dropped and refused. `resolve` is pure. It gives the same
bytes on all machines with kernels for a GPU, and the same on all machines without. The host calls
it early, for convenience, but only the runner's call counts.

`input:NAME` and `input:NAME/PATH` are whole scalars and become paths in the sandbox. Keys that
would make Axolotl fetch, import, resume or send something, or that it would ignore, are refused by
name, with the nearest valid one; so is text where Axolotl takes only numbers. Left out: other
checks of value types, which Axolotl makes, and the content of files (`pickles.py`).
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aicert.formats.run_report import MAX_VALUES
from enclave_runner.axolotl import config_rules as rules
from enclave_runner.axolotl import kinds, plugins, strict_yaml
from enclave_runner.axolotl.config_rules import ConfigRefused
from enclave_runner.axolotl.known_keys import axolotl_keys
from enclave_runner.axolotl.selections import Selections
from enclave_runner.inputs import model_json
from enclave_runner.inputs.references import Reference, Selection
from enclave_runner.sandbox.places import TEMPLATES

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_REFERENCE = re.compile(r"input:([a-z0-9][a-z0-9-]{0,62})(?:/(.+))?")
_PATTERN = re.compile(r"[*?]")
# The key for pretraining on one column of text, and Axolotl's model for its entries.
_PRETRAINING, _PRETRAINING_MODEL = "pretraining_dataset", "PretrainingDataset"
_PATH_LIKE = re.compile(r"[/\\]|^~|^\.\.?$|^input:")


@dataclass(frozen=True, kw_only=True, slots=True)
class InputView:
    """The view of an input that references need: a file, or the paths in a directory.

    `code`: whether the lockfile lets the input's Python files run (`allow-remote-code`).
    """

    is_file: bool
    files: frozenset[str] = frozenset()
    code: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class AppliedOverride:
    """A key for which the runner uses another value than the config has (None: absent)."""

    key: str
    configured: object
    used: object
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Effective:
    """The effective config: `config` is what Axolotl reads, as canonical JSON, which is YAML.

    `references`: every input that it names, in the config's order. `selections`: the rows of the
    data inputs; the effective config names the place of their canonical form. `templates`: place →
    text of a chat template that the config contains; the runner writes it to a file, and the
    effective config names that file.
    """

    config: bytes
    overrides: tuple[AppliedOverride, ...]
    references: tuple[Reference, ...] = ()
    selections: tuple[Selection, ...] = ()
    templates: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        return "sha256:" + hashlib.sha256(self.config).hexdigest()

    def show_templates(self, folder: Path) -> dict[str, Path]:
        """Write the templates into `folder`; return place → file."""
        shown = {}
        for place, text in self.templates.items():
            folder.mkdir(exist_ok=True)
            shown[place] = folder / place.rpartition("/")[2]
            shown[place].write_bytes(text)
        return shown

    def code_of(self, inputs: Mapping[str, InputView]) -> frozenset[str]:
        """Return the inputs whose Python is to run: lockfile and config both ask for it."""
        asked = bool(json.loads(self.config).get(rules.REMOTE_CODE))
        return frozenset(name for name, view in inputs.items() if asked and view.code)


def refer(*, key: str, name: str, inside: str) -> Reference:
    """Make the reference under `key`, with the role that it has for Axolotl."""
    if key.partition(".")[0] in rules.ROWS:
        role = "file" if key in rules.MAYBE_REFERENCES else "data"
    else:
        role = rules.ROLES.get(key, "file")
    return Reference(key=key, name=name, inside=inside, role=role)


def resolve(
    config_bytes: bytes, inputs: Mapping[str, InputView], *, kernels: bool = False
) -> Effective:
    """Make the effective config; for `kernels` see `plugins.read`. Raises ConfigRefused."""
    try:
        document = strict_yaml.load(config_bytes)
    except strict_yaml.YamlError as error:
        raise ConfigRefused("", error.message) from error
    if not isinstance(document, dict) or not document:
        raise ConfigRefused("", "not a mapping of Axolotl's keys")
    # Plugins are read before the keys, since the keys of a refused plugin would be called unknown.
    taken = plugins.read(document, kernels=kernels)
    walk = _Walk(inputs, taken, rl=str(document.get("rl") or ""))
    settings = walk.mapping(document, (axolotl_keys().root,), "", "")
    if not settings.get("base_model"):
        raise ConfigRefused("base_model", "missing", hint=walk.hint())
    if settings.get("adapter") and settings.get("reinit_weights"):
        raise ConfigRefused(
            "reinit_weights",
            "the adapter would name a base model that it was not trained on",
            hint="remove `reinit_weights`, or train without `adapter`",
        )
    rows = Selections({name: None if view.is_file else view.files for name, view in inputs.items()})
    rows.rewrite(settings)
    overrides = (*walk.dropped, *_apply_overrides(settings, taken))
    kinds.check(settings)
    if len(overrides) > MAX_VALUES:
        raise ConfigRefused("", f"more than {MAX_VALUES} of its values are dropped or replaced")
    return Effective(
        config=strict_yaml.canonical(settings),
        overrides=overrides,
        references=tuple(walk.references),
        selections=rows.all,
        templates=walk.templates,
    )


def _apply_overrides(
    settings: dict[str, object], taken: plugins.Plugins
) -> tuple[AppliedOverride, ...]:
    applied = []
    for each in rules.OVERRIDES:
        configured = settings.get(each.key)
        if any(settings.get(key) for key in each.unless):
            continue
        if each.only_when_absent and configured is not None:
            continue
        used, why = each.value, each.why
        if each.key == "plugins":
            used = [rules.PLUGIN, *taken.run]
            lost = (f"without {name}: {reason}" for name, reason in taken.dropped_plugins.items())
            why = "; ".join((why, *lost))
        if used is None:
            settings.pop(each.key, None)
        else:
            settings[each.key] = used
        if configured != used:
            applied.append(AppliedOverride(key=each.key, configured=configured, used=used, why=why))
    return tuple(applied)


def _nearest(name: str, valid: Iterable[str]) -> str | None:
    close = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.6)
    return f"did you mean `{close[0]}`?" if close else None


def _refuse_generated(entry: Mapping[object, object], place: str) -> None:
    """Raise ConfigRefused if Axolotl would make the rows of this entry itself."""
    key, kind = "type", str(entry.get("type"))
    if kind.partition(".")[0].partition(":")[0] != rules.GENERATED_TYPE:
        key, kind = "path", str(entry.get("path"))
        if kind != rules.GENERATED_PATH:
            return
    raise ConfigRefused(
        f"{place}.{key}",
        f"{kind[:80]!r}: the trainer makes such rows itself, so they come from no input",
        hint="write the rows into a file, and name it: `path: input:NAME/FILE`",
    )


def _is_number(text: str) -> bool:
    """Return whether Axolotl may read the text as a number; YAML reads `1e-5` as text."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _asks_no_more(value: object, own: object) -> bool:
    """Return whether `value` asks for nothing beyond `own`, which Axolotl uses by itself."""
    if isinstance(value, dict) and isinstance(own, dict):
        return all(key in own and _asks_no_more(each, own[key]) for key, each in value.items())
    if isinstance(value, list) and isinstance(own, list):
        return all(each in own for each in value)
    return type(value) is type(own) and value == own


def _empty(value: object) -> bool:
    return value is None or value is False or value in ("", [], {})


class _Walk:
    """One pass over the config, which resolves, drops and refuses keys.

    In its methods, `rule` is the dotted key without list positions, and `place` the one with them.
    """

    def __init__(self, inputs: Mapping[str, InputView], taken: plugins.Plugins, *, rl: str) -> None:
        self._inputs = inputs
        self._keys = axolotl_keys()
        self._plugins = taken
        self._rl = rl
        self.references: list[Reference] = []
        self.templates: dict[str, bytes] = {}
        self.dropped: list[AppliedOverride] = []

    def hint(self) -> str:
        names = sorted(self._inputs)
        if not names:
            return "declare it under the run's inputs"
        return f"`input:NAME` or `input:NAME/FILE`, where NAME is one of: {', '.join(names)}"

    def mapping(
        self, value: dict[object, object], models: tuple[str, ...], rule: str, place: str
    ) -> dict[str, object]:
        if rule == "":
            models = (*models, *self._plugins.models)
        kept = self._kept(value, models, rule, place)
        if rule in rules.ROWS:
            _refuse_generated(kept, place)
        known = self._known(kept, models, rule, place) if models else None
        result: dict[str, object] = {}
        for key, each in kept.items():
            inner = f"{place}.{key}" if place else str(key)
            if not isinstance(key, str) and rule.rpartition(".")[2] not in rules.NUMBERED:
                raise ConfigRefused(inner, "a key must be a string: quote it")
            name = str(key)
            inner_rule = f"{rule}.{name}" if rule else name
            self._refuse(name, inner_rule, inner, each, free=known is None)
            below = known[name] if known is not None else ()
            result[name] = self._value(each, below, inner_rule, inner)
        return result

    def _kept(
        self, value: dict[object, object], models: tuple[str, ...], rule: str, place: str
    ) -> dict[object, object]:
        """Return a mapping without dropped keys, and without unknown keys that have no value.

        Dropped keys are recorded.
        """
        kept: dict[object, object] = {}
        read = self._candidates(models, rule)
        own = self._taken_by_itself(value, rule)
        for key, each in value.items():
            name = str(key)
            inner_rule = f"{rule}.{name}" if rule else name
            why = self._why_dropped(name, inner_rule)
            known = not models or any(name in keys for keys in read)
            if not known and name in own and _asks_no_more(each, own[name]):
                why = rules.BY_ITSELF
            says = not _empty(each) or (not known and each is not None)
            if why is not None and says and not self._is_secret(name, inner_rule):
                self.dropped.append(
                    AppliedOverride(
                        key=f"{place}.{name}" if place else name,
                        configured=each,
                        used=None,
                        why=why,
                    )
                )
            elif each is not None or (known and why is None):
                kept[key] = each
        return kept

    def _why_dropped(self, name: str, rule: str) -> str | None:
        if rule != name:
            return rules.DROPPED.get(rule)
        if name in rules.REFUSED:
            return None
        if name.startswith(rules.TRACKERS) or name in rules.TRACKER_SWITCHES:
            return rules.LEAVES
        return self._plugins.dropped.get(name, rules.DROPPED.get(name))

    def _known(
        self, value: dict[object, object], models: tuple[str, ...], rule: str, place: str
    ) -> Mapping[str, tuple[str, ...]]:
        """Return the keys of `value` and the models below each, from models that have every key.

        Raises ConfigRefused if none of the models that are allowed here has all keys.
        """
        names = {str(key) for key in value}
        candidates = self._candidates(models, rule)
        fitting = [candidate for candidate in candidates if names <= candidate.keys()]
        if fitting:
            return {
                key: tuple(sorted({each for candidate in fitting for each in candidate[key]}))
                for key in names
            }
        best = min(candidates, key=lambda candidate: len(names - candidate.keys()))
        unknown = next(str(key) for key in value if str(key) not in best)
        reason, hint = "Axolotl has no such key and would ignore it", _nearest(unknown, best)
        adding = plugins.adding(unknown) if rule == "" else None
        if adding is not None:
            reason = f"it belongs to the plugin {adding}, which `plugins` does not name"
            hint = f"add `{adding}` to `plugins`, or remove `{unknown}`"
        elif any(unknown in self._keys.models[model] for model in models):
            cause = f"`rl: {self._rl}`" if self._rl else "this `type`"
            cause = f"`{_PRETRAINING}`" if rule == _PRETRAINING else cause
            reason = f"with {cause} Axolotl does not read it, and would ignore it"
            hint = f"remove `{unknown}`"
        raise ConfigRefused(f"{place}.{unknown}" if place else unknown, reason, hint=hint)

    def _candidates(
        self, models: tuple[str, ...], rule: str
    ) -> list[Mapping[str, tuple[str, ...]]]:
        """Return the keys that Axolotl reads here, for each model that it may use."""
        model = self._entry_model(rule)
        if model is not None:
            # The runner itself reads some keys, whether or not Axolotl does.
            return [dict.fromkeys(rules.OWN_ROWS_KEYS, ()) | dict(self._keys.models[model])]
        candidates: list[Mapping[str, tuple[str, ...]]]
        candidates = [self._keys.models[model] for model in models]
        if rule == "":
            # One model has the keys of all, as Axolotl joins its plugins' keys to its own.
            return [{key: below for each in candidates for key, below in each.items()}]
        return candidates

    def _entry_model(self, rule: str) -> str | None:
        """Return the model into which Axolotl reads an entry of rows; None elsewhere.

        Axolotl accepts the keys of all its models there, but reads only those of this one.
        """
        if rule == _PRETRAINING:
            return _PRETRAINING_MODEL
        of_rl = self._keys.dataset_models
        return of_rl.get(self._rl, of_rl[""]) if rule == "datasets" else None

    def _taken_by_itself(self, entry: Mapping[object, object], rule: str) -> Mapping[str, object]:
        """Return keys that Axolotl does not read in this entry, and the values that it uses."""
        kind, column = entry.get("type"), entry.get("text_column")
        own = rules.TAKEN_BY_ITSELF.get(
            (self._entry_model(rule) or "", str(kind or "").removesuffix(".load")), {}
        )
        return {} if column not in (None, "", own.get("field", column)) else own

    def _is_secret(self, name: str, rule: str) -> bool:
        if any(part in name.lower() for part in rules.SECRET_PARTS):
            return True
        text = any(part in rules.TEXT for part in rule.split(".")[:-1])
        return not text and name.lower() in rules.SECRET_KEYS

    def _refuse(self, name: str, rule: str, place: str, value: object, *, free: bool) -> None:
        if free and name in rules.REFUSED_WHEN_FALSE and not value:
            raise ConfigRefused(place, f"refused: {rules.REFUSED_WHEN_FALSE[name]}")
        if _empty(value):
            return
        reason, hint = rules.REFUSED.get(rule), f"remove `{name}`"
        if rule == rules.REMOTE_CODE:
            hint = f"read the model's *.py, set `allow-remote-code = true` at its input; or {hint}"
            reason = None if any(view.code for view in self._inputs.values()) else reason
        if reason is None and free:
            reason = rules.REFUSED_ANYWHERE.get(name)
        if self._is_secret(name, rule):
            reason = rules.CONFIG_IS_PUBLIC
        if reason is not None:
            raise ConfigRefused(place, f"refused: {reason}", hint=hint)

    def _value(self, value: object, below: tuple[str, ...], rule: str, place: str) -> object:
        if isinstance(value, dict):
            if rule in rules.REFERENCES and not below:
                raise ConfigRefused(place, "must be an `input:` reference", hint=self.hint())
            return self.mapping(value, below, rule, place)
        if isinstance(value, list):
            return [
                self._value(each, below, rule, f"{place}[{index}]")
                for index, each in enumerate(value)
            ]
        if isinstance(value, str):
            return self._text(value, rule, place)
        if rule in rules.REFERENCES and not _empty(value):
            raise ConfigRefused(place, "must be an `input:` reference", hint=self.hint())
        whole = self._keys.numbers.get(rule) == "a whole number"
        if whole and isinstance(value, float) and not value.is_integer():
            raise ConfigRefused(place, f"{value!r} is not a whole number")
        return value

    def _text(self, value: str, rule: str, place: str) -> str:
        name = rule.rpartition(".")[2]
        if rule in rules.REFERENCES and value:
            return self._reference(value, rule, place)
        if rule in rules.MAYBE_REFERENCES and value:
            if value.startswith("input:"):
                return self._reference(value, rule, place)
            if name == "chat_template_jinja" and "{" in value:
                return self._template(value, place)
            raise ConfigRefused(place, "names no input", hint=self.hint())
        if rule in rules.OVERRIDDEN:
            return value
        wanted = self._keys.numbers.get(rule)
        if wanted and value and not _is_number(value):
            raise ConfigRefused(place, f"{value[:80]!r} is not {wanted}")
        words = self._keys.words.get(rule)
        if words and value and value.lower() not in {word.lower() for word in words}:
            raise ConfigRefused(
                place,
                f"{value[:80]!r} is not one of Axolotl's words for it",
                hint=_nearest(value, words) or f"one of: {', '.join(words)}",
            )
        if any(part in rules.TEXT or part.startswith("field") for part in rule.split(".")):
            return value
        self._choice(value, name, rule, place)
        if _PATH_LIKE.search(value):
            raise ConfigRefused(
                place,
                f"{value[:80]!r} looks like a path or a hub name, but this key takes neither",
                hint="only keys that name a model, tokenizer, data set or adapter take `input:`",
            )
        return value

    def _template(self, text: str, place: str) -> str:
        """Return the place where the runner will write a template from the config.

        Axolotl never gets the text itself, since it would open the text if it were a path.
        """
        # In a file, such a text would no longer be taken for a path, but it would not be the
        # intended template either.
        if text.startswith("/") or ".." in text.split("/"):
            raise ConfigRefused(
                place,
                "Axolotl opens a template that is a path",
                hint="give the template as a file: input:NAME/FILE",
            )
        word = model_json.included(text)
        if word is not None:
            raise ConfigRefused(place, f"its `{word}` would read another file")
        try:
            data = text.encode()
        except UnicodeEncodeError:
            raise ConfigRefused(place, "it is a template that is not UTF-8") from None
        file = f"{TEMPLATES}/{hashlib.sha256(data).hexdigest()}.jinja"
        self.templates[file] = data
        return file

    def _choice(self, value: str, name: str, rule: str, place: str) -> None:
        top = rule.partition(".")[0]
        of_dataset = top in ("datasets", "test_datasets", "pretraining_dataset")
        valid: tuple[str, ...] = ()
        if of_dataset and name == "type":
            valid = self._keys.dataset_types
        elif of_dataset:
            valid = rules.CHOICES.get(name, ())
        if valid and value and value not in valid:
            raise ConfigRefused(
                place,
                f"{value[:80]!r} is not one of Axolotl's own, and any other name would import code",
                hint=_nearest(value, valid) or f"one of: {', '.join(valid[:8])}",
            )
        if rule in rules.IDENTIFIERS and value and not _IDENTIFIER.fullmatch(value):
            raise ConfigRefused(place, f"{value[:80]!r} is not the name of a class of transformers")

    def _reference(self, value: str, rule: str, place: str) -> str:
        match = _REFERENCE.fullmatch(value)
        if match is None:
            raise ConfigRefused(
                place,
                f"{value[:80]!r} is a hub name or a path, but only declared inputs can be read",
                hint=self.hint(),
            )
        name, inside = match[1], match[2]
        view = self._inputs.get(name)
        if view is None:
            raise ConfigRefused(
                place,
                f"the run declares no input {name!r}",
                hint=_nearest(name, self._inputs) or self.hint(),
            )
        reference = refer(key=rule, name=name, inside=inside or "")
        self.references.append(reference)
        if inside is None:
            return reference.place
        if view.is_file:
            raise ConfigRefused(place, f"input {name!r} is a file", hint=f"use `input:{name}`")
        if rule.endswith(".data_files") and _PATTERN.search(inside):
            # The selection of rows decides which files the pattern names.
            return reference.place
        if inside not in view.files and not any(
            each.startswith(inside + "/") for each in view.files
        ):
            raise ConfigRefused(
                place,
                f"input {name!r} holds no {inside[:80]!r}",
                hint=_nearest(inside, sorted(view.files)[:2000]),
            )
        return reference.place
