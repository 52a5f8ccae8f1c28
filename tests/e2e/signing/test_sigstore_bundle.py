"""Our bundles and trusted roots, read by sigstore-python, which verifies both proof and time.

It cannot verify a bundle whose key has no certificate. So its parts are tested one by one: its
readers, its tree, its checkpoints and its time stamps; `cryptography` checks the DSSE signature.
"""

from pathlib import Path

import pytest

from tests import sigstore_scene
from tests.oracles import environment

pytestmark = pytest.mark.slow

ASK = r"""
import base64, hashlib, json, sys
from pathlib import Path
from types import SimpleNamespace as Holder
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import load_der_x509_certificate
from rfc3161_client import VerifierBuilder, decode_timestamp_response
from sigstore._internal.merkle import verify_merkle_inclusion
from sigstore._internal.rekor.checkpoint import verify_checkpoint
from sigstore._internal.trust import KeyringPurpose
from sigstore.models import TransparencyLogEntry, TrustedRoot
from sigstore_models.bundle.v1 import Bundle

folder = Path(sys.argv[1])
bundle = Bundle.from_json((folder / "bundle.json").read_bytes())
root = TrustedRoot.from_file(str(folder / "trusted_root.json"))
material = bundle.verification_material
envelope = bundle.dsse_envelope
(signature,) = envelope.signatures
kind, payload = envelope.payload_type.encode(), envelope.payload
signed = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
key = serialization.load_pem_public_key((folder / "run-key.pem").read_bytes())
key.verify(signature.sig, signed, ec.ECDSA(hashes.SHA256()))
(inner,) = material.tlog_entries
entry = TransparencyLogEntry(inner)
verify_merkle_inclusion(entry)
verify_checkpoint(root.rekor_keyring(KeyringPurpose.VERIFY), entry)
body = json.loads(inner.canonicalized_body)["spec"]["hashedRekordV002"]
assert base64.b64decode(body["data"]["digest"]) == hashlib.sha256(signed).digest()
assert base64.b64decode(body["signature"]["content"]) == signature.sig
assert body["signature"]["verifier"]["keyDetails"] == "PKIX_ECDSA_P256_SHA_256"
form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
named = body["signature"]["verifier"]["publicKey"]["rawBytes"]
assert base64.b64decode(named) == key.public_bytes(*form)
(stamp,) = material.timestamp_verification_data.rfc3161_timestamps
builder = VerifierBuilder()
(authority,) = root.get_timestamp_authorities()
for certificate in authority.certificates(allow_expired=True):
    builder = builder.add_root_certificate(certificate)
response = decode_timestamp_response(stamp.signed_timestamp)
assert builder.build().verify_message(response, signature.sig)
subjects = json.loads(payload)["subject"]
weights = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
assert weights in [one["digest"].get("sha256") for one in subjects]
print("verified")
"""


@pytest.mark.parametrize("lie", ["", *sigstore_scene.LIES])
def test_sigstore_reads_what_we_write_and_refuses_lies(lie: str, tmp_path: Path) -> None:
    sigstore_scene.make(tmp_path)
    if lie:
        sigstore_scene.tell(tmp_path, lie)
    done = environment.run(ASK, tmp_path)
    assert (done.stdout == "verified\n") == (not lie), done.stderr
    assert done.returncode == (1 if lie else 0)
