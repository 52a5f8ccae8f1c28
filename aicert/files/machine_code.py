"""The code of this repository that runs in a machine: the runner, and what it imports of `aicert/`.

One list says what goes into the image, what the image's cache key covers, and what the runner's
code digest covers on a local machine. Code outside it can change without a new image and without a
new certificate. `tests/unit/test_layering.py` compares it with what the runner really imports.
"""

from pathlib import Path

from aicert.errors import ToolError
from aicert.files.tree import read_file, read_tree
from aicert.formats.digest import Digest, FileFact
from aicert.formats.listing import dir_digest

# Rooms end in `/`; a module of `aicert/` that belongs to no room is listed by itself.
MACHINE_CODE = (
    "aicert/__init__.py",
    "aicert/errors.py",
    "aicert/frozen.py",
    "aicert/text.py",
    "aicert/audits/",
    "aicert/crypto/",
    "aicert/files/",
    "aicert/formats/",
    "aicert/model_signature/",
    "aicert/records/",
    "enclave_runner/",
)
# Machines that serve a leased model have their own list, and the room that only it holds is not
# part of the first: a change for one kind of machine makes nothing stale for the other.
SERVING_ROOM = "enclave_runner/serving/"
SERVING_CODE = (
    "aicert/__init__.py",
    "aicert/errors.py",
    "aicert/frozen.py",
    "aicert/text.py",
    "aicert/channel/",
    "aicert/crypto/",
    "aicert/files/",
    "aicert/formats/",
    "aicert/lease/",
    "aicert/model_signature/",
    "enclave_runner/attester/__init__.py",
    "enclave_runner/attester/tpm.py",
    "enclave_runner/axolotl/__init__.py",
    "enclave_runner/axolotl/axolotl_keys.json",
    "enclave_runner/axolotl/known_keys.py",
    "enclave_runner/inputs/__init__.py",
    "enclave_runner/inputs/measure.py",
    "enclave_runner/inputs/model_files.py",
    "enclave_runner/inputs/model_json.py",
    "enclave_runner/inputs/pickles.py",
    "enclave_runner/inputs/references.py",
    "enclave_runner/sandbox/",
    SERVING_ROOM,
)


def machine_code(root: Path, entries: tuple[str, ...] = MACHINE_CODE) -> dict[str, FileFact]:
    """Return every file of the list in the checkout at `root`, by its path there.

    Raises ToolError if something on the list is missing or empty: a digest of less than the machine
    runs would let code change unseen.
    """
    code: dict[str, FileFact] = {}
    for entry in entries:
        files = _files(root, entry) if (root / entry).exists() else {}
        if not files:
            raise ToolError(
                f"the machine's code is incomplete: there is nothing at {entry}",
                hint="git status",
            )
        code |= files
    return code


def code_digest(root: Path) -> Digest:
    """Return the dirHash of the machine's code.

    On `local` this stands for the machine's image; like everything there, it is a claim.
    """
    return dir_digest(machine_code(root))


def _files(root: Path, entry: str) -> dict[str, FileFact]:
    if not entry.endswith("/"):
        return {entry: read_file(root / entry)}

    def skip(path: str) -> bool:
        return path.endswith("__pycache__/") or entry + path == SERVING_ROOM

    files = read_tree(root / entry, skip=skip)
    return {entry + path: fact for path, fact in files.items()}
