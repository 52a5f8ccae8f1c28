"""Where the code of this project lies, and which repository it works on.

In a checkout both are the checkout. Installed, the code is `aicert_build/` among the packages of an
interpreter, and `doit --project FOLDER` names the repository (docs/adr/0020-own-repository.md).
Nothing but the standard library is imported: set-up reads this before anything is installed.
"""

import os
from pathlib import Path

CODE = Path(__file__).resolve().parents[2]
_NAMED = os.environ.get("AICERT_PROJECT")
PROJECT = Path(_NAMED).resolve() if _NAMED else CODE
IS_CHECKOUT = PROJECT == CODE
# Of a checkout `.venv`; in a repository of its own that name belongs to its owner.
VENV = PROJECT / (".venv" if IS_CHECKOUT else ".aicert/venv")


def code_of(root: Path) -> Path:
    """Where the code lies that works on `root`: a checkout carries its own."""
    return root if IS_CHECKOUT else CODE


def documentation(path: str) -> str:
    """What a hint calls one of our documents: the wrapper's link leads to where they are."""
    return path if IS_CHECKOUT else f".aicert/tool/{path}"
