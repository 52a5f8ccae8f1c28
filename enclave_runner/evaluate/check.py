"""Check an evaluation's config and models as the runner will, before the host starts a machine.

This only saves time: the runner checks them again in the machine, and decides. What is read from
stdin, printed and returned is as in `enclave_runner.axolotl.check`.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aicert.errors import AicertError
from enclave_runner.axolotl.check import inputs_at_hand, is_whole
from enclave_runner.axolotl.config import InputView
from enclave_runner.axolotl.known_keys import axolotl_keys
from enclave_runner.evaluate import settings
from enclave_runner.inputs import model_files


def main() -> int:
    """Check one config, and the models that it names if they are here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, type=Path)
    arguments = parser.parse_args()
    inputs: Mapping[str, Any] = json.load(sys.stdin)
    views = {
        name: InputView(is_file=item["files"] is None, files=frozenset(item["files"] or ()))
        for name, item in inputs.items()
    }
    try:
        asked = settings.read(arguments.config.read_bytes(), views)
        at_hand = {item.name: item for item in inputs_at_hand(inputs)}
        references = [each for each in asked.effective.references if is_whole(each, at_hand)]
        with tempfile.TemporaryDirectory() as folder:
            model_files.prepare(
                references,
                at_hand.values(),
                frozenset(),
                Path(folder),
                model_types=axolotl_keys().model_types,
            )
    except AicertError as error:
        print(json.dumps({"message": error.message, "hint": error.hint}))
        return error.exit_code
    print("[]")
    print(asked.effective.config.decode("ascii"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
