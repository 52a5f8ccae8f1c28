"""The program that merges, in the trainer's sandbox, with Axolotl's own merge, shard by shard.

Its arguments are three paths: the base, the adapter, and the folder for the merged model.
"""

import os
import sys
import traceback
from pathlib import Path


def main(base: str, adapter: str, output: str) -> int:
    """Merge on processors even if there are GPUs, so that every machine makes the same bytes."""
    from axolotl.cli.utils.lora_merge import merge_lora_sharded_efficient

    try:
        merge_lora_sharded_efficient(
            base_model_path=Path(base),
            lora_adapter_path=Path(adapter),
            output_path=Path(output),
            device="cpu",
            safe_tensors=True,
        )
    except Exception:  # noqa: BLE001  # whatever a library raises, nothing was merged
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    code = main(*sys.argv[1:4])
    sys.stdout.flush()
    sys.stderr.flush()
    # The libraries' threads have nothing more to do.
    os._exit(code)
