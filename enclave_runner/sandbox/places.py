"""Paths in the runner's sandboxes: those of the trainer, the converter and the measurement.

The plugin and the measuring program run in sandboxes, import nothing from the runner and repeat
these paths; `tests/unit/enclave_runner/sandbox/test_places.py` compares them.
"""

from typing import Final

# The environment whose Python runs, and additional code that it may import.
ENVIRONMENT: Final = "/aicert/environment"
PLUGIN: Final = "/aicert/plugin"
CODE: Final = "/aicert/code"
# The trainer's own packages, which come before the environment's.
TOOLS: Final = "/aicert/tools"
# The trainer's config, its inputs, and data inputs as canonical rows.
CONFIG: Final = "/aicert/config.json"
INPUTS: Final = "/aicert/inputs"
RECORDS: Final = "/aicert/records"
# Chat templates that the config contains; the runner writes each to a file.
TEMPLATES: Final = "/aicert/templates"
# Lists the SHA-256 of each file of code that came with an input and may run; absent if none may.
REMOTE_CODE: Final = "/aicert/remote-code"
# The only writable folder, and the trainer's output in it.
SCRATCH: Final = "/aicert/scratch"
OUTPUT: Final = f"{SCRATCH}/output"
# The input that a converter of rows sees.
SOURCE: Final = "/aicert/source"
# The measuring program's job, its rows, and the weights that training made.
JOB: Final = "/aicert/loss.json"
SAMPLE: Final = "/aicert/sample.jsonl"
TRAINED: Final = "/aicert/output"
