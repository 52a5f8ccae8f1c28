"""Check a merge's config and models as the runner will, before the host starts a machine.

This only saves time: the runner checks them again in the machine, and decides. What is read from
stdin, printed and returned is as in `enclave_runner.axolotl.check`, except that a merge has no
effective config: if nothing is refused, nothing is printed.
"""

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from enclave_runner.axolotl.check import answer, inputs_at_hand, is_whole, parser_of
from enclave_runner.merge.derivation import Derivation, P, S
from enclave_runner.merge.merging import MERGE


def check(trainer: Derivation[S, P]) -> int:
    """Check one config, and the models that it names if all are here."""

    def checked(data: bytes, inputs: Mapping[str, Any]) -> tuple[str, ...]:
        folders = {name: item["files"] is not None for name, item in inputs.items()}
        asked = trainer.read(data, folders)
        at_hand = {item.name: item for item in inputs_at_hand(inputs)}
        if all(is_whole(each, at_hand) for each in asked.references):
            with tempfile.TemporaryDirectory() as folder:
                trainer.prepare(asked, list(at_hand.values()), Path(folder))
        return ()

    return answer(parser_of(__doc__).parse_args(), checked)


if __name__ == "__main__":
    sys.exit(check(MERGE))
