"""Where things are in the runner's sandboxes: for the trainer, the converter and the measurement.

The plugin and the measuring program run there, import nothing of the runner and name the same
places themselves; `tests/unit/enclave_runner/sandbox/test_places.py` compares them.
"""

from typing import Final

# The environment whose Python runs, and additional code that it may import.
ENVIRONMENT: Final = "/aicert/environment"
PLUGIN: Final = "/aicert/plugin"
CODE: Final = "/aicert/code"
# The trainer's config and inputs; data inputs as canonical rows.
CONFIG: Final = "/aicert/config.json"
INPUTS: Final = "/aicert/inputs"
RECORDS: Final = "/aicert/records"
# Chat templates that the config contains; the runner writes each to a file.
TEMPLATES: Final = "/aicert/templates"
# SHA-256 of each file of code that came with an input and may run; absent where none may.
REMOTE_CODE: Final = "/aicert/remote-code"
# The only writable place, and what the trainer leaves there.
SCRATCH: Final = "/aicert/scratch"
OUTPUT: Final = f"{SCRATCH}/output"
# The one input that a converter of rows sees.
SOURCE: Final = "/aicert/source"
# The measuring program's task, its rows, and the weights that training made.
JOB: Final = "/aicert/loss.json"
SAMPLE: Final = "/aicert/sample.jsonl"
TRAINED: Final = "/aicert/output"
