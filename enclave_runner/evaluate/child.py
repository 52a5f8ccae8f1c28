"""The program that evaluates: in the trainer's sandbox, Axolotl's loaders and prompts on each row.

Its arguments are two files, a config and the rows to read, and the folder for what it measured: a
JSON list of `{"index", "files"}`, where `index` is a data set of the config.
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
    """Leave what was measured in `output`, or say why nothing was."""
    try:
        measured = evaluate(config, json.loads(Path(data).read_bytes()))
    except Exception:  # noqa: BLE001  # whatever a library raises, nothing was measured
        traceback.print_exc()
        return 1
    (Path(output) / MEASURED).write_text(json.dumps(measured, allow_nan=False), encoding="ascii")
    return 0


def evaluate(config: str, data: list[dict[str, Any]]) -> dict[str, Any]:
    """The mean loss over all rows, and how many rows and tokens it is of."""
    # Imports are most of the cost; a sixth of that goes into looking for garbage that they never
    # make.
    gc.disable()
    from axolotl.cli.config import load_cfg
    from axolotl.loaders import load_tokenizer

    from enclave_runner.axolotl.measuring import model as models
    from enclave_runner.axolotl.measuring import rows as tokenisers
    from enclave_runner.axolotl.measuring import template_tokens

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
