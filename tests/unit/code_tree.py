"""A small checkout: one file for every entry of the machine's code list, and others."""

from pathlib import Path

from aicert.files.machine_code import MACHINE_CODE

ELSEWHERE = ("cli", "exports", "signing", "sources", "appraisal", "trust", "verifier")
OUTSIDE = (
    *(f"aicert/{room}/one.py" for room in ELSEWHERE),
    "aicert/__main__.py",
    "rules/one.py",
    "rules/runs/one.py",
    "docs/one.md",
    "enclave_runner/boot/__pycache__/one.pyc",
)
IN_ROOMS = ("enclave_runner/boot/one.py", "aicert/formats/one.py")


def code_tree(root: Path) -> set[str]:
    """Write the checkout below `root`; return the paths of the files that run in the machine."""
    counted = {f"{entry}__init__.py" if entry.endswith("/") else entry for entry in MACHINE_CODE}
    counted |= set(IN_ROOMS)
    for name in (*counted, *OUTSIDE):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"# {name}\n", encoding="ascii")
    return counted
