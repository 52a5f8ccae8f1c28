"""Tokenise rows with Axolotl's own prompt strategies: token ids, and which of them are trained.

No format is known here: each strategy says which function it would map over a data set, and that
function is called with one row at a time, so that it is clear which tokens come from which row.
Packing only joins sequences and is left out. Of a pair, the chosen answer counts; of labelled
answers, the desired ones count.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import IterableDataset

from enclave_runner.axolotl.measuring.errors import CannotMeasureError
from enclave_runner.axolotl.measuring.template_tokens import Piece, squeeze

IGNORED = -100
# A character takes at most four bytes, and therefore at most four tokens.
_LONGEST_CHARACTER = 4
# The characters by which vocabularies spell a space.
_SPACES = " \u0120\u2581"

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One sequence of tokens. `labels`: the id where a token is trained, `IGNORED` elsewhere."""

    ids: list[int]
    labels: list[int]

    @property
    def trained(self) -> int:
        """The number of trained tokens; the first token never counts, as nothing predicts it."""
        return sum(label != IGNORED for label in self.labels[1:])


Tokenise = Callable[[Row], list[Example]]


def tokeniser(cfg: Any, tokenizer: Any, key: str, index: int, columns: Sequence[str]) -> Tokenise:
    """Return a function that turns a row of the config's data set `key`[`index`] into sequences."""
    if cfg.rl:
        make = _preference(cfg, tokenizer, index)
    elif key == "pretraining_dataset":
        make = _pretraining(cfg, tokenizer)
    else:
        make = _supervised(cfg, tokenizer, cfg[key][index], columns)
    return lambda row: [each for each in map(_fitting(cfg), make(row)) if each is not None]


def _fitting(cfg: Any) -> Callable[[Example], Example | None]:
    """Return a function that cuts or drops a sequence by its length, as Axolotl does.

    See `axolotl.utils.data.utils.handle_long_seq_in_dataset`.
    """
    longest, shortest = cfg.sequence_len, cfg.min_sample_len or 2
    cut = (cfg.excess_length_strategy or "drop").lower() == "truncate"

    def fit(example: Example) -> Example | None:
        if len(example.ids) > longest and cut:
            example = Example(ids=example.ids[:longest], labels=example.labels[:longest])
        fits = shortest <= len(example.ids) <= longest
        return example if fits and example.trained else None

    return fit


class _MappedError(Exception):
    """Raised when the stand-in is asked for rows: by then every step has been recorded."""


class _Recorder(IterableDataset):  # type: ignore[misc]  # datasets is not there to mypy
    """Stands in for a data set, and records what would be done to each row."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = dict.fromkeys(columns)
        self.steps: list[tuple[Callable[..., Any], bool]] = []

    @property
    def features(self) -> dict[str, None]:
        return self._columns

    @property
    def column_names(self) -> list[str]:
        return list(self._columns)

    @property
    def data(self) -> None:
        """Some of Axolotl's classes ask for this after mapping."""
        raise _MappedError

    def map(self, function: Any = None, *, batched: bool = False, **ignored: Any) -> _Recorder:
        self.steps.append((function, batched))
        return self


def _supervised(
    cfg: Any, tokenizer: Any, entry: Any, columns: Sequence[str]
) -> Callable[[Row], Iterator[Example]]:
    # If a type is set, rows that also hold tokens were refused before the training.
    if not entry.type or (cfg.skip_prepare_dataset and isinstance(entry.type, str)):
        return _examples
    from axolotl.utils.data.wrappers import get_dataset_wrapper

    recorder = _Recorder(columns)
    base, _, style = entry.type.partition(":") if isinstance(entry.type, str) else ("", "", "")
    with contextlib.suppress(_MappedError):
        get_dataset_wrapper(
            dataset_config=entry,
            tokenizer=tokenizer,
            cfg=cfg,
            dataset_base_type=base or None,
            dataset=recorder,
            dataset_prompt_style=style or None,
        )
    if not recorder.steps:
        raise CannotMeasureError(f"Axolotl makes no tokens from rows of type {entry.type!r}")
    return functools.partial(_mapped, recorder.steps)


def _mapped(steps: Sequence[tuple[Callable[..., Any], bool]], row: Row) -> Iterator[Example]:
    value: Any = row
    batched = False
    for function, batched in steps:
        value = function({key: [each] for key, each in value.items()} if batched else value)
    if not batched:
        yield from _examples(value)
        return
    for place in range(len(value["input_ids"])):
        yield from _examples({key: each[place] for key, each in value.items()})


def _examples(value: Mapping[str, Any]) -> Iterator[Example]:
    ids = list(value["input_ids"])
    labels = list(value.get("labels") or ids)
    mask = value.get("attention_mask") or [1] * len(ids)
    kept = [place for place, used in enumerate(mask) if used]
    yield Example(ids=[ids[place] for place in kept], labels=[labels[place] for place in kept])


