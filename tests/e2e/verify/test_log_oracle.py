"""Proofs of the attack table, judged by sigstore's reader of checkpoints and of inclusion.

It gets the same leaf, path, checkpoint and key, and accepts each proof that we accept. The proofs
that it accepts and we refuse are listed with the reason.
"""

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from aicert.appraisal.evidence import tlog
from aicert.appraisal.policy import Policy
from aicert.errors import AicertError
from aicert.formats.certificate import Certificate
from aicert.tlog.entry import entry_of
from aicert.tlog.proofs import TLOG_PROOF
from tests.adversarial import attacks_log
from tests.adversarial.forger import Scene
from tests.adversarial.log_forge import ORIGIN, signer
from tests.oracles import environment

pytestmark = pytest.mark.slow

# The input has one JSON object per line: leaf, the proof's bytes, key and its id. The output is
# sigstore's answer to each.
ASK = r"""
import base64, json, sys
from types import SimpleNamespace as Holder
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sigstore._internal.merkle import verify_merkle_inclusion
from sigstore._internal.rekor.checkpoint import SignedCheckpoint
from sigstore.errors import VerificationError

class Ring:
    def __init__(self, key):
        self.key = Ed25519PublicKey.from_public_bytes(key)
    def verify(self, *, key_id, signature, data):
        try:
            self.key.verify(signature, data)
        except InvalidSignature as error:
            raise VerificationError(str(error))

for line in open(sys.argv[1]):
    asked = json.loads(line)
    head, _, checkpoint = base64.b64decode(asked["proof"]).partition(b"\n\n")
    try:
        lines = head.decode().split("\n")
        index = next(one for one in lines if one.startswith("index "))
        hashes = [base64.b64decode(one) for one in lines[lines.index(index) + 1:]]
        signed = SignedCheckpoint.from_text(checkpoint.decode())
        signed.signed_note.verify(Ring(bytes.fromhex(asked["key"])), bytes.fromhex(asked["id"]))
        proof = Holder(
            log_index=int(index[6:]), tree_size=signed.checkpoint.log_size, hashes=hashes,
            root_hash=bytes.fromhex(signed.checkpoint.log_hash),
        )
        leaf = base64.b64decode(asked["leaf"])
        entry = Holder(inclusion_proof=proof, canonicalized_body=leaf)
        verify_merkle_inclusion(Holder(_inner=entry))
        print("ok")
    except Exception as error:
        print("no", type(error).__name__)
"""
# sigstore does not check the origin, whose name it is, lines after a key's first signature, the
# form of numbers and of lines that are no signature, and how long a path or a note may be.
ACCEPTED_BY_SIGSTORE = {
    "checkpoint with a control character",
    "checkpoint with a second signature in the log's name",
    "checkpoint with something after its signatures",
    "checkpoint with too many signatures",
    "checkpoint whose signature has another length",
    "log's checkpoint of another origin",
    "proof of another version",
    "proof that is too large",
    "proof with a size that begins with zero",
    "proof with extra data that are none",
    "wrong proof beside a right one",
}


def scene_of(change: Callable[[Scene], object]) -> tuple[Certificate, Policy]:
    scene = Scene()
    change(scene)
    return scene.get("certificate"), scene.get("policy")


def proofs() -> dict[str, tuple[Certificate, Policy, bytes]]:
    """Return the proofs that are valid base64, by the name of their row, for a policy with this
    log.
    """
    rows = [(one.name, one.change) for one in attacks_log.ATTACKS if one.check == "log.included"]
    rows += [(name, change) for name, change, *_ in attacks_log.RIGHT]
    given = {}
    for name, change in rows:
        certificate, policy = scene_of(change)
        entries = [one for one in certificate.evidence.timestamps if one.startswith(TLOG_PROOF)]
        if not entries or signer().key not in [log.key for log in policy.logs]:
            continue
        try:
            data = base64.b64decode(entries[0].removeprefix(TLOG_PROOF), validate=True)
        except ValueError:
            continue
        given[name] = (certificate, policy, data)
    return given


def ours(certificate: Certificate, policy: Policy) -> bool:
    try:
        tlog.included(certificate, policy)
    except AicertError:
        return False
    return True


def test_sigstore_accepts_what_we_accept_and_what_is_listed(tmp_path: Path) -> None:
    given, key = proofs(), signer().key
    assert len(given) > 40
    questions = [
        json.dumps(
            {
                "leaf": base64.b64encode(entry_of(certificate)).decode(),
                "proof": base64.b64encode(data).decode(),
                "key": key.public.hex(),
                "id": key.id.hex(),
            }
        )
        for certificate, _, data in given.values()
    ]
    (tmp_path / "questions").write_text("\n".join(questions))
    done = environment.run(ASK, tmp_path / "questions")
    assert done.returncode == 0, done.stderr
    answers = [line == "ok" for line in done.stdout.splitlines()]
    theirs = dict(zip(given, answers, strict=True))
    mine = {name: ours(certificate, policy) for name, (certificate, policy, _) in given.items()}
    assert key.name == ORIGIN
    assert {name for name in given if mine[name] and not theirs[name]} == set()
    assert {name for name in given if theirs[name] and not mine[name]} == ACCEPTED_BY_SIGSTORE
    assert sum(mine.values()) > 10
