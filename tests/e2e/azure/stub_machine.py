"""The serving program with a stub engine, for tests of what is around a machine.

Its working directory gets the engine's socket, whose name has to be short.
"""

import os
import sys
from pathlib import Path
from unittest import mock

from enclave_runner.serving import __main__ as process
from enclave_runner.serving import running
from tests.e2e.serving import stub_engine


def main() -> int:
    folder = Path(f"stub{os.getpid()}")
    folder.mkdir()
    with (
        stub_engine.running(folder) as stub,
        mock.patch.object(process, "Running", return_value=stub),
        mock.patch.object(running, "transformers", lambda settings: settings),
    ):
        return process.main()


if __name__ == "__main__":
    sys.exit(main())
