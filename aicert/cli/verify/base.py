"""`aicert verify --base`: check that a folder is the base model that the run was trained on.

An adapter's name for its base is only a claim, but the digest of the input is not. Files that the
input's patterns leave out are left out here too. This decides nothing about the certificate, whose
verdict comes first.
"""

from fnmatch import fnmatchcase

from aicert.errors import EvidenceError
from aicert.formats import lockfile as lockfiles
from aicert.formats import run_report
from aicert.formats import statement as statements
from aicert.formats.certificate import Certificate
from aicert.formats.digest import FileFact
from aicert.formats.listing import dir_digest
from aicert.formats.lockfile import LockedInput
from aicert.text import safe
from aicert.verifier import verify as api

BASE_INPUT = "baseInput"


def check_copy(certificate: Certificate, folder: str) -> tuple[bool, str]:
    """Return whether `folder` is the certificate's base model, and the lines to print.

    Raises EvidenceError if the certificate names no base.
    """
    base = _base(certificate)
    files = api.read_model(folder)
    chosen = {path: fact for path, fact in files.items() if _is_chosen(path, base)}
    hashed = {path: fact for path, fact in chosen.items() if isinstance(fact, FileFact)}
    digest = dir_digest(hashed)
    if digest == base.digest and len(hashed) == len(chosen):
        return True, f"base      {safe(folder)} is input {base.name}, {digest}"
    return False, (
        f"base      {safe(folder)} is not input {base.name}\n"
        f"          found     {digest}\n          expected  {base.digest}"
    )


def _base(certificate: Certificate) -> LockedInput:
    report = run_report.parse(statements.parse(certificate.envelope.payload).report)
    named = report.values.get(BASE_INPUT)
    name = "" if named is None else str(named.data).partition("/")[0]
    for item in lockfiles.parse(certificate.lockfile).inputs:
        if item.name == name and item.digest.kind == "dirHash":
            return item
    raise EvidenceError("the certificate does not say which input is the base model")


def _is_chosen(path: str, base: LockedInput) -> bool:
    if base.only and not any(fnmatchcase(path, pattern) for pattern in base.only):
        return False
    return not any(fnmatchcase(path, pattern) for pattern in base.except_)
