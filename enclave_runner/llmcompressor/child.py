"""The program that quantises, in the trainer's sandbox.

Its arguments are a job (JSON), the model's folder, and the folder for the quantised model. The
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
# Keys of the job.
DTYPE, SCHEME, IGNORE = "dtype", "scheme", "ignore"


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
    from llmcompressor.modifiers.quantization import QuantizationModifier

    loaded = AutoModelForCausalLM.from_pretrained(
        model,
        dtype=getattr(torch, asked[DTYPE]),
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
    )
    recipe = QuantizationModifier(
        targets="Linear", scheme=asked[SCHEME], ignore=list(asked[IGNORE])
    )
    oneshot(model=loaded, recipe=recipe)
    loaded.save_pretrained(output, save_compressed=True)


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
