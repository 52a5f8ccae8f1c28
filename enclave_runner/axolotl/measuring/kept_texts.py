"""Check that a tokenizer keeps texts: that a text comes back from the tokens that stand for it.

A tokenizer is a model's own file. It may turn each text into one that is likely, or drop it: then
any model has a low loss. One error remains: a normalizer that looks at what stands around a text
may change it there alone. In the tokens that are predicted, text that no row has counts as a
template's (`template_tokens`).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any


def check(tokenizer: Any, texts: Iterable[str]) -> None:
    """Raise ValueError for the first text of a row that the tokenizer drops or replaces."""
    for text in texts:
        tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
        check_scored(tokenizer, text, tokens, "of the rows")


def check_scored(tokenizer: Any, text: str, tokens: Sequence[int], where: str) -> None:
    """Raise ValueError if the text does not come back from these tokens. `where`: whose it is."""
    # Some models' settings let it leave out spaces before punctuation.
    back = tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    if not is_kept(text, back):
        raise ValueError(
            f"the tokenizer does not keep the texts {where}: "
            f"{text[:80]!a} came back as {back[:80]!a}"
        )


def is_kept(text: str, back: str) -> bool:
    """Return whether a text came back, maybe with other spaces or forms of characters, and with
    tokens around it.
    """
    wanted, given = (" ".join(unicodedata.normalize("NFKC", each).split()) for each in (text, back))
    return wanted in given
