"""The runner's refusals of an evaluation on tasks, early: the host runs this before it starts a
machine. This is only for convenience: the runner decides again inside.

Input and output are those of `enclave_runner.axolotl.check`, except that the effective config is
left out: Axolotl, which reads it there, has no part in this.
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
from enclave_runner.inputs import model_files
from enclave_runner.lm_eval import harness, settings
from enclave_runner.lm_eval.settings import Settings


def main() -> int:
    """Check one config, and the tasks and models that it names if they are here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, type=Path)
    arguments = parser.parse_args()
    inputs: Mapping[str, Any] = json.load(sys.stdin)
    try:
        _check(arguments.config.read_bytes(), inputs)
    except AicertError as error:
        print(json.dumps({"message": error.message, "hint": error.hint}))
        return error.exit_code
    return 0


def _check(config: bytes, inputs: Mapping[str, Any]) -> None:
    views = {
        name: InputView(is_file=item["files"] is None, files=frozenset(item["files"] or ()))
        for name, item in inputs.items()
    }
    asked = settings.read(config, views)
    if all(_task(inputs, *place).is_file() for place in asked.tasks):
        settings.with_tasks(
            asked, views, lambda name, inside: harness.task_file(_task(inputs, name, inside))
        )
    _check_models(asked, inputs)


def _task(inputs: Mapping[str, Any], name: str, inside: str) -> Path:
    return Path(inputs[name]["path"] or "") / inside


def _check_models(asked: Settings, inputs: Mapping[str, Any]) -> None:
    at_hand = {item.name: item for item in inputs_at_hand(inputs)}
    references = [each for each in asked.references if is_whole(each, at_hand)]
    with tempfile.TemporaryDirectory() as folder:
        model_files.prepare(
            references,
            at_hand.values(),
            frozenset(),
            Path(folder),
            model_types=axolotl_keys().model_types,
        )


if __name__ == "__main__":
    sys.exit(main())
