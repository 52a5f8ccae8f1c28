"""A certificate's bundle as our commands write it, the trusted root, and the same with one lie."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization

from aicert.cli.main import main
from tests import time_authority
from tests.adversarial import ca_forge
from tests.adversarial.forger import FILES, Scene
from tests.adversarial.time_forge import Token
from tests.time_authority import TimeAuthority
from tests.unit.servers import Reply, Request, Site, site

WEIGHTS = "model.safetensors"
# openssl puts the signer's certificate first, and rfc3161-client wants the shorter one there.
AUTHORITY = Token().with_(root_name="the root of a time authority, whose certificate is long")
# What a bundle or a trusted root may have wrong, and what is asked about.
LIES = (
    "another artifact",
    "a changed path",
    "another index",
    "another entry",
    "no proof",
    "a time by another authority",
    "a time of something else",
    "no time",
    "another log",
    "another run key",
)


def run(*words: object) -> None:
    assert main([*map(str, words)]) == 0


@contextmanager
def asked(authority: TimeAuthority) -> Iterator[Site]:
    """The authority, by HTTP."""

    def answer(request: Request) -> Reply:
        return Reply(body=authority.reply(request.body))

    with site(answer) as server:
        yield server


def make(folder: Path) -> None:
    """`bundle.json`, `trusted_root.json`, `run-key.pem` and the file that the run wrote."""
    (folder / "certificate.json").write_bytes(Scene("cloud", 2).get("file"))
    (folder / WEIGHTS).write_bytes(FILES[WEIGHTS])
    run("export", folder / "certificate.json", folder)
    log = folder / "log"
    run("log", "init", log, "--origin", "log.example")
    for name in ("another", "a third"):
        other = folder / f"{name}.json"
        changes = Scene("cloud", 2).put("nonce", name.encode().ljust(32))
        other.write_bytes(changes.get("file"))
        run("log", "append", log, other, "--sigstore")
    run("log", "append", log, folder / "certificate.json", "--sigstore")
    (folder / "tsa").mkdir()
    authority = time_authority.set_up(folder / "tsa", AUTHORITY)
    write_bundle(folder, authority, "bundle.json")
    write_bundle(folder, authority, "another-bundle.json", of="another.json")
    write_root(folder, authority, (log / "log.vkey").read_text().strip())


def write_bundle(
    folder: Path, authority: TimeAuthority, name: str, *, of: str = "certificate.json"
) -> None:
    """The bundle of a certificate, with a time by this authority."""
    with asked(authority) as server:
        words = ["--tsa", server.url, "-o", folder / name]
        run("log", "bundle", folder / "log", folder / of, *words)


def write_root(folder: Path, authority: TimeAuthority, key: str) -> None:
    """`policy.toml` of a log and an authority, and the trusted root that it gives."""
    root = authority.token.root()
    (folder / "time.pem").write_bytes(ca_forge.pem(root))
    (folder / "policy.toml").write_text(
        f'extends = "local"\n[[time-authority]]\nname = "time"\ncertificate = "time.pem"\n'
        f'sha256 = "{ca_forge.hash_of(root)}"\n[[log]]\nname = "models"\nkey = "{key}"\n'
    )
    words = ["--policy", folder / "policy.toml", "-o", folder / "trusted_root.json"]
    run("log", "trusted-root", *words)


def tell(folder: Path, lie: str) -> None:
    """Change what `make` wrote, so that one thing is not as it says."""
    path = folder / "bundle.json"
    bundle: Any = json.loads(path.read_bytes())
    material = bundle["verificationMaterial"]
    entry = material["tlogEntries"][0]
    proof = entry["inclusionProof"]
    times = material["timestampVerificationData"]
    if lie == "another artifact":
        (folder / WEIGHTS).write_bytes(b"weights of somebody else")
    elif lie == "a changed path":
        first = bytearray(base64.b64decode(proof["hashes"][0]))
        first[0] ^= 1
        proof["hashes"][0] = base64.b64encode(first).decode()
    elif lie == "another index":
        proof["logIndex"] = entry["logIndex"] = str(int(entry["logIndex"]) ^ 1)
    elif lie == "another entry":
        other = json.loads((folder / "another-bundle.json").read_bytes())
        material["tlogEntries"] = other["verificationMaterial"]["tlogEntries"]
    elif lie == "no proof":
        material["tlogEntries"] = []
    elif lie == "a time by another authority":
        (folder / "other").mkdir()
        other_token = AUTHORITY.with_(root_key=ca_forge.ec_key("another"))
        write_bundle(folder, time_authority.set_up(folder / "other", other_token), path.name)
        return
    elif lie == "a time of something else":
        stamp = time_authority.set_up(folder / "tsa", AUTHORITY).stamp(bytes(32))
        size = len(stamp)
        response = b"\x30\x82" + (size + 5).to_bytes(2) + b"\x30\3\2\1\0" + stamp
        text = base64.b64encode(response).decode()
        times["rfc3161Timestamps"] = [{"signedTimestamp": text}]
    elif lie == "no time":
        times["rfc3161Timestamps"] = []
    elif lie == "another log":
        run("log", "init", folder / "log2", "--origin", "log.example")
        key = (folder / "log2/log.vkey").read_text().strip()
        write_root(folder, time_authority.set_up(folder / "tsa", AUTHORITY), key)
    else:
        public = ca_forge.ec_key("another").public_key()
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        pem = public.public_bytes(serialization.Encoding.PEM, form)
        (folder / "run-key.pem").write_bytes(pem)
    path.write_bytes(json.dumps(bundle).encode())
