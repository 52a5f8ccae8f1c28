"""The program that quantises, in the trainer's sandbox.

Its arguments are a job (JSON), the model's folder, and the folder for the quantised model. With
rows in the job it quantises by GPTQ, else by rounding to the nearest. The
output gets the model's own tokenizer and templates, and its config with `quantization_config`.
"""

import json
import os
import shutil
import sys
import traceback
from pathlib import Path
from typing import Any

CONFIG = "config.json"
QUANTISATION = "quantization_config"
WEIGHTS = (".safetensors", ".safetensors.index.json")
# Keys of the job; ROWS has the folder of rows, the column with texts, and how many tokens of each
# text are read at most.
DTYPE, SCHEME, IGNORE, ROWS = "dtype", "scheme", "ignore", "rows"
PLACE, COLUMN, LENGTH = "place", "column", "length"
# In which order GPTQ takes the numbers of a row: those first to which a layer's inputs say most,
# while groups and their scales stay those of the model.
ORDER = "static"
# How many numbers GPTQ corrects at a time, and by which share of its mean the diagonal of what it
# inverts is raised. Both are llmcompressor's defaults.
_BLOCK, _DAMPING = 128, 0.01


def main(job: str, model: str, output: str) -> int:
    """Quantise on processors even if there are GPUs, so that every machine makes the same bytes."""
    asked = json.loads(Path(job).read_bytes())
    try:
        _quantise(asked, model, output)
    except Exception:  # noqa: BLE001  # whatever a library raises, nothing was quantised
        traceback.print_exc()
        return 1
    saved: dict[str, Any] = json.loads((Path(output) / CONFIG).read_bytes())
    _keep_weights(Path(output))
    _copy_others(Path(model), Path(output), saved[QUANTISATION])
    return 0


def _quantise(asked: dict[str, Any], model: str, output: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from llmcompressor import oneshot

    loaded = AutoModelForCausalLM.from_pretrained(
        model,
        dtype=getattr(torch, asked[DTYPE]),
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
    )
    oneshot(model=loaded, **(_by_gptq if asked[ROWS] else _to_nearest)(asked, model))
    loaded.save_pretrained(output, save_compressed=True)


def _targets(asked: dict[str, Any]) -> dict[str, Any]:
    return {"targets": "Linear", "scheme": asked[SCHEME], "ignore": list(asked[IGNORE])}


def _to_nearest(asked: dict[str, Any], _model: str) -> dict[str, Any]:
    from llmcompressor.modifiers.quantization import QuantizationModifier

    return {"recipe": QuantizationModifier(**_targets(asked))}


def _by_gptq(asked: dict[str, Any], model: str) -> dict[str, Any]:
    from torch.utils.data import DataLoader
    from transformers import AutoTokenizer

    from llmcompressor.modifiers.gptq import GPTQModifier

    tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=True, trust_remote_code=False)
    rows = _tokens(tokenizer, asked[ROWS])
    recipe = GPTQModifier(
        **_targets(asked), actorder=ORDER, block_size=_BLOCK, dampening_frac=_DAMPING
    )
    return {
        "recipe": recipe,
        "dataset": DataLoader(rows, batch_size=1),
        "num_calibration_samples": len(rows),
        "processor": tokenizer,
        # The sequential one makes code of the model's, which nothing in the sandbox may.
        "pipeline": "basic",
        "shuffle_calibration_samples": False,
    }


def _tokens(tokenizer: Any, rows: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the tokens of each row. Raises ValueError for a row without a text, and if the
    tokenizer drops or replaces one.
    """
    import torch

    from enclave_runner.axolotl.measuring import kept_texts

    read: list[dict[str, Any]] = []
    for path in sorted((Path(rows[PLACE]) / "data").iterdir()):
        with path.open(encoding="utf-8", newline="\n") as file:
            for line in file:
                text = json.loads(line).get(rows[COLUMN])
                if not isinstance(text, str):
                    raise ValueError(  # noqa: TRY004  # a row's value, not an argument's type
                        f"row {len(read)} has no text in column {rows[COLUMN]!a}"
                    )
                kept_texts.check(tokenizer, [text])
                tokens = tokenizer(text)["input_ids"][: rows[LENGTH]]
                if not tokens:
                    raise ValueError(f"row {len(read)} has no tokens")
                ids = torch.tensor(tokens)
                read.append({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    return read


def _keep_weights(output: Path) -> None:
    for path in sorted(output.iterdir()):
        if not path.name.endswith(WEIGHTS):
            path.unlink()


def _copy_others(model: Path, output: Path, quantisation: dict[str, Any]) -> None:
    """Copy every file of the model that holds no weights, and say in its config what was done."""
    for path in sorted(model.rglob("*")):
        inside = path.relative_to(model)
        if path.is_file() and not path.name.endswith(WEIGHTS):
            (output / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, output / inside)
    settings: dict[str, Any] = json.loads((model / CONFIG).read_bytes())
    settings[QUANTISATION] = quantisation | {IGNORE: sorted(quantisation[IGNORE])}
    (output / CONFIG).write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    code = main(*sys.argv[1:4])
    sys.stdout.flush()
    sys.stderr.flush()
    # The libraries' threads have nothing more to do.
    os._exit(code)
