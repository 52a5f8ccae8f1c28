"""The local platform on a real swtpm: what it gives a guest, and what it leaves behind (nothing).

Oracles that we did not write: `tpm2_checkquote`, `openssl`, `sha256` by definition, `cryptography`.
"""

import contextlib
import hashlib
import os
import select
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from aicert import platform_ca
from aicert.errors import ToolError
from enclave_runner.tpm import Tpm, cut_padding
from rules import swtpm
from rules.ca import Ca, local_ca
from tests.e2e.make_evidence import (
    Evidence,
    fresh_tpm,
    make_evidence,
    quote_extra_data,
    working_directory,
)

ROOT = Path(__file__).resolve().parents[2]
NONCE = hashlib.sha256(b"nonce").digest()
STATEMENT = b'{"_type": "a statement"}'
EVENTS = ((14, b"the lockfile's bytes"), (14, b"sealed\n"), (8, b"exit 0\n"))
TPM_RH_NULL = 0x40000007


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Ca:
    return local_ca(tmp_path_factory.mktemp("checkout"), "local")


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
    """TPMT_SIGNATURE: TPM_ALG_RSASSA, TPM_ALG_SHA256, then a TPM2B (Part 2, 11.3.4)."""
    algorithm, digest, size = struct.unpack(">HHH", signature[:6])
    assert (algorithm, digest, size) == (0x0014, 0x000B, len(signature) - 6)
    key.verify(signature[6:], message, padding.PKCS1v15(), hashes.SHA256())


def tool(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def swtpm_pids(run_dir: Path) -> list[int]:
    """Every process that has this run's state in its environment, dead or alive."""
    wanted = f"TPM_PATH={run_dir.resolve()}/".encode()
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and wanted in (entry / "environ").read_bytes():
                found.append(int(entry.name))
    return found


def assert_nothing_left(run_dir: Path) -> None:
    assert swtpm_pids(run_dir) == []
    assert list(run_dir.iterdir()) == []


def test_ca_is_one_per_checkout_and_driver(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: local_ca(tmp_path, "local").certificate, range(16)))
    assert len(set(made)) == 1
    assert local_ca(tmp_path, "qemu").certificate not in made
    folder = tmp_path / ".aicert" / "ca"
    assert sorted(path.name for path in folder.iterdir()) == [
        "local.key",
        "local.pem",
        "qemu.key",
        "qemu.pem",
    ]
    assert (folder / "local.key").stat().st_mode & 0o777 == 0o600


def test_ca_says_simulated(ca: Ca) -> None:
    assert "simulated" in ca.certificate.subject.rfc4514_string()
    assert platform_ca.simulated_driver(ca.certificate) == "local"


def test_ca_made_halfway_is_made_again(tmp_path: Path) -> None:
    folder = tmp_path / ".aicert" / "ca"
    folder.mkdir(parents=True)
    (folder / "local.key").write_text("half")
    (folder / "local.pem.new").write_text("half")
    local_ca(tmp_path, "local").issue(rsa.generate_private_key(65537, 2048).public_key())


@pytest.mark.parametrize("damage", ["no-key", "garbage", "other-key", "other-driver"])
def test_damaged_ca_is_refused_and_kept(tmp_path: Path, damage: str) -> None:
    pem = local_ca(tmp_path, "local").path
    key = pem.with_suffix(".key")
    other = local_ca(tmp_path, "qemu").path
    if damage == "no-key":
        key.unlink()
    elif damage == "garbage":
        key.write_text("garbage")
    else:
        key.write_bytes(other.with_suffix(".key").read_bytes())
    if damage == "other-driver":
        pem.write_bytes(other.read_bytes())
    before = pem.read_bytes()
    with pytest.raises(ToolError) as caught:
        local_ca(tmp_path, "local")
    assert caught.value.hint is not None
    assert pem.read_bytes() == before


def test_ca_issues_for_2048_bit_keys_only(ca: Ca) -> None:
    with pytest.raises(ToolError, match="1024 bits"):
        ca.issue(_weak_key())


def _weak_key() -> rsa.RSAPublicKey:
    # A public key of this size need not be a real one to be refused.
    return rsa.RSAPublicNumbers(65537, (1 << 1023) + 1).public_key()


def test_ak_certificate(evidence: Evidence, tmp_path: Path) -> None:
    certificate = x509.load_der_x509_certificate(evidence.ak_chain[0])
    usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [platform_ca.AK_CERTIFICATE_EKU]
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert not constraints.value.ca
    assert platform_ca.simulated_driver(certificate) == "local"
    assert ak_of(evidence).key_size == 2048

    ak, root = tmp_path / "ak.pem", tmp_path / "ca.pem"
    ak.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    root.write_bytes(evidence.ca_pem)
    tool("openssl", "verify", "-x509_strict", "-ignore_critical", "-CAfile", root, ak)
    # Who does not know the extension does not accept the certificate.
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
    # It does without the values, which we compare below.
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
            # More than the three transient slots that a TPM without a resource manager has.
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


def test_checkout_with_a_long_and_strange_path(tmp_path: Path, ca: Ca) -> None:
    deep = tmp_path / ("long-" * 40) / "comma, space and ümlaut" / ("deeper-" * 30) / "run"
    deep.mkdir(parents=True)
    before = Path.cwd()
    with swtpm.platform(deep, ca) as tcti:
        assert Path.cwd() == before
        with working_directory(deep), Tpm(tcti) as tpm:
            assert tpm.read_pcrs([14]) == {14: bytes(32)}
    assert_nothing_left(deep)


