"""The closed list of names that may stand in a model's directory uncovered.

What a model hub adds, what people write beside a model, and our own files: nothing here is read by
a loader as part of a model. Verifiers print each as "present, not covered"
(docs/spec/certificate.md).
"""

FILES = frozenset(
    (
        ".gitattributes",
        "README.md",
        "bom.cdx.json",
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
FOLDERS = (GIT, ".cache/huggingface/")
_LICENSE = "LICENSE"
_LICENSES = ("LICENSE", "LICENSE.md", "LICENSE.txt")


def is_inert(path: str) -> bool:
    """Whether a file that the certificate does not cover may stand at `path`."""
    if path.startswith(FOLDERS) or path in FILES:
        return True
    # Not `LICENSE*`: LICENSE-x/model.py and LICENSE.safetensors are no licences.
    stem, dot, suffix = path.partition(".")
    plain = "/" not in path and (not dot or suffix in ("md", "txt"))
    return plain and (stem == _LICENSE or stem.startswith(_LICENSE + "-"))


def ignored_paths() -> tuple[str, ...]:
    """The same list as formats write it that know whole names only: files, and folders bare."""
    return tuple(sorted((*FILES, *_LICENSES, *(name.rstrip("/") for name in FOLDERS))))
