"""The closed list of files that may be in a model's directory without being covered.

They are files that a model hub adds, files that people put beside a model, and our own: no loader
reads any of them as part of a model. Verifiers print each as "present, not covered"
(docs/spec/certificate.md).
"""

import re

FILES = frozenset(
    (
        ".gitattributes",
        "README.md",
        "bom.cdx.json",
        "bom.image.cdx.json",
        "bom.spdx.json",
        "bom.training.cdx.json",
        "certificate.json",
        "model.sig",
        "provenance.intoto.jsonl",
        "run-key.pem",
        "scai.intoto.json",
    )
)
GIT = ".git/"
# The last is where the hub keeps results of evaluations.
FOLDERS = (GIT, ".cache/huggingface/", ".eval_results/")
_LICENSES = ("LICENSE", "LICENSE.md", "LICENSE.txt")
# Not `LICENSE*`: LICENSE-x/model.py and LICENSE.safetensors are not licences, and a verifier prints
# the name.
_LICENSE = re.compile(r"LICENSE(?:-[A-Za-z0-9_-]{1,64})?(?:\.md|\.txt)?")


def may_be_uncovered(path: str) -> bool:
    """Return whether there may be a file at `path` that the certificate does not cover."""
    return path.startswith(FOLDERS) or path in FILES or _LICENSE.fullmatch(path) is not None


def ignored_paths() -> tuple[str, ...]:
    """Return the list for formats that know whole names only: files, folders without a slash."""
    return tuple(sorted((*FILES, *_LICENSES, *(name.removesuffix("/") for name in FOLDERS))))
