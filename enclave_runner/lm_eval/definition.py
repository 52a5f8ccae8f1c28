"""Read a task file of lm-evaluation-harness as data: a closed list of keys, values by their types.

The harness would run code that a task file names, import it from files beside it, and render its
templates without a sandbox. Here a task is strings, numbers and lists; what decides prompts and
scores becomes its definition, which the results name by digest (docs/spec/lm-eval.md). Its name
decides nothing, so it is no part of that.
"""

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from aicert.errors import ConfigError
from aicert.formats.evaluated_tasks import FILTER, HIGHEST, KINDS, LABEL, MOST_SHOTS, NO_FILTER
from enclave_runner.axolotl import strict_yaml

EVALUATED, FEW_SHOT = "test", "fewshot"
# Formats of rows that `dataset_path` may name.
FORMS = ("csv", "json", "parquet", "text")
# The metrics that the harness computes if a task names none, and their aggregations.
DEFAULT_METRICS: Mapping[str, tuple[str, ...]] = {
    "generate_until": ("exact_match",),
    "loglikelihood": ("perplexity", "acc"),
    "loglikelihood_rolling": ("word_perplexity", "byte_perplexity", "bits_per_byte"),
    "multiple_choice": ("acc", "acc_norm"),
}
_AGGREGATIONS = {
    "acc": "mean",
    "acc_bytes": "mean",
    "acc_norm": "mean",
    "bits_per_byte": "bits_per_byte",
    "byte_perplexity": "weighted_perplexity",
    "exact_match": "mean",
    "perplexity": "perplexity",
    "word_perplexity": "weighted_perplexity",
}
_SPLITS = ("test_split", "validation_split", "training_split", "fewshot_split")
# Keys with text of which prompts are made: a template, or the name of a column.
_TEXTS = (
    "description", "doc_to_choice", "doc_to_target", "doc_to_text", "fewshot_delimiter",
    "gen_prefix", "target_delimiter",
)  # fmt: skip
_LISTS = ("filter_list", "metric_list")
_TABLES = ("dataset_kwargs", "fewshot_config", "generation_kwargs", "metadata")
_KEYS = frozenset(
    (*_SPLITS, *_TEXTS, *_LISTS, *_TABLES, "dataset_path", "num_fewshot", "output_type", "task")
)
_NEEDED = ("dataset_kwargs", "dataset_path", "doc_to_target", "output_type", "task")
# Keys with which the harness would run code or ask a hub, for a better refusal than "no such key".
_CODE = frozenset(
    (
        "class", "custom_dataset", "dataset_name", "doc_to_audio", "doc_to_image", "include",
        "process_docs", "process_results", "unsafe_code", "use_prompt",
    )
)  # fmt: skip
# The filters' arguments and their types.
_FILTERS: Mapping[str, Mapping[str, type]] = {
    "lowercase": {},
    "regex": {"fallback": str, "group_select": int, "regex_pattern": str},
    "remove_whitespace": {},
    "take_first": {},
    "uppercase": {},
}
_MATCHING: Mapping[str, type] = {
    "ignore_case": bool, "ignore_numbers": bool, "ignore_punctuation": bool,
    "regexes_to_ignore": list,
}  # fmt: skip
REFERENCE = re.compile(r"input:([a-z0-9][a-z0-9-]{0,62})(?:/(.+))?")
_TAG = "a task here is data: write a template, or the name of a column"
_DATA = "write `dataset_path: json` and `dataset_kwargs: {data_files: {test: input:NAME}}`"
_SPLIT = re.compile(r"[A-Za-z0-9_]{1,64}")
_NO_FILTER = {"name": NO_FILTER}
_MOST_TOKENS = 1 << 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """The files that hold a split: paths in one input, or "" if the input is itself a file.

    `form`: how their rows are written.
    """

    input: str
    split: str
    files: tuple[str, ...]
    form: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A task that passed every check.

    `definition`: what decides its prompts and scores, in the harness's own keys. `evaluated`: its
    rows; `examples`: those that few-shot examples come from, if these are others.
    """

    name: str
    definition: Mapping[str, object]
    evaluated: Source
    examples: Source | None

    @property
    def sources(self) -> tuple[Source, ...]:
        """Everything that it reads rows from."""
        return (self.evaluated,) if self.examples is None else (self.evaluated, self.examples)

    @property
    def kind(self) -> str:
        """The harness's output type."""
        return str(self.definition["output_type"])

    @property
    def measures(self) -> list[tuple[str, str]]:
        """What is computed: each metric on what each filter leaves of the text, sorted."""
        metrics = cast("list[dict[str, str]]", self.definition["metric_list"])
        filters = cast("list[dict[str, str]]", self.definition.get("filter_list", [_NO_FILTER]))
        return sorted((one["metric"], each["name"]) for one in metrics for each in filters)

    @property
    def shots(self) -> int:
        """How many examples come before each row."""
        return int(str(self.definition["num_fewshot"]))


