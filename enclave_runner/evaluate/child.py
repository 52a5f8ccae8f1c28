"""The program that evaluates, in the trainer's sandbox, with Axolotl's loaders and prompts.

Its arguments are a config, a file that lists the rows to read, and the folder for the results. The
list is JSON, `[{"index", "files"}]`, where `index` is the number of a data set in the config.
"""

import gc
import json
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MEASURED = "measured.json"
_DATA_SETS = "datasets"


def main(config: str, data: str, output: str) -> int:
    """Evaluate, and write what was measured into `output`; return 1 if nothing was."""
    try:
        measured = evaluate(config, json.loads(Path(data).read_bytes()))
    except Exception:  # noqa: BLE001  # whatever a library raises, nothing was measured
        traceback.print_exc()
        return 1
    (Path(output) / MEASURED).write_text(json.dumps(measured, allow_nan=False), encoding="ascii")
    return 0


def evaluate(config: str, data: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the mean loss per token over all rows, and how many rows and tokens were measured."""
    # Imports are most of the cost, and a sixth of that goes into looking for garbage that they
    # never make.
    gc.disable()
    from axolotl.cli.config import load_cfg
    from axolotl.loaders import load_tokenizer

    from enclave_runner.axolotl.measuring import kept_texts, template_tokens
    from enclave_runner.axolotl.measuring import model as models
    from enclave_runner.axolotl.measuring import rows as tokenisers

    gc.enable()
    cfg = load_cfg(config)
    tokenizer = load_tokenizer(cfg)
    model = models.load_before(cfg, tokenizer)
    loss, rows, left_out, tokens, of_template = 0.0, 0, 0, 0, 0
    for each in data:
        tokenise = None
        for row in _rows(each["files"]):
            tokenise = tokenise or tokenisers.tokeniser(
                cfg, tokenizer, _DATA_SETS, each["index"], list(row)
            )
            examples = tokenise(row)
            rows, left_out = rows + bool(examples), left_out + (not examples)
            kept_texts.check(tokenizer, template_tokens.texts_of(row, numbers=False))
            texts = list(template_tokens.texts_of(row))
            for example in examples:
                loss += models.loss_of(model, cfg, example)
                tokens += example.trained
                of_template += template_tokens.count(tokenisers.pieces(tokenizer, example), texts)
    if not tokens:
        raise ValueError("no row has a token to predict that fits into sequence_len")
    return {
        "leftOut": left_out,
        "loss": round(loss / tokens, 6),
        "rows": rows,
        "templateTokens": of_template,
        "tokens": tokens,
    }


def _rows(files: list[str]) -> Iterator[dict[str, Any]]:
    for path in files:
        with open(path, encoding="utf-8", newline="\n") as file:
            for line in file:
                yield json.loads(line)


if __name__ == "__main__":
    code = main(*sys.argv[1:4])
    sys.stdout.flush()
    sys.stderr.flush()
    # The libraries' threads have nothing more to do.
    os._exit(code)
