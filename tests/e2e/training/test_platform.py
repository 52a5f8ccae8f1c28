"""The local platform on a real swtpm: what it gives a guest.

The oracles are not ours: `tpm2_checkquote`, `openssl`, `sha256` by definition, `cryptography`.
"""

import hashlib
import struct
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from aicert.appraisal.ak_chain import EKU_AK
from aicert.crypto import simulated
from aicert.errors import ToolError
from enclave_runner.attester.tpm import Tpm, cut_padding
from rules.machines import swtpm
from rules.machines.ca import Ca
from tests.e2e.verify.make_evidence import (
    Evidence,
    fresh_tpm,
    make_evidence,
    quote_extra_data,
    working_directory,
)

NONCE = hashlib.sha256(b"nonce").digest()
STATEMENT = b'{"_type": "a statement"}'
EVENTS = ((14, b"the lockfile's bytes"), (14, b"sealed\n"), (8, b"exit 0\n"))
TPM_RH_NULL = 0x40000007


@pytest.fixture(scope="module")
def evidence(ca: Ca) -> Evidence:
    return make_evidence(nonce=NONCE, statement=STATEMENT, events=EVENTS, ca=ca)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    path.mkdir()
    return path


def ak_of(evidence: Evidence) -> rsa.RSAPublicKey:
    key = x509.load_der_x509_certificate(evidence.ak_chain[0]).public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    return key


def rsa_verify(key: rsa.RSAPublicKey, signature: bytes, message: bytes) -> None:
    """Verify a TPMT_SIGNATURE: TPM_ALG_RSASSA, TPM_ALG_SHA256, then a TPM2B (Part 2, 11.3.4)."""
    algorithm, digest, size = struct.unpack(">HHH", signature[:6])
    assert (algorithm, digest, size) == (0x0014, 0x000B, len(signature) - 6)
    key.verify(signature[6:], message, padding.PKCS1v15(), hashes.SHA256())


