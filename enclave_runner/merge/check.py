"""The runner's refusals of a merge, early: the host runs this before it starts a machine. This is
only for convenience: the runner decides again inside.

Input and output are those of `enclave_runner.axolotl.check`, except that a merge has no effective
config: without a refusal it prints nothing.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from aicert.errors import AicertError
from enclave_runner.axolotl.check import inputs_at_hand, is_whole
from enclave_runner.inputs.measure import MeasuredInput
from enclave_runner.inputs.references import Reference
from enclave_runner.merge import merging, settings


class _Settings(Protocol):
    @property
    def references(self) -> tuple[Reference, ...]: ...


_S = TypeVar("_S", bound=_Settings)


def check(
    read: Callable[[bytes, Mapping[str, bool]], _S],
    prepare: Callable[[_S, list[MeasuredInput], Path], object],
) -> int:
    """Check one config, and the models that it names if all are here.

    `read`, `prepare`: what the runner does with them before it merges.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, type=Path)
    arguments = parser.parse_args()
    inputs: Mapping[str, Any] = json.load(sys.stdin)
    folders = {name: item["files"] is not None for name, item in inputs.items()}
    try:
        named = read(arguments.config.read_bytes(), folders)
        at_hand = {item.name: item for item in inputs_at_hand(inputs)}
        if all(is_whole(each, at_hand) for each in named.references):
            with tempfile.TemporaryDirectory() as folder:
                prepare(named, list(at_hand.values()), Path(folder))
    except AicertError as error:
        print(json.dumps({"message": error.message, "hint": error.hint}))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(check(settings.read, merging.prepare))
