"""What serving a leased model costs, measured by a test program, because rules run no machine."""

import json
import os
import subprocess
import sys

from aicert.errors import ToolError

# Seconds that the test engine takes for a token.
TOKEN_S = 0.010


def measure() -> dict[str, float]:
    """Measure serving with that program. Return tokens per second, milliseconds and GB per second,
    by name.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.e2e.serving.serving_costs"], capture_output=True, text=True
    )
    if done.returncode:
        raise ToolError(f"cannot be measured: {done.stderr[-1000:]}", hint="apt-get install swtpm")
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def load_average() -> str:
    """Return the load average of this computer, from its kernel."""
    return f"{os.getloadavg()[0]:.1f}"
