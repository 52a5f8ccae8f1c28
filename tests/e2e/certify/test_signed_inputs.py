"""`signed-by` through the whole chain: an input signed by another key is not trained on, whatever
the host says. The trainer is a stand-in; machine, TPM and sandbox are real.
"""

from pathlib import Path

import pytest

from aicert.cli.main import main
from aicert.exports import facts
from aicert.model_signature.signed_by import key_text
from aicert.verifier.verify import read_certificate
from tests.e2e.conftest import StandIn
from tests.unit.signing_keys import pair

pytestmark = pytest.mark.slow

# A dishonest host replaces its check by this one.
BLIND = '''"""No check."""


def check_signers(root: object, lock: object) -> None:
    """All is well."""
'''
PLAIN = 'model  = "path:examples/tiny-llama"'


def test_an_input_is_of_the_locked_key_or_nothing_is_trained(
    stand_in: StandIn, tmp_path: Path
) -> None:
    checkout = stand_in("say(0, 3)\nsay(1, 3)\nsay(3, 3)\nweights()\n")
    assert checkout.doit("example").returncode == 0
    keys, other = pair(tmp_path, "k"), pair(tmp_path, "other")
    assert main(["sign", str(checkout.root / "examples/tiny-llama"), "--key", str(keys.key)]) == 0
    toml = checkout.root / "aicert.toml"
    text = toml.read_text()

    def signed_by(key: str) -> None:
        wanted = f'model  = {{ from = "path:examples/tiny-llama", signed-by = "{key}" }}'
        toml.write_text(text.replace(PLAIN, wanted))

    good, wrong = (key_text(one.private.public_key()) for one in (keys, other))
    signed_by(good)
    assert checkout.doit("lock").returncode == 0
    done = checkout.doit("certify")
    assert done.returncode == 0, done.stderr
    read = facts.read(checkout.certificate.read_bytes())
    assert read.report.signers == (("model", good),)
    assert str(read.log["paceSteps"].data) == "(0, 1, 3)"
    shown = checkout.doit("verify", "--policy", "local")
    assert f"input model signed by {good}" in shown.stdout.replace("\n" + " " * 27, "")
    signed_by(wrong)
    done = checkout.doit("lock")
    assert (done.returncode, "model.sig is not signed by" in done.stderr) == (2, True), done.stderr
    # The host's own check is disabled. The machine still refuses, and no certificate results.
    (checkout.root / "rules/project/input_signatures.py").write_text(BLIND)
    assert checkout.doit("lock").returncode == 0
    before = checkout.certificate.read_bytes()
    done = checkout.doit("certify")
    message = "input model: model.sig is not signed by"
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    assert checkout.certificate.read_bytes() == before
    assert read_certificate(checkout.certificate).lockfile == read.certificate.lockfile