def tool(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_ak_certificate(evidence: Evidence, tmp_path: Path) -> None:
    certificate = x509.load_der_x509_certificate(evidence.ak_chain[0])
    usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [x509.ObjectIdentifier(EKU_AK)]
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert not constraints.value.ca
    assert simulated.simulated_driver(certificate) == "local"
    assert ak_of(evidence).key_size == 2048

    ak, root = tmp_path / "ak.pem", tmp_path / "ca.pem"
    ak.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    root.write_bytes(evidence.ca_pem)
    tool("openssl", "verify", "-x509_strict", "-ignore_critical", "-CAfile", root, ak)
    # A verifier that does not know the extension does not accept the certificate.
    done = subprocess.run(
        ["openssl", "verify", "-CAfile", root, ak], capture_output=True, text=True, check=False
    )
    assert "unhandled critical extension" in done.stderr


def test_ak_is_the_key_at_the_platform_handle(run_dir: Path, ca: Ca, tmp_path: Path) -> None:
    out = tmp_path / "ak.pem"
    with swtpm.platform(run_dir, ca) as tcti, working_directory(run_dir):
        shown = tool("tpm2_readpublic", "-T", tcti, "-c", "0x81000003", "-f", "pem", "-o", str(out))
        nv = tool("tpm2_nvreadpublic", "-T", tcti, "0x1c101d0")
        with Tpm(tcti) as tpm:
            leaf = x509.load_der_x509_certificate(tpm.ak_chain()[0])
    assert serialization.load_pem_public_key(out.read_bytes()) == leaf.public_key()
    assert "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|sign" in shown
    assert "rsassa" in shown
    assert "platformcreate" in nv


def test_random_bytes_are_as_many_as_wanted_and_others_each_time(run_dir: Path, ca: Ca) -> None:
    with swtpm.platform(run_dir, ca) as tcti, working_directory(run_dir), Tpm(tcti) as tpm:
        drawn = [tpm.random(count) for count in (0, 1, 32, 100, 100)]
    assert [len(each) for each in drawn] == [0, 1, 32, 100, 100]
    assert drawn[3] != drawn[4]
    assert len({drawn[4][at : at + 20] for at in range(0, 100, 20)}) == 5


def test_guest_cannot_replace_the_certificate(run_dir: Path, ca: Ca) -> None:
    with swtpm.platform(run_dir, ca) as tcti, working_directory(run_dir):
        for hierarchy in ("o", "p"):
            done = subprocess.run(
                ["tpm2_nvundefine", "-T", tcti, "-C", hierarchy, "0x1c101d0"],
                capture_output=True,
                check=False,
            )
            assert done.returncode != 0


def test_quote_is_accepted_by_tpm2_checkquote(evidence: Evidence, tmp_path: Path) -> None:
    ak = ak_of(evidence).public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (tmp_path / "ak.pem").write_bytes(ak)
    (tmp_path / "attest").write_bytes(evidence.attest)
    (tmp_path / "signature").write_bytes(evidence.signature)
    expected = quote_extra_data(NONCE, evidence.run_key_name, STATEMENT)
    # tpm2_checkquote does not need the registers' values, which we compare below.
    tool(
        *("tpm2_checkquote", "-u", tmp_path / "ak.pem", "-m", tmp_path / "attest"),
        *("-s", tmp_path / "signature", "-q", expected.hex()),
    )


def test_quote_by_the_letter(evidence: Evidence) -> None:
    rsa_verify(ak_of(evidence), evidence.signature, evidence.attest)
    assert evidence.attest[:6] == b"\xffTCG\x80\x18"
    digest = hashlib.sha256(b"".join(evidence.pcrs[index] for index in range(16))).digest()
    selection = bytes.fromhex("00000001000b03ffff00")
    assert evidence.attest.endswith(selection + b"\x00\x20" + digest)
    assert quote_extra_data(NONCE, evidence.run_key_name, STATEMENT) in evidence.attest


def test_registers_start_at_zero_and_hold_the_events(evidence: Evidence) -> None:
    expected = {index: bytes(32) for index in range(16)}
    for pcr, event in EVENTS:
        digest = hashlib.sha256(event).digest()
        expected[pcr] = hashlib.sha256(expected[pcr] + digest).digest()
    assert evidence.pcrs == expected


def test_run_key_is_certified_as_a_null_hierarchy_primary(evidence: Evidence) -> None:
    name = b"\x00\x0b" + hashlib.sha256(evidence.run_key_public).digest()
    assert evidence.run_key_name == name
    rsa_verify(ak_of(evidence), evidence.certify_signature, evidence.certify_attest)
    assert evidence.certify_attest[:6] == b"\xffTCG\x80\x17"
    # A primary's qualified name is over its hierarchy's handle and its Name (Part 1, 16).
    over = struct.pack(">I", TPM_RH_NULL) + name
    qualified = b"\x00\x0b" + hashlib.sha256(over).digest()
    both = struct.pack(">H", 34) + name + struct.pack(">H", 34) + qualified
    assert evidence.certify_attest.endswith(both)
    assert struct.pack(">H", 32) + NONCE in evidence.certify_attest


def test_run_key_has_the_attributes_and_signs(evidence: Evidence) -> None:
    kind, name_algorithm, attributes = struct.unpack(">HHI", evidence.run_key_public[:8])
    # fixedTPM, stClear, fixedParent, sensitiveDataOrigin, userWithAuth, sign (Part 2, 8.3)
    wanted = sum(1 << bit for bit in (1, 2, 4, 5, 6, 18))
    assert (kind, name_algorithm, attributes) == (0x0023, 0x000B, wanted)
    point = evidence.run_key_public[-68:]
    assert (point[:2], point[34:36]) == (b"\x00\x20", b"\x00\x20")
    key = ec.EllipticCurvePublicKey.from_encoded_point(
        ec.SECP256R1(), b"\x04" + point[2:34] + point[36:]
    )
    signature = evidence.statement_signature
    assert signature[:4] == b"\x00\x18\x00\x0b"
    size = int.from_bytes(signature[4:6], "big")
    r = int.from_bytes(signature[6 : 6 + size], "big")
    s = int.from_bytes(signature[8 + size :], "big")
    key.verify(utils.encode_dss_signature(r, s), STATEMENT, ec.ECDSA(hashes.SHA256()))


def test_run_keys_differ_and_are_flushed(run_dir: Path, ca: Ca) -> None:
    with swtpm.platform(run_dir, ca) as tcti, working_directory(run_dir):
        with Tpm(tcti) as tpm:
            first = tpm.make_run_key()
            first.flush()
            first.flush()
            # This is more than the three transient slots of a TPM without a resource manager.
            names = {first.name}
            for _ in range(4):
                key = tpm.make_run_key()
                names.add(key.name)
                key.flush()
            tpm.make_run_key()
            assert len(names) == 5
            with pytest.raises(ToolError, match="sign with the run key"):
                first.sign(bytes(32))
        assert tool("tpm2_getcap", "-T", tcti, "handles-transient") == ""
        assert tool("tpm2_getcap", "-T", tcti, "handles-persistent").split() == ["-", "0x81000003"]


def test_quote_is_made_again_when_a_register_moves(ca: Ca, monkeypatch: pytest.MonkeyPatch) -> None:
    with fresh_tpm(ca) as (tpm, _):
        read, moves = tpm.read_pcrs, [1]

        def meddle(indices: range) -> dict[int, bytes]:
            if moves[0]:
                moves[0] -= 1
                tpm.extend(9, b"something else")
            return read(indices)

        monkeypatch.setattr(tpm, "read_pcrs", meddle)
        attest, _, values = tpm.quote(bytes(32))
        digest = hashlib.sha256(b"".join(values[index] for index in range(16))).digest()
        assert attest.endswith(digest)
        moves[0] = 1000
        with pytest.raises(ToolError, match="something else is extending them"):
            tpm.quote(bytes(32))


@pytest.mark.parametrize("padding_bytes", [b"", b"\x00" * 100, b"\xff" * 1000])
def test_padding_is_cut(evidence: Evidence, padding_bytes: bytes) -> None:
    leaf = evidence.ak_chain[0]
    assert cut_padding(leaf + padding_bytes) == leaf


@pytest.mark.parametrize(
    "content", ["", "30", "00000000", "ffffffff", "3080", "308300000101", "30820400aabb", "3003aa"]
)
def test_nv_without_a_certificate_is_refused(content: str) -> None:
    with pytest.raises(ToolError, match=r"holds no X\.509 certificate"):
        cut_padding(bytes.fromhex(content))
