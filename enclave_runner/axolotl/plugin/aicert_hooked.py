"""Check that the audit hook is installed; the plugin imports this before anything else.

A line in the environment's own packages installs the hook, but Python goes on if such a line fails.
The trainer must not go on without it.
"""

import sys
from pathlib import Path

if "aicert_guard" not in sys.modules and Path("/aicert/plugin").is_dir():
    raise RuntimeError(
        "the audit hook is not installed: loaders were not cut out of this environment"
    )
