"""Evidence that other projects published, beside the repository; absent in most checkouts."""

import re
from base64 import b64decode
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "vectors"

needs_vectors = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"the published evidence is not at {FOLDER}"
)


def read(name: str) -> bytes:
    return (FOLDER / name).read_bytes()


def pem_ders(data: bytes) -> list[bytes]:
    """Every certificate of a text, with whatever follows it inside its armour."""
    bodies = re.findall(rb"-----BEGIN CERTIFICATE-----(.*?)-----END", data, re.DOTALL)
    return [b64decode(body) for body in bodies]
