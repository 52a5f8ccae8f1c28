"""Check an evaluation's config and models as the runner will, before the host starts a machine.

This only saves time: the runner checks them again in the machine, and decides. What is read from
stdin, printed and returned is as in `enclave_runner.axolotl.check`.
"""

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from enclave_runner.axolotl.check import answer, check_models, parser_of, views_of
from enclave_runner.evaluate import settings


def main() -> int:
    """Check one config, and the models that it names if they are here."""
    return answer(parser_of(__doc__).parse_args(), _check)


def _check(data: bytes, inputs: Mapping[str, Any]) -> Iterator[str]:
    asked = settings.read(data, views_of(inputs))
    check_models(asked.effective.references, inputs)
    yield "[]"
    yield asked.effective.config.decode("ascii")


if __name__ == "__main__":
    sys.exit(main())
