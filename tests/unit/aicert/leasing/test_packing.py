import os
import stat
from pathlib import Path

import pytest

from aicert.errors import AicertError, ConfigError, EvidenceError, ToolError
from aicert.formats import certificate as certificates
from aicert.formats.certificate import Certificate
from aicert.frozen import replace
from aicert.lease import bundle, custody, keys, terms
from aicert.lease.bundle import ContentKey
from aicert.lease.checks import RefusedError
from aicert.leasing import packing
from aicert.leasing.packing import Allowed, Packed
from tests.adversarial.forger import Scene

ALLOWED = Allowed(
    tick_tokens=1000, routes=terms.ROUTES, max_output_tokens=4096, heartbeat_seconds=60,
    egress_bytes_per_token=16, is_offline=False,
)  # fmt: skip


def laid_out(folder: Path, output: str = "model", scene: Scene | None = None) -> Certificate:
    scene = scene or Scene()
    for path, data in scene.get("outputs")[output].items():
        (folder / "model" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "model" / path).write_bytes(data)
    return certificates.parse(scene.get("file"))


def pack(certificate: Certificate, folder: Path, allowed: Allowed = ALLOWED) -> Packed:
    return packing.pack(certificate, folder / "model", folder / "bot", allowed, lambda _: None)


def unpacked(folder: Path) -> dict[str, bytes]:
    """Return the files that a machine with both key halves reads from the bundle."""
    data = (folder / "bot/header.json").read_bytes()
    header, agreed = bundle.parse(data), terms.parse((folder / "bot/terms.toml").read_bytes())
    bundle.check_terms(header, agreed)
    kept = custody.parse((folder / "bot.keys").read_bytes())
    key = ContentKey(kept.tpm_half, kept.broker_half, data)
    files = {}
    for number, file in enumerate(header.files):
        sealed = (folder / "bot/data" / str(number)).read_bytes()
        step = bundle.CHUNK + bundle.TAG
        chunks = [sealed[at : at + step] for at in range(0, len(sealed), step)]
        plain = bytearray()
        bundle.decrypt_file(key, number, file, chunks, plain.extend)
        files[file.path] = bytes(plain)
    return files


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use chunks of 3 bytes, since the test's files are small."""
    monkeypatch.setattr(bundle, "CHUNK", 3)


def test_what_is_packed_is_unpacked(tmp_path: Path) -> None:
    certificate = laid_out(tmp_path)
    (tmp_path / "model/README.md").write_text("not certified, and not packed")
    packed = pack(certificate, tmp_path)
    outputs = Scene().get("outputs")["model"]
    assert unpacked(tmp_path) == outputs
    assert {file.path for file in packed.header.files} == set(outputs)
    assert any(file.chunks > 1 for file in packed.header.files)
    copy = certificates.parse((tmp_path / "bot/certificate.json").read_bytes())
    assert packed.terms.certificate == certificates.core_digest(copy)
    custodian = keys.load_public((tmp_path / "bot/custodian.der").read_bytes())
    assert packed.terms.custodian == keys.spki_digest(custodian)


def test_the_keys_are_their_owners_alone(tmp_path: Path) -> None:
    pack(laid_out(tmp_path), tmp_path)
    assert stat.S_IMODE((tmp_path / "bot.keys").stat().st_mode) == 0o600
    held = (tmp_path / "bot.keys").read_bytes()
    kept = custody.parse(held)
    for file in (tmp_path / "bot").rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            assert kept.tpm_half not in data
            assert kept.tpm_half.hex().encode() not in data


def test_no_plain_text_is_in_the_bundle(tmp_path: Path) -> None:
    certificate = laid_out(tmp_path)
    pack(certificate, tmp_path)
    whole = b"".join(path.read_bytes() for path in sorted((tmp_path / "bot/data").iterdir()))
    for data in Scene().get("outputs")["model"].values():
        assert len(data) < 8 or data not in whole


