"""Measure the mean loss per token of rows, before and after a training (docs/spec/loss.md).

It runs in its own sandbox after the trainer has ended, with the training environment's Python and
this image's code. It reads the effective config, the model inputs, the output's safetensors files
and a sample of the rows, and writes one line of JSON to AICERT_PROGRESS_FD: the numbers, or why
there are none.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

JOB = Path("/aicert/loss.json")
SAMPLE = Path("/aicert/sample.jsonl")
OUTPUT = Path("/aicert/output")
SCRATCH = Path("/aicert/scratch")
# Fewer rows say little, and even a slow machine must measure some.
FEWEST_ROWS = 8
MOST_ROWS = 128
_MOST_REASON = 300


def main() -> int:
    """Measure, and write the numbers or the reason why there are none; return 0 in both cases."""
    try:
        job = json.loads(JOB.read_bytes())
        message = _measure(job["config"], float(job["seconds"]))
    except Exception as error:  # noqa: BLE001  # whatever a library raises is the reason
        traceback.print_exc()
        message = {"incomplete": f"{type(error).__name__}: {error}"[:_MOST_REASON]}
    descriptor = int(os.environ["AICERT_PROGRESS_FD"])
    os.write(descriptor, (json.dumps(message, allow_nan=False) + "\n").encode("ascii"))
    return 0


def _measure(config: str, seconds: float) -> dict[str, Any]:
    # Imports are most of the cost, and a sixth of that goes into looking for garbage that they
    # never make.
    gc.disable()
    from axolotl.cli.config import load_cfg
    from axolotl.loaders import load_tokenizer

    from enclave_runner.axolotl.measuring import model as models
    from enclave_runner.axolotl.measuring.errors import CannotMeasureError

    gc.enable()
    cfg = load_cfg(config)
    tokenizer = load_tokenizer(cfg)
    sample = _tokenised(cfg, tokenizer)
    model = models.load_before(cfg, tokenizer)
    # The time for imports and loading is not bounded, only the time for measuring rows.
    end = time.monotonic() + seconds / 2
    before, tokens, of_template, rows, measured = 0.0, 0, 0, 0, []
    for examples, template in sample:
        before += sum(models.loss_of(model, cfg, each) for each in examples)
        tokens += sum(each.trained for each in examples)
        of_template += template
        measured += examples
        rows += 1
        if rows >= MOST_ROWS or (rows >= FEWEST_ROWS and time.monotonic() > end):
            break
    if not tokens:
        raise CannotMeasureError("no row of the sample has a token that was trained")
    model = models.load_after(model, sorted(OUTPUT.iterdir()), SCRATCH)
    after = sum(models.loss_of(model, cfg, each) for each in measured)
    return {
        "after": after / tokens,
        "before": before / tokens,
        "rows": rows,
        "templateTokens": of_template,
        "tokens": tokens,
    }


def _tokenised(cfg: Any, tokenizer: Any) -> Iterator[tuple[list[Any], int]]:
    """Yield each row of the sample that training takes: its sequences and template tokens."""
    from enclave_runner.axolotl.measuring import rows, template_tokens

    tokenisers: dict[tuple[str, int], rows.Tokenise] = {}
    with SAMPLE.open(encoding="utf-8") as file:
        for line in file:
            drawn = json.loads(line)
            row, source = drawn["row"], (drawn["key"], drawn["index"])
            if source not in tokenisers:
                tokenisers[source] = rows.tokeniser(cfg, tokenizer, *source, list(row))
            examples = tokenisers[source](row)
            if examples:
                texts = list(template_tokens.texts_of(row))
                yield (
                    examples,
                    sum(
                        template_tokens.count(rows.pieces(tokenizer, each), texts)
                        for each in examples
                    ),
                )


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # The libraries' threads have nothing more to do.
    os._exit(code)
