"""Sign what a training saves: checkpoints, the model, and the folder that goes to the hub.

A signature covers a folder as it is at that time. It leaves out the files that the caller will not
upload, and names them.
"""

import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from aicert.errors import ConfigError
from aicert.files.bounded import StrPath
from aicert.guard.policy import Signing
from aicert.model_signature.signed_by import SIGNATURE
from aicert.signing import sign as signing
from aicert.signing.keys import KeySigner, load_signer

# What a Trainer keeps beside the model, and continues to write to.
BESIDE = ("checkpoint-*", "runs", "logs")
Patterns = str | Sequence[str] | None


def load_key(how: Signing) -> KeySigner:
    """Load the signer that a policy names.

    This happens at the start, so that a missing key does not show only at a training's end.
    """
    password = None
    if how.password_env:
        password = os.environ.get(how.password_env)
        if password is None:
            raise ConfigError(f"there is no environment variable {how.password_env[:80]!a}")
    return load_signer(how.key, password=password)


def sign_folder(
    folder: StrPath, signer: KeySigner, *, ignore: Patterns = (), allow: Patterns = None
) -> None:
    """Write the folder's `model.sig`; `ignore` and `allow` are patterns as in huggingface_hub."""
    root = Path(folder)
    left_out = list(_left_out(root, "", _each(ignore), None if allow is None else _each(allow)))
    signing.sign(root, signer, ignored=left_out)


def _each(patterns: Patterns) -> tuple[str, ...]:
    names = (patterns,) if isinstance(patterns, str) else tuple(patterns or ())
    # In the hub's client, a pattern with a slash at its end stands for everything in that folder.
    return tuple(f"{name}*" if name.endswith("/") else name for name in names)


def _left_out(
    root: Path, prefix: str, ignore: Sequence[str], allow: Sequence[str] | None
) -> Iterator[str]:
    with os.scandir(root / prefix) as listing:
        entries = sorted(listing, key=lambda entry: entry.name)
    for entry in entries:
        path = f"{prefix}{entry.name}"
        # A star also matches slashes: `checkpoint-*` matches everything in such a folder.
        if any(fnmatchcase(path, pattern) for pattern in ignore):
            yield path
        elif entry.is_dir(follow_symlinks=False):
            yield from _left_out(root, f"{path}/", ignore, allow)
        elif allow is not None and not any(
            fnmatchcase(path, pattern) for pattern in (*allow, SIGNATURE)
        ):
            yield path