def test_bundle_files_are_an_output_of_the_certificate(tmp_path: Path) -> None:
    certificate = laid_out(tmp_path)
    packed = pack(certificate, tmp_path)
    bundle.check_certificate(packed.header, packed.terms, certificate)
    other = replace(certificate, lockfile=b"another")
    with pytest.raises(RefusedError, match=r"^bundle\.files: the certificate is not the one"):
        bundle.check_certificate(packed.header, packed.terms, other)
    fewer = replace(packed.header, files=packed.header.files[1:])
    with pytest.raises(RefusedError, match=r"^bundle\.files: the files are not an output"):
        bundle.check_certificate(fewer, packed.terms, certificate)


def test_an_offline_lease_says_so(tmp_path: Path) -> None:
    packed = pack(laid_out(tmp_path), tmp_path, replace(ALLOWED, is_offline=True))
    assert packed.terms.key == terms.TPM_ALONE
    assert unpacked(tmp_path) == Scene().get("outputs")["model"]


def test_a_timestamp_does_not_change_a_certificates_digest() -> None:
    certificate = certificates.parse(Scene().get("file"))
    stamped = replace(certificate, evidence=replace(certificate.evidence, timestamps=("later",)))
    assert certificates.core_digest(stamped) == certificates.core_digest(certificate)


def broken(error: type[AicertError], match: str, certificate: Certificate, folder: Path) -> None:
    with pytest.raises(error, match=match):
        pack(certificate, folder)
    assert not (folder / "bot").exists()
    assert not (folder / "bot.keys").exists()


def test_a_file_that_is_not_the_certified_one_leaves_nothing(tmp_path: Path) -> None:
    certificate = laid_out(tmp_path)
    path = next(iter(Scene().get("outputs")["model"]))
    data = (tmp_path / "model" / path).read_bytes()
    (tmp_path / "model" / path).write_bytes(bytes([data[0] ^ 1]) + data[1:])
    broken(EvidenceError, "changed while it was packed", certificate, tmp_path)
    (tmp_path / "model" / path).unlink()
    broken(EvidenceError, "does not hold an output of the certificate", certificate, tmp_path)


def test_a_file_that_becomes_shorter_leaves_nothing(tmp_path: Path) -> None:
    certificate = laid_out(tmp_path)
    path = tmp_path / "model" / max(Scene().get("outputs")["model"])

    def cut(_: int) -> None:
        path.write_bytes(b"")

    with pytest.raises(EvidenceError, match="changed while it was packed"):
        packing.pack(certificate, tmp_path / "model", tmp_path / "bot", ALLOWED, cut)
    assert not (tmp_path / "bot").exists()


@pytest.mark.parametrize("name", ["bot", "bot.keys"])
def test_nothing_is_replaced(tmp_path: Path, name: str) -> None:
    certificate = laid_out(tmp_path)
    (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(ConfigError, match="already exists"):
        pack(certificate, tmp_path)
    assert (tmp_path / name).read_bytes() == b"mine"
    os.remove(tmp_path / name)
    pack(certificate, tmp_path)


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    certificate = laid_out(tmp_path)
    (tmp_path / "none").write_bytes(b"")
    with pytest.raises(ToolError, match="cannot write"):
        packing.pack(
            certificate, tmp_path / "model", tmp_path / "none/bot", ALLOWED, lambda _: None
        )


def test_folders_above_are_made(tmp_path: Path) -> None:
    certificate = laid_out(tmp_path)
    packing.pack(certificate, tmp_path / "model", tmp_path / "new/bot", ALLOWED, lambda _: None)
    assert (tmp_path / "new/bot/terms.toml").is_file()


def two_outputs() -> Scene:
    """Return a scene with two outputs, whose files have the same names."""
    scene = Scene()
    files = scene.get("outputs")["model"]
    other = {path: data[::-1] + b"!" for path, data in files.items()}
    return scene.edit("outputs", lambda _: {"model": files, "second": other})


@pytest.mark.parametrize("output", ["model", "second"])
def test_of_two_outputs_the_one_that_is_there_is_packed(tmp_path: Path, output: str) -> None:
    scene = two_outputs()
    certificate = laid_out(tmp_path, output, scene)
    pack(certificate, tmp_path)
    assert unpacked(tmp_path) == scene.get("outputs")[output]
