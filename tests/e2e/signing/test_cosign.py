"""cosign 2.5 as Debian 13 packages it, offline: it accepts the commands in our documents."""

import base64
import functools
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from aicert.cli.main import main
from aicert.errors import ToolError
from aicert.formats import certificate as certificates
from aicert.formats.digest import of_bytes
from aicert.signing.keys import key_signer
from tests.oracles import environment
from tests.unit.sample_certificate import sample
from tests.unit.signing_keys import pair

pytestmark = pytest.mark.slow
DOCS = Path(__file__).resolve().parents[3] / "docs" / "spec"


@functools.cache
def cosign() -> Path:
    """Return this computer's own cosign, otherwise one that is fetched at set-up."""
    own = shutil.which("cosign")
    try:
        return Path(own) if own is not None else environment.cosign()
    except ToolError as error:
        pytest.skip(f"COSIGN WAS NOT RUN, it is in Debian 13 (trixie): {error.message}")


def documented(name: str, folder: Path) -> int:
    """Run the command that a document gives, in `folder` without a network. Returns its
    exit code.
    """
    text = (DOCS / name).read_text().replace("\\\n", " ")
    (command,) = re.findall(r"^cosign verify.*$", text, re.MULTILINE)
    program = ["unshare", "--user", "--net", str(cosign()), *command.split()[1:]]
    variables = {"HOME": str(folder), "PATH": os.environ["PATH"]}
    return subprocess.run(program, cwd=folder, env=variables, capture_output=True).returncode


def test_cosign_verifies_a_model_signature(tmp_path: Path) -> None:
    keys, model = pair(tmp_path, "k"), tmp_path / "model"
    keys.pub.rename(tmp_path / "run-key.pem")
    model.mkdir()
    for name in ("weights", "config.json"):
        (model / name).write_text(name)
    signature = tmp_path / "model.sig"
    assert main(["sign", str(model), "--key", str(keys.key), "--signature", str(signature)]) == 0
    document = json.loads(signature.read_bytes())
    statement = json.loads(base64.b64decode(document["dsseEnvelope"]["payload"]))
    resources = statement["predicate"]["resources"]
    digests = b"".join(bytes.fromhex(resource["digest"]) for resource in resources)
    (tmp_path / "digests").write_bytes(digests)
    root = {"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}
    (tmp_path / "no-roots.json").write_text(json.dumps(root))
    assert documented("model-signature.md", tmp_path) == 0
    (tmp_path / "digests").write_bytes(digests + b"x")
    assert documented("model-signature.md", tmp_path) == 1


def test_cosign_verifies_the_provenance_of_a_file(tmp_path: Path) -> None:
    keys = pair(tmp_path, "k")
    keys.pub.rename(tmp_path / "run-key.pem")
    (tmp_path / "model").mkdir()
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(b"weights")
    files = {"model.safetensors": of_bytes(b"weights").hex}
    payload = certificates.parse(sample(files=files)).envelope.payload
    envelope = json.loads(key_signer(keys.private).bundle(payload))["dsseEnvelope"]
    (tmp_path / "provenance.intoto.jsonl").write_text(json.dumps(envelope))
    assert documented("exports.md", tmp_path) == 0
    weights.write_bytes(b"others")
    assert documented("exports.md", tmp_path) == 1
