"""Check an evaluation on tasks as the runner will, before the host starts a machine.

This only saves time: the runner checks everything again in the machine, and decides. What is read
from stdin, printed and returned is as in `enclave_runner.axolotl.check`, except that the effective
config is not printed: it is for Axolotl, which has no part in this.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from enclave_runner.axolotl.check import answer, check_models, parser_of, views_of
from enclave_runner.lm_eval import harness, image_tasks, settings


def main() -> int:
    """Check one config, and the tasks and models that it names if they are here."""
    return answer(parser_of(__doc__).parse_args(), _check)


def _check(config: bytes, inputs: Mapping[str, Any]) -> tuple[str, ...]:
    views = views_of(inputs)
    asked = settings.read(config, views)
    if all(_task(inputs, *place).is_file() for place in asked.tasks):
        settings.with_tasks(
            asked, views, lambda name, inside: harness.task_file(_task(inputs, name, inside))
        )
    check_models(asked.references, inputs)
    return ()


def _task(inputs: Mapping[str, Any], name: str, inside: str) -> Path:
    if name == settings.OF_IMAGE:
        return image_tasks.task_file(inside)
    return Path(inputs[name]["path"] or "") / inside


if __name__ == "__main__":
    sys.exit(main())
