"""The config's refusals, early: what the host runs before it starts a machine. For comfort only.

`python -m enclave_runner.check --config FILE --input NAME=PATH …` exits 0, or 3 with one JSON line
`{"message", "hint"}`. Names are looked at, nothing is hashed; the runner decides again inside.
"""

import argparse
import json
import os
import sys
from pathlib import Path

from aicert.errors import AicertError
from enclave_runner import config


def main() -> int:
    """Check one config against the names of its inputs' files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, type=Path)
    parser.add_argument("--input", action="append", default=[], metavar="NAME=PATH")
    arguments = parser.parse_args()
    pairs = [item.partition("=") for item in arguments.input]
    try:
        views = {name: _view(Path(path)) for name, _, path in pairs}
        config.resolve(arguments.config.read_bytes(), views)
    except AicertError as error:
        print(json.dumps({"message": error.message, "hint": error.hint}))
        return error.exit_code
    return 0


def _view(path: Path) -> config.InputView:
    if not path.is_dir():
        return config.InputView(is_file=True)
    files = [
        os.path.relpath(os.path.join(folder, name), path)
        for folder, _, names in os.walk(path)
        for name in names
    ]
    return config.InputView(is_file=False, files=frozenset(files))


if __name__ == "__main__":
    sys.exit(main())
