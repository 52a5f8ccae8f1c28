"""The closed list of names that may stand in a model's directory uncovered.

What a model hub adds, what people write beside a model, and our own files: nothing here is read by
a loader as part of a model. Verifiers print each as "present, not covered"
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
# The last: where the hub keeps results of evaluations.
FOLDERS = (GIT, ".cache/huggingface/", ".eval_results/")
_LICENSES = ("LICENSE", "LICENSE.md", "LICENSE.txt")
# Not `LICENSE*`: LICENSE-x/model.py and LICENSE.safetensors are no licences, and a verifier prints
# the name.
_LICENSE = re.compile(r"LICENSE(?:-[A-Za-z0-9_-]{1,64})?(?:\.md|\.txt)?")


def may_be_uncovered(path: str) -> bool:
    """Whether a file that the certificate does not cover may stand at `path`."""
    return path.startswith(FOLDERS) or path in FILES or _LICENSE.fullmatch(path) is not None


def ignored_paths() -> tuple[str, ...]:
    """The same list as formats write it that know whole names only: files, and folders bare."""
    return tuple(sorted((*FILES, *_LICENSES, *(name.removesuffix("/") for name in FOLDERS))))
