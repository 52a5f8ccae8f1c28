import base64
import hashlib
from pathlib import Path

import pytest

from aicert.errors import ConfigError, EvidenceError
from aicert.trust import roots


@pytest.mark.parametrize("name", sorted(roots.FINGERPRINTS))
def test_pinned_files_have_their_fingerprints(name: str) -> None:
    assert hashlib.sha256(roots.pinned(name)).hexdigest() == roots.FINGERPRINTS[name]


def test_nothing_else_is_pinned() -> None:
    names = {path.name for path in Path(roots.PINNED).iterdir()}
    assert names == set(roots.FINGERPRINTS)


def test_azures_root_certifies_other_keys_than_attestation_keys() -> None:
    root, confidential = roots.azure_vtpm_2023(), roots.azure_confidential_2023()
    assert (root.needs_eku, confidential.needs_eku) == (True, True)
    assert root.subjects == (
        ".TrustedVM.Azure.Microsoft",
        ".TrustedVM.Azure.windows.net",
        ".ConfidentialVM.Azure.Microsoft",
        ".ConfidentialVM.Azure.windows.net",
    )
    assert confidential.subjects == root.subjects[2:]
    assert root.intermediates == confidential.intermediates
    assert [root.tier, confidential.tier] == ["vtpm", "confidential"]
    assert [root.simulated, confidential.simulated] == [None, None]


def test_a_changed_installation_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roots, "PINNED", str(tmp_path))
    with pytest.raises(ConfigError, match="cannot read"):
        roots.azure_vtpm_2023()
    good = Path(roots.__file__).parent / "pinned" / "azure-vtpm-ca-01.pem"
    (tmp_path / "azure-vtpm-root-2023.pem").write_bytes(good.read_bytes())
    with pytest.raises(ConfigError) as caught:
        roots.azure_vtpm_2023()
    assert caught.value.message == (
        "pinned certificate azure-vtpm-root-2023.pem was changed in this installation"
    )
    assert caught.value.hint == (
        "in a checkout of this project: pip install --force-reinstall --no-deps ."
    )


def test_a_pinned_file_is_not_read_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "azure-vtpm-root-2023.pem"
    good = (Path(roots.PINNED) / name).read_bytes()
    monkeypatch.setattr(roots, "PINNED", str(tmp_path))
    (tmp_path / name).write_bytes(good.rjust(roots.MAX_PEM))
    assert roots.pinned(name) == roots.pem_to_der(good, name)
    (tmp_path / name).write_bytes(good.rstrip().rjust(roots.MAX_PEM + 1))
    with pytest.raises(ConfigError) as caught:
        roots.pinned(name)
    assert caught.value.message == f"{name} is not one PEM certificate"


def armoured(body: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" + body + b"\n-----END CERTIFICATE-----\n"


def test_pem_is_exactly_one_certificate() -> None:
    der = roots.pinned("azure-vtpm-ca-01.pem")
    one = armoured(base64.b64encode(der))
    assert roots.pem_to_der(one, "x") == der
    head, tail = b"-----BEGIN CERTIFICATE-----\n", b"-----END CERTIFICATE-----\n"
    lines = (head, tail, head + one, one + tail)
    for bad in (one + one, b"", one + b"more", armoured(b"?"), armoured(b"AAA"), *lines):
        with pytest.raises(ConfigError, match="not one PEM certificate"):
            roots.pem_to_der(bad, "x")
    for bad in (armoured(b""), armoured(base64.b64encode(der[:-1]))):
        with pytest.raises(EvidenceError):
            roots.pem_to_der(bad, "x")


@pytest.mark.parametrize(
    "data",
    [
        b"no certificate",
        b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
    ],
)
def test_what_is_not_one_pem_has_a_hint(data: bytes) -> None:
    with pytest.raises(ConfigError) as error:
        roots.pem_to_der(data, "it")
    assert error.value.message == "it is not one PEM certificate"
    assert error.value.hint == roots.PEM_HINT
