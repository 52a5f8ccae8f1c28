"""The config's refusals, early: what the host runs before it starts a machine. For comfort only.

`python -m enclave_runner.check --config FILE` reads `{"NAME": ["PATH", …]}` of the inputs from
stdin (null for one that is a file), and exits 0, or 3 with one JSON line `{"message", "hint"}`.
Nothing but the config is opened; the runner decides again inside.
"""

import argparse
import json
import sys
from pathlib import Path

from aicert.errors import AicertError
from enclave_runner import config


def main() -> int:
    """Check one config against the names of its inputs' files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, type=Path)
    arguments = parser.parse_args()
    views = {
        name: config.InputView(is_file=files is None, files=frozenset(files or ()))
        for name, files in json.load(sys.stdin).items()
    }
    try:
        config.resolve(arguments.config.read_bytes(), views)
    except AicertError as error:
        print(json.dumps({"message": error.message, "hint": error.hint}))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