def read(data: bytes, where: str, shots: int | None) -> Task:
    """Read one task file. `where`: its name in errors. `shots`: as the run's config has it, if it
    does.

    As in the harness, a task with `num_fewshot: 0` keeps it. Raises ConfigError.
    """
    return _Reader(data, where).task(shots)


class _Reader:
    def __init__(self, data: bytes, where: str) -> None:
        self._where = where
        try:
            document = strict_yaml.load(data)
        except strict_yaml.YamlError as error:
            # The reader's own advice, to quote a tag, would make a prompt of it.
            message, _, _ = error.message.partition(": quote it")
            hint = _TAG if message != error.message else None
            raise self._wrong("", message, hint) from error
        if not isinstance(document, dict):
            raise self._wrong("", "not a mapping of a task's keys")
        self._settings: dict[object, object] = document
        self._check_keys()

    def task(self, shots: int | None) -> Task:
        kind = self._choice("output_type", KINDS)
        own = self._number("num_fewshot", 0, MOST_SHOTS) if "num_fewshot" in self._settings else 0
        keeps = "num_fewshot" in self._settings and own == 0
        number = own if shots is None or keeps else shots
        sources = self._sources()
        evaluated = self._evaluated(sources)
        examples = self._examples(sources) if number else None
        same = examples is not None and examples.split == evaluated.split
        definition: dict[str, object] = {
            "fewshot_split": EVALUATED if same or examples is None else FEW_SHOT,
            "num_fewshot": number,
            "output_type": kind,
            "test_split": EVALUATED,
            "metric_list": self._metrics(kind),
            **self._texts(kind),
        }
        if "filter_list" in self._settings:
            definition["filter_list"] = self._filters(kind)
        if kind == "generate_until":
            definition["generation_kwargs"] = self._generation(str(definition["fewshot_delimiter"]))
        if "fewshot_config" in self._settings:
            definition["fewshot_config"] = {"sampler": self._sampler()}
        self._check_metadata()
        name = self._settings["task"]
        if not isinstance(name, str) or not LABEL.fullmatch(name):
            raise self._wrong("task", "a name has letters, digits, `_`, `-` and `.`, at most 64")
        return Task(
            name=name,
            definition=definition,
            evaluated=evaluated,
            examples=None if same else examples,
        )

    def _wrong(self, key: str, problem: str, hint: str | None = None) -> ConfigError:
        place = f"{self._where}: {key}" if key else self._where
        return ConfigError(f"config: {place}: {problem}", hint=hint)

    def _check_keys(self) -> None:
        for key in self._settings:
            if key in _CODE:
                hint = _DATA if key == "dataset_name" else f"remove `{key}`"
                raise self._wrong(str(key), "a task here runs no code, and reads only inputs", hint)
            if key not in _KEYS:
                close = difflib.get_close_matches(str(key), sorted(_KEYS), n=1)
                hint = f"did you mean `{close[0]}`?" if close else "docs/spec/lm-eval.md lists them"
                raise self._wrong(f"{str(key)[:80]!a}", "a task here has no such key", hint)
        for key in _NEEDED:
            if self._settings.get(key) in (None, ""):
                raise self._wrong(key, "missing")

    def _choice(self, key: str, allowed: tuple[str, ...]) -> str:
        value = self._settings[key]
        if not isinstance(value, str) or value not in allowed:
            hint = _DATA if key == "dataset_path" else None
            raise self._wrong(key, f"{str(value)[:80]!a} is none of {', '.join(allowed)}", hint)
        return value

    def _number(self, key: str, low: int, high: int) -> int:
        value = self._settings.get(key)
        if type(value) is not int or not low <= value <= high:
            raise self._wrong(key, f"expected a number from {low} to {high}")
        return value

    def _table(self, key: str, value: object) -> dict[str, object]:
        if not isinstance(value, dict) or not all(isinstance(each, str) for each in value):
            raise self._wrong(key, "expected a mapping")
        return value

    def _list(self, key: str, value: object) -> list[object]:
        if not isinstance(value, list) or not 0 < len(value) <= 32:
            raise self._wrong(key, "expected a list of 1 to 32 entries")
        return value

    def _sources(self) -> dict[str, Source]:
        arguments = self._table("dataset_kwargs", self._settings["dataset_kwargs"])
        if arguments.keys() != {"data_files"}:
            raise self._wrong("dataset_kwargs", "only `data_files` is read")
        files = arguments["data_files"]
        by_split = files if isinstance(files, dict) else {"train": files}
        return {
            split: self._source(split, each)
            for split, each in self._table("dataset_kwargs.data_files", by_split).items()
        }

    def _source(self, split: str, value: object) -> Source:
        key = f"dataset_kwargs.data_files.{split[:64]}"
        if not _SPLIT.fullmatch(split):
            raise self._wrong("dataset_kwargs.data_files", f"{split[:80]!a} is no name of a split")
        places = [value] if isinstance(value, str) else self._list(key, value)
        matches = [REFERENCE.fullmatch(each) if isinstance(each, str) else None for each in places]
        named = [match for match in matches if match is not None]
        names = {match[1] for match in named}
        if len(named) < len(places) or len(names) != 1:
            raise self._wrong(
                key, "must be an `input:` reference, or files of one input",
                f"write `{split}: input:NAME`, or `{split}: [input:NAME/FILE, …]`",
            )  # fmt: skip
        paths = tuple(match[2] or "" for match in named)
        if any(part in ("", ".", "..") for path in paths if path for part in path.split("/")):
            raise self._wrong(key, "this is not a path in an input")
        if len(set(paths)) < len(paths):
            raise self._wrong(key, "a file is named twice")
        return Source(
            input=names.pop(),
            split=split,
            files=paths,
            form=self._choice("dataset_path", FORMS),
        )

    def _split(self, key: str, sources: Mapping[str, Source]) -> Source | None:
        value = self._settings.get(key)
        if value is None:
            return None
        if not isinstance(value, str) or value not in sources:
            raise self._wrong(
                key, f"{str(value)[:80]!a} is no split of `dataset_kwargs.data_files`"
            )
        return sources[value]

    def _evaluated(self, sources: Mapping[str, Source]) -> Source:
        source = self._split("test_split", sources) or self._split("validation_split", sources)
        if source is None:
            raise self._wrong("test_split", "missing", "name the split to evaluate")
        return source

    def _examples(self, sources: Mapping[str, Source]) -> Source:
        """Return where few-shot examples come from, in the harness's order of preference."""
        for key in ("fewshot_split", "training_split", "validation_split"):
            source = self._split(key, sources)
            if source is not None:
                return source
        raise self._wrong("fewshot_split", "missing, but there are few-shot examples")

    def _texts(self, kind: str) -> dict[str, object]:
        texts: dict[str, object] = {
            "description": "", "doc_to_text": "", "fewshot_delimiter": "\n\n",
            "target_delimiter": " ",
        }  # fmt: skip
        for key in _TEXTS:
            value = self._settings.get(key)
            if value is None:
                continue
            choices = key == "doc_to_choice" and isinstance(value, list)
            number = key == "doc_to_target" and type(value) is int
            if choices:
                value = self._strings(key, value)
            elif not isinstance(value, str) and not number:
                raise self._wrong(key, "expected a text: a template, or the name of a column")
            texts[key] = value
        if (kind == "multiple_choice") != ("doc_to_choice" in texts):
            raise self._wrong("doc_to_choice", "multiple_choice needs it, and no other type has it")
        return texts

    def _strings(self, key: str, value: object) -> list[object]:
        if not all(isinstance(each, str) for each in self._list(key, value)):
            raise self._wrong(key, "expected a list of texts")
        return self._list(key, value)

    def _entry(self, key: str, value: object, name: str, allowed: Mapping[str, type]) -> None:
        """Check the arguments of a metric or a filter."""
        for each, argument in self._table(key, value).items():
            kind = allowed.get(each)
            if kind is None or type(argument) is not kind:
                raise self._wrong(key, f"{name} has no {each[:80]!a} of this type")
            if kind is list:
                self._strings(f"{key}.{each}", argument)
            if "regex" in each:
                self._check_patterns(key, argument)

    def _check_patterns(self, key: str, value: object) -> None:
        for pattern in value if isinstance(value, list) else [value]:
            try:
                re.compile(str(pattern))
            except (re.error, RecursionError, OverflowError) as error:
                raise self._wrong(key, f"not a regular expression: {error}") from None

    def _metrics(self, kind: str) -> list[dict[str, object]]:
        allowed = HIGHEST[kind]
        asked: list[object] = [{"metric": each} for each in DEFAULT_METRICS[kind]]
        if "metric_list" in self._settings:
            asked = self._list("metric_list", self._settings["metric_list"])
        metrics: dict[str, dict[str, object]] = {}
        for index, value in enumerate(asked):
            key = f"metric_list[{index}]"
            entry = dict(self._table(key, value))
            name = str(entry.pop("metric", None))
            if name not in allowed or name in metrics:
                offered = ", ".join(sorted(allowed))
                raise self._wrong(key, f"{name[:80]!a} twice, or none of {kind}'s: {offered}")
            usual = {"aggregation": _AGGREGATIONS[name], "higher_is_better": allowed[name] == 1}
            for each, expected in usual.items():
                if entry.pop(each, expected) != expected:
                    raise self._wrong(key, f"{each} of {name} is {str(expected).lower()}")
            self._entry(key, entry, name, _MATCHING if name == "exact_match" else {})
            metrics[name] = {"metric": name, **usual, **entry}
        return [metrics[name] for name in sorted(metrics)]

    def _filters(self, kind: str) -> list[dict[str, object]]:
        if kind != "generate_until":
            raise self._wrong("filter_list", f"{kind} generates no text to filter")
        pipelines: dict[str, dict[str, object]] = {}
        for index, value in enumerate(self._list("filter_list", self._settings["filter_list"])):
            key = f"filter_list[{index}]"
            entry = self._table(key, value)
            name = entry.get("name")
            if entry.keys() != {"filter", "name"} or not isinstance(name, str):
                raise self._wrong(key, "expected `name` and `filter`")
            if not FILTER.fullmatch(name) or name in pipelines:
                raise self._wrong(f"{key}.name", "twice, or not a name")
            steps = [
                self._filter(f"{key}.filter[{number}]", each)
                for number, each in enumerate(self._list(f"{key}.filter", entry["filter"]))
            ]
            if steps[-1] != {"function": "take_first"}:
                raise self._wrong(f"{key}.filter", "must end with `function: take_first`")
            pipelines[name] = {"filter": steps, "name": name}
        return list(pipelines.values())

    def _filter(self, key: str, value: object) -> dict[str, object]:
        entry = self._table(key, value)
        name = entry.get("function")
        if not isinstance(name, str) or name not in _FILTERS:
            raise self._wrong(key, f"function: none of {', '.join(_FILTERS)}")
        arguments = {each: argument for each, argument in entry.items() if each != "function"}
        self._entry(key, arguments, name, _FILTERS[name])
        return entry

    def _generation(self, delimiter: str) -> dict[str, object]:
        """Return how text is generated: always greedily, so that it is the same every time."""
        asked = self._table("generation_kwargs", self._settings.get("generation_kwargs", {}))
        until: object = asked.get("until", [delimiter])
        tokens = asked.get("max_gen_toks", 256)
        greedy = not asked.get("do_sample", False) and asked.get("temperature", 0) == 0
        if not greedy or asked.keys() - {"do_sample", "max_gen_toks", "temperature", "until"}:
            raise self._wrong(
                "generation_kwargs", "text is generated greedily, up to `until` or `max_gen_toks`",
                "remove everything but these two",
            )  # fmt: skip
        if type(tokens) is not int or not 0 < tokens <= _MOST_TOKENS:
            raise self._wrong(
                "generation_kwargs.max_gen_toks", f"expected a number from 1 to {_MOST_TOKENS}"
            )
        texts = [until] if isinstance(until, str) else until
        return {
            "do_sample": False,
            "max_gen_toks": tokens,
            "temperature": 0.0,
            "until": self._strings("generation_kwargs.until", texts),
        }

    def _sampler(self) -> str:
        asked = self._table("fewshot_config", self._settings["fewshot_config"])
        sampler = asked.get("sampler")
        if asked.keys() != {"sampler"} or sampler not in ("default", "first_n"):
            raise self._wrong("fewshot_config", "expected only `sampler: default` or `first_n`")
        return str(sampler)

    def _check_metadata(self) -> None:
        metadata = self._table("metadata", self._settings.get("metadata", {}))
        if metadata.keys() - {"version"}:
            raise self._wrong("metadata", "only `version` is read, and it decides nothing")


# What reads the file of a task: an input's name, and a path in it or "".
Files = Callable[[str, str], bytes]
