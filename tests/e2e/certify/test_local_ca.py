"""The CA of simulated platforms: one per checkout and driver, refused if it is incomplete."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from aicert.crypto import simulated
from aicert.errors import ToolError
from rules.machines.ca import Ca, local_ca


def test_ca_is_one_per_checkout_and_driver(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        certificates = list(pool.map(lambda _: local_ca(tmp_path, "local").certificate, range(16)))
    assert len(set(certificates)) == 1
    assert local_ca(tmp_path, "qemu").certificate not in certificates
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
    assert simulated.simulated_driver(ca.certificate) == "local"


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
    # A public key of this size need not be genuine to be refused.
    return rsa.RSAPublicNumbers(65537, (1 << 1023) + 1).public_key()
