"""Where this project's code is, and which repository it works on.

In a checkout both are the checkout. Once installed, the code is `aicert_build/` in an interpreter's
packages, and `doit --project FOLDER` names the repository (docs/adr/0020-own-repository.md). Only
the standard library is imported: set-up reads this before anything is installed.
"""

import os
from pathlib import Path

CODE = Path(__file__).resolve().parents[2]
_NAMED = os.environ.get("AICERT_PROJECT")
PROJECT = Path(_NAMED).resolve() if _NAMED else CODE
IS_CHECKOUT = PROJECT == CODE
# `.venv` is ours in a checkout; in the user's own repository that name is the user's.
VENV = PROJECT / (".venv" if IS_CHECKOUT else ".aicert/venv")


def code_of(root: Path) -> Path:
    """Return where the code for `root` is: a checkout contains its own."""
    return root if IS_CHECKOUT else CODE


def documentation(path: str) -> str:
    """Return the path by which a hint refers to one of our documents: through the wrapper's
    link.
    """
    return path if IS_CHECKOUT else f".aicert/tool/{path}"