def _pretraining(cfg: Any, tokenizer: Any) -> Callable[[Row], Iterator[Example]]:
    if cfg.sample_packing:
        from axolotl.prompt_strategies import pretrain

        strategy = pretrain.load(tokenizer, cfg)
        return functools.partial(_mapped, [(strategy.tokenize_prompt, True)])
    from axolotl.utils.data.streaming import encode_streaming

    encode = functools.partial(
        encode_streaming,
        tokenizer=tokenizer,
        max_tokens=cfg.sequence_len,
        text_column=getattr(cfg.pretraining_dataset[0], "text_column", "text") or "text",
        concatenate=cfg.pretraining_sample_concatenation is True,
    )
    return functools.partial(_mapped, [(encode, True)])


def _preference(cfg: Any, tokenizer: Any, index: int) -> Callable[[Row], Iterator[Example]]:
    transform = _transform(cfg, tokenizer, index)

    def make(row: Row) -> Iterator[Example]:
        pair = transform(dict(row))
        if pair.get("label") is False:
            return
        answer = pair["chosen"] if "chosen" in pair else pair["completion"]
        prompt = pair.get("prompt")
        whole = _encode(tokenizer, prompt, answer)
        asked = _encode(tokenizer, prompt, None) if prompt else []
        yield Example(ids=whole, labels=[IGNORED] * len(asked) + whole[len(asked) :])

    return make


def _transform(cfg: Any, tokenizer: Any, index: int) -> Callable[[Row], Any]:
    """Return the function that makes a pair of a row, chosen as Axolotl chooses it.

    See `axolotl.utils.data.rl._load_split`.
    """
    kind = cfg.datasets[index]["type"]
    if not kind:
        return lambda row: row
    if not isinstance(kind, str):
        kind = "user_defined.default"
    from axolotl.prompt_strategies import dpo, kto, orpo

    kind_of_pairs = str(getattr(cfg.rl, "value", cfg.rl))
    load = {"orpo": orpo.load, "kto": kto.load}.get(kind_of_pairs, dpo.load)
    transform = load(kind, cfg, dataset_idx=index)
    if isinstance(transform, tuple):
        transform = transform[0]
    if transform is None:
        raise CannotMeasureError(f"Axolotl has no strategy {kind!r}")
    if "tokenizer" in inspect.signature(transform).parameters:
        transform = functools.partial(transform, tokenizer=tokenizer)
    return transform  # type: ignore[no-any-return]  # Axolotl publishes no types


def _encode(tokenizer: Any, prompt: Any, answer: Any) -> list[int]:
    """Tokenise prompt and answer as TRL's preference trainers do; None leaves one out."""
    if isinstance(answer, list) or isinstance(prompt, list):
        messages = (prompt or []) + (answer or [])
        return list(
            tokenizer.apply_chat_template(
                messages, tokenize=True, return_dict=True, add_generation_prompt=answer is None
            )["input_ids"]
        )
    return list(tokenizer((prompt or "") + (answer or ""))["input_ids"])


def pieces(tokenizer: Any, example: Example) -> list[list[Piece]]:
    """Return the text of the trained tokens, run by run.

    A tokenizer's decoder is an input too: for a single token it may give a different text, or none.
    If the tokens of a run decode differently together than one by one, the run gets no text.
    """
    runs = []
    for run in _trained_runs(example):
        one_by_one = _pieces(tokenizer, run)
        together = tokenizer.decode(run, clean_up_tokenization_spaces=False)
        joined = "".join(text for text, _ in one_by_one)
        runs.append(one_by_one if squeeze(joined) == squeeze(together) else [("", len(run))])
    return runs


def _trained_runs(example: Example) -> Iterator[list[int]]:
    """Yield runs of adjacent trained tokens."""
    run: list[int] = []
    for token, label in zip(example.ids[1:], example.labels[1:], strict=True):
        if label != IGNORED:
            run.append(token)
        elif run:
            yield run
            run = []
    if run:
        yield run


def _pieces(tokenizer: Any, run: Sequence[int]) -> list[Piece]:
    spoken: list[Piece] = []
    waiting: list[int] = []
    for token in run:
        waiting.append(token)
        text = _text(tokenizer, waiting)
        # A token may hold part of a character.
        if not text.endswith("\ufffd") or len(waiting) >= _LONGEST_CHARACTER:
            spoken.append((text, len(waiting)))
            waiting = []
    if waiting:
        spoken.append((_text(tokenizer, waiting), len(waiting)))
    return spoken


def _text(tokenizer: Any, tokens: Sequence[int]) -> str:
    text = str(tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False))
    if text:
        return text
    # Decoders remove a space at the start of a text, so look at how the vocabulary spells it. Other
    # tokens without text are not white space.
    spelled = "".join(map(str, tokenizer.convert_ids_to_tokens(list(tokens))))
    return " " if spelled and not spelled.strip(_SPACES) else ""
