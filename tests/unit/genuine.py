"""Evidence that other projects published.

It is in the folder that AICERT_VECTORS names, or beside the repository; most checkouts have none.
"""

import os
import re
from base64 import b64decode
from pathlib import Path

import pytest

BESIDE = Path(__file__).resolve().parents[3] / "shared" / "vectors"
FOLDER = Path(os.environ.get("AICERT_VECTORS") or BESIDE)

needs_vectors = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="the published evidence is not here (AICERT_VECTORS)"
)


def read(name: str) -> bytes:
    return (FOLDER / name).read_bytes()


def pem_ders(data: bytes) -> list[bytes]:
    """Return every certificate in a PEM text, with any bytes that follow it inside its armour."""
    bodies = re.findall(rb"-----BEGIN CERTIFICATE-----(.*?)-----END", data, re.DOTALL)
    return [b64decode(body) for body in bodies]
