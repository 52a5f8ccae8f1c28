"""Independent programs, asked about the same bytes: tpm2_checkquote and openssl."""

import base64
import shutil
import struct
import subprocess
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is missing")
needs_checkquote = pytest.mark.skipif(
    shutil.which("tpm2_checkquote") is None, reason="tpm2_checkquote (tpm2-tools) is missing"
)
HASHES = {0x000B: "sha256", 0x000C: "sha384", 0x000D: "sha512"}
LIMIT_S = 600


def pem(der: bytes) -> bytes:
    """Return a certificate's PEM without parsing it: cryptography may refuse this one."""
    body = base64.encodebytes(der).decode()
    return f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n".encode()


def public_pem(key: object) -> bytes:
    """Return a public key in PEM."""
    return bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))  # type: ignore[attr-defined]  # any key


def checkquote(
    folder: Path, *, ak: bytes, attest: bytes, signature: bytes, pcrs: Mapping[int, bytes],
    extra_data: bytes,
) -> bool:  # fmt: skip
    """Return whether `tpm2_checkquote` accepts; `ak` is PEM, `signature` a TPMT_SIGNATURE."""
    given = {"ak": ak, "attest": attest, "signature": signature, "pcrs": serialized(pcrs)}
    for name, data in given.items():
        (folder / name).write_bytes(data)
    command = ["tpm2_checkquote", "-u", "ak", "-m", "attest", "-s", "signature", "-f", "pcrs"]
    hash_ = HASHES.get(int.from_bytes(signature[2:4]), "sha256")
    return _accepts([*command, "-q", extra_data.hex(), "-g", hash_], folder)


def serialized(pcrs: Mapping[int, bytes]) -> bytes:
    """Return PCRs 0–15 as tpm2-tools keeps them.

    `tpm2_quote -F serialized` copies TPML_PCR_SELECTION and TPML_DIGESTs as a C program on x86 has
    them in memory.
    """
    selection = struct.pack("<IHB5s", 1, 0x000B, 3, b"\xff\xff").ljust(132, b"\0")
    lists = [selection, struct.pack("<I", 2)]
    for first in (0, 8):
        lists.append(struct.pack("<I", 8))
        lists += [struct.pack("<H64s", 32, pcrs[first + index]) for index in range(8)]
    return b"".join(lists)


def verify_chain(folder: Path, chain: Sequence[bytes], root: bytes, at: datetime) -> bool:
    """Return whether `openssl verify` accepts a chain (DER, leaf first) up to `root` (PEM).

    It gets `-ignore_critical`, since it cannot know our extension for simulated platforms.
    """
    (folder / "root.pem").write_bytes(root)
    (folder / "leaf.pem").write_bytes(pem(chain[0]))
    (folder / "others.pem").write_bytes(b"".join(map(pem, chain[1:])) or root)
    options = ["-ignore_critical", "-attime", str(int(at.timestamp())), "-no-CApath", "-no-CAstore"]
    files = ["-CAfile", "root.pem", "-untrusted", "others.pem", "leaf.pem"]
    return _accepts(["openssl", "verify", *options, *files], folder)


def verify_signature(folder: Path, key: bytes, signature: bytes, data: bytes) -> bool:
    """Return whether `openssl dgst` accepts a signature with SHA-256 by `key` (PEM)."""
    for name, content in {"key": key, "signature": signature, "data": data}.items():
        (folder / name).write_bytes(content)
    command = ["openssl", "dgst", "-sha256", "-verify", "key", "-signature", "signature", "data"]
    return _accepts(command, folder)


def _accepts(command: list[str], folder: Path) -> bool:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, stdin=subprocess.DEVNULL, timeout=LIMIT_S
    )
    return done.returncode == 0
