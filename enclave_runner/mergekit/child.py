"""The program that merges with mergekit, in the trainer's sandbox.

Its arguments are a config (mergekit's, as JSON), the base's folder, and the folder for the merged
model. The output gets the base's own config, tokenizer and templates: mergekit would write them
again, with what it knows of them.
"""

import json
import os
import shutil
import sys
import traceback
from pathlib import Path
from typing import Any

CONFIG = "config.json"
# Where a model's config says what type its numbers have; the second is the older name.
TYPE_KEYS = ("dtype", "torch_dtype")
_WEIGHTS = (".safetensors", ".safetensors.index.json")
# The size of a file above which a loader may need much memory.
_SHARD = 5_000_000_000


def main(config: str, base: str, output: str) -> int:
    """Merge on one processor, so that every machine makes the same bytes."""
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    document = json.loads(Path(config).read_bytes())
    options = MergeOptions(
        copy_tokenizer=False,
        device="cpu",
        # Sums over a tensor depend on how many threads share it.
        num_threads=1,
        out_shard_size=_SHARD,
        quiet=True,
        safe_serialization=True,
        trust_remote_code=False,
        write_model_card=False,
    )
    try:
        run_merge(MergeConfiguration.model_validate(document), output, options)
    except Exception:  # noqa: BLE001  # whatever a library raises, nothing was merged
        traceback.print_exc()
        return 1
    _copy_others(Path(base), Path(output), document.get("out_dtype") or document.get("dtype"))
    return 0


def _copy_others(base: Path, output: Path, dtype: str | None) -> None:
    """Copy every file of the base that holds no weights; its config gets the type of numbers."""
    for path in sorted(base.rglob("*")):
        inside = path.relative_to(base)
        if path.is_file() and not path.name.endswith(_WEIGHTS):
            (output / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, output / inside)
    if dtype is not None:
        settings: dict[str, Any] = json.loads((base / CONFIG).read_bytes())
        for key in TYPE_KEYS:
            settings.pop(key, None)
        settings[TYPE_KEYS[0]] = dtype
        (output / CONFIG).write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    code = main(*sys.argv[1:4])
    sys.stdout.flush()
    sys.stderr.flush()
    # The libraries' threads have nothing more to do.
    os._exit(code)
