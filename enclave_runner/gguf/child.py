"""The program that converts with llama.cpp's converter, in the trainer's sandbox.

Its arguments are the model's folder, llama.cpp's number of the file's type, and the file to write.
"""

import os
import sys
import traceback
from pathlib import Path

# Keys that the converter takes from folders' names and counts, and that no input's file says.
_GUESSED = ("general.name", "general.size_label")


def main(model: str, number: str, target: str) -> int:
    """Convert the model; what the file says about it comes from the model's own files."""
    try:
        _convert(Path(model), int(number), Path(target))
    except Exception:  # noqa: BLE001  # whatever a library raises, nothing was converted
        traceback.print_exc()
        return 1
    return 0


def _convert(model: Path, number: int, target: Path) -> None:
    import torch
    from conversion import (
        ModelBase,
        ModelType,
        get_model_architecture,
        get_model_class,
    )

    import gguf

    with torch.inference_mode():
        settings = ModelBase.load_hparams(model, False)
        converter = get_model_class(get_model_architecture(settings, ModelType.TEXT))
        instance = converter(model, gguf.LlamaFileType(number), target, model_name=target.stem)
        # No card is there, and the folder's name says nothing.
        instance.dir_model_card = None
        instance.prepare_tensors()
        instance.prepare_metadata(vocab_only=False)
        writer = instance.gguf_writer
        for values in writer.kv_data:
            for key in _GUESSED:
                values.pop(key, None)
        writer.write_header_to_file(path=target)
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file(progress=False)
        writer.close()


if __name__ == "__main__":
    code = main(*sys.argv[1:4])
    sys.stdout.flush()
    sys.stderr.flush()
    # The libraries' threads have nothing more to do.
    os._exit(code)
