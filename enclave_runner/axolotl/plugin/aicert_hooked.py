"""Imported first by the plugin: where the trainer runs, nothing goes on without the audit hook.

The environment's own first line installs it, and Python goes on after a line that fails.
"""

import sys
from pathlib import Path

if "aicert_guard" not in sys.modules and Path("/aicert/plugin").is_dir():
    raise RuntimeError(
        "the audit hook is not installed: loaders were not cut out of this environment"
    )