def test_two_at_once(tmp_path: Path, ca: Ca) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    with swtpm.platform(one, ca) as tcti, swtpm.platform(two, ca):
        with working_directory(one), Tpm(tcti) as tpm:
            tpm.extend(14, b"only here")
        with working_directory(two), Tpm(tcti) as tpm:
            assert tpm.read_pcrs([14]) == {14: bytes(32)}
    assert_nothing_left(one)
    assert_nothing_left(two)


def test_second_in_one_directory_is_refused_and_harms_nothing(run_dir: Path, ca: Ca) -> None:
    with swtpm.platform(run_dir, ca) as tcti:
        with pytest.raises(ToolError) as caught, swtpm.platform(run_dir, ca):
            pass
        assert caught.value.hint is not None
        with working_directory(run_dir), Tpm(tcti) as tpm:
            assert tpm.read_pcrs([8]) == {8: bytes(32)}
    assert_nothing_left(run_dir)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_after(error: type[BaseException], run_dir: Path, ca: Ca) -> None:
    with pytest.raises(error), swtpm.platform(run_dir, ca):
        assert swtpm_pids(run_dir) != []
        raise error
    assert_nothing_left(run_dir)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_killed_in_mid_run_is_an_error_at_once(run_dir: Path, ca: Ca) -> None:
    # "at once": one that was waited for in vain says "no answer in".
    with (
        pytest.raises(ToolError, match=r"ended before the run did.*SIGKILL") as caught,
        swtpm.platform(run_dir, ca) as tcti,
        working_directory(run_dir),
        Tpm(tcti) as tpm,
    ):
        tpm.make_run_key()
        for pid in swtpm_pids(run_dir):
            os.kill(pid, signal.SIGKILL)
        tpm.quote(bytes(32))
    assert isinstance(caught.value.__cause__, ToolError)
    assert caught.value.hint is not None
    assert_nothing_left(run_dir)


def test_killed_unnoticed_is_an_error_at_the_end(run_dir: Path, ca: Ca) -> None:
    with pytest.raises(ToolError, match="SIGKILL"), swtpm.platform(run_dir, ca):
        [pid] = swtpm_pids(run_dir)
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert_nothing_left(run_dir)


def test_tpm_that_stops_answering_is_an_error(run_dir: Path, ca: Ca) -> None:
    with swtpm.platform(run_dir, ca) as tcti, working_directory(run_dir):
        [pid] = swtpm_pids(run_dir)
        with (
            pytest.raises(ToolError, match=r"no answer in") as caught,
            Tpm(tcti, answer_s=0.2) as tpm,
        ):
            tpm.read_pcrs([0])
            os.kill(pid, signal.SIGSTOP)
            tpm.read_pcrs([0])
        assert caught.value.hint is not None
        with pytest.raises(ToolError, match="the connection to it is closed"):
            tpm.read_pcrs([0])
    assert_nothing_left(run_dir)


def test_no_tpm_at_all_is_an_error(run_dir: Path) -> None:
    with (
        working_directory(run_dir),
        pytest.raises(ToolError, match="cannot answer"),
        Tpm(swtpm.TCTI),
    ):
        pass


@pytest.fixture
def without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole PATH, with what the platform needs other than swtpm."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("setpriv", "sh"):
        (folder / name).symlink_to(f"/usr/bin/{name}")
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_missing_program_is_named(without: Path, run_dir: Path, ca: Ca) -> None:
    with pytest.raises(ToolError, match="swtpm is not installed") as caught:
        with swtpm.platform(run_dir, ca):
            pass
    assert caught.value.hint == "sudo apt-get install --yes swtpm"
    assert_nothing_left(run_dir)


def test_program_that_ends_at_once_is_quoted(without: Path, run_dir: Path, ca: Ca) -> None:
    (without / "swtpm").write_text("#!/bin/sh\necho 'the disk is on fire'\nexit 7\n")
    (without / "swtpm").chmod(0o755)
    with pytest.raises(ToolError, match=r"(?s)exit code 7.*the disk is on fire"):
        with swtpm.platform(run_dir, ca):
            pass
    assert_nothing_left(run_dir)


HOST = """
import sys
from pathlib import Path
from rules import swtpm
from rules.ca import local_ca
run_dir = Path(sys.argv[1])
with swtpm.platform(run_dir, local_ca(run_dir.parent, "local")):
    print("ready", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def host(run_dir: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that holds a platform until it is told to stop."""
    command = [sys.executable, "-c", HOST, str(run_dir)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_to_the_host_leaves_nothing(number: signal.Signals, run_dir: Path) -> None:
    with host(run_dir) as process:
        process.send_signal(number)
        assert process.wait(10) != 0
    assert_nothing_left(run_dir)


def test_kill_of_the_host_takes_swtpm_with_it(run_dir: Path, ca: Ca) -> None:
    with host(run_dir) as process:
        [pid] = swtpm_pids(run_dir)
        watch = os.pidfd_open(pid)
        try:
            process.kill()
            assert select.select([watch], [], [], 10)[0] == [watch]
        finally:
            os.close(watch)
    # What it left lies in the run's own directory, which the next run does not use.
    assert (run_dir / "swtpm").is_dir()
    with pytest.raises(ToolError, match="uses or has used"), swtpm.platform(run_dir, ca):
        pass
