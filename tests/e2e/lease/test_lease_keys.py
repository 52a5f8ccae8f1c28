"""Lease keys in a TPM (swtpm) and in a PKCS #11 token (SoftHSM): a licence signed with one opens a
lease on the borrower's TPM, and the file next to the bundle contains no key.
"""

from pathlib import Path

import pytest

from aicert.cli import main
from aicert.lease import custody, keys, terms
from aicert.leasing import hardware_keys
from tests.adversarial.forger import Scene
from tests.e2e.lease import test_lease_story
from tests.e2e.lease.lease_tpm import BorrowersTpm
from tests.e2e.lease.test_lease_story import enrol, half_of, issue, pack
from tests.e2e.signing import test_signing_extras
from tests.e2e.signing.test_signing_extras import MODULE, PIN, Token, make_key, uri
from tests.oracles import environment
from tests.unit.aicert.cli.test_main import AT, lay_out
from tests.unit.signing_keys import Printed, pair

pytestmark = pytest.mark.slow

folder = test_lease_story.folder
tpm = test_signing_extras.tpm


def test_a_lease_key_in_a_tpm_signs_licences(
    folder: Path, power: BorrowersTpm, tpm: str, monkeypatch: pytest.MonkeyPatch,
    printed: Printed,
) -> None:  # fmt: skip
    make_key(tpm, auth="secret")
    monkeypatch.setenv("AUTH", "secret")
    opened = ("--password-env", "AUTH")
    agreed = pack(folder, "--key-at", f"tpm:{tpm}", *opened)
    data = (folder / "bot.keys").read_bytes()
    assert b"PRIVATE" not in data
    assert b"secret" not in data
    kept = hardware_keys.parse(data, lambda *_: b"")
    assert agreed.custodian == keys.spki_digest(kept.key.public_key())
    with power.on() as borrower:
        enrol(borrower, folder, agreed)
        # Without the password for the key, nothing is issued.
        assert issue(folder) == 2
        assert issue(folder, *opened) == 0
        assert half_of(borrower, folder) == kept.tpm_half
    printed()
    assert issue(folder, "--password-env", "NONE") == 3
    assert printed()[1].startswith("error: there is no environment variable 'NONE'\n")


def test_a_lease_key_in_a_token_is_packed_and_granted(tmp_path: Path) -> None:
    lay_out(Scene(), tmp_path)
    token = Token(tmp_path)
    token.add(pair(tmp_path, "k"), "release", "A1")
    words = ["lease", "pack", str(tmp_path / "c.json"), str(tmp_path / "model")]
    words += ["-o", str(tmp_path / "bot"), "--policy", "local", "--at", AT]
    words += ["--root", str(tmp_path / "root.pem"), "--key-at", uri(f"module-path={MODULE}")]
    done = environment.aicert(*words, "--password-env", "PIN", **token.environment)
    assert done.returncode == 0, done.stderr
    data = (tmp_path / "bot.keys").read_bytes()
    assert PIN.encode() not in data
    agreed = terms.parse((tmp_path / "bot/terms.toml").read_bytes())
    kept = hardware_keys.parse(data, lambda *_: b"")
    assert agreed.custodian == keys.spki_digest(kept.key.public_key())
    # A grant signs nothing, so the token need not be present.
    words = ["lease", "grant", str(tmp_path / "bot"), "--budget", "5M", "--until", "1d"]
    words += ["--borrower", "acme", "--ledger", str(tmp_path / "ledger.db")]
    assert main.main(words) == 0


@pytest.mark.parametrize("place", ["", "file:key.pem", "key.pem", "tpm:0x1", "pkcs11:object=x"])
def test_places_where_no_lease_key_is(
    tmp_path: Path, place: str, printed: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_out(Scene(), tmp_path)
    words = ["lease", "pack", str(tmp_path / "c.json"), str(tmp_path / "model"), "--at", AT]
    words += ["-o", str(tmp_path / "bot"), "--policy", "local", "--key-at", place]
    code = main.main([*words, "--root", str(tmp_path / "root.pem")])
    # python-pkcs11 is not installed in this environment.
    assert code == (2 if place.startswith("pkcs11:") else 3)
    assert not (tmp_path / "bot").exists()
    assert printed()[1].startswith("error: ")
    assert custody.MAX_BYTES > hardware_keys.MAX_PLACE
