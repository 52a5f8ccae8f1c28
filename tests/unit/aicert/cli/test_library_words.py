"""Messages of libraries and the system about odd files are replaced by our own."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from aicert.cli.main import main
from tests.unit.sample_certificate import sample
from tests.unit.signing_keys import pair

RAW = (
    "Too many levels", "ELOOP", "Errno", "Malformed", "InvalidByte", "max depth", "UserWarning",
    "Traceback", "defect of this program", "OpenSSL error", "ParseError", "Could not deserialize",
)  # fmt: skip
# PEM as it comes out of mail and editors.
BEGIN, END = "-----BEGIN CERTIFICATE-----\n", "-----END CERTIFICATE-----\n"
PEM = {
    "no-end": BEGIN + "MIIB\n",
    "no-begin": "MIIB\n" + END,
    "cut-line": BEGIN.rstrip("-\n") + "\nMIIB\n" + END,
    "another-end": BEGIN + "MIIB\n-----END PUBLIC KEY-----\n",
    "not-base64": BEGIN + "*\x00\u00e9*\n" + END,
    "not-der": BEGIN + "AAAA\n" + END,
    "empty": BEGIN + END,
    "twice": BEGIN + BEGIN + "MIIB\n" + END + END,
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a signed model, a certificate, and `loop`, a link to itself."""
    monkeypatch.chdir(tmp_path)
    keys = pair(tmp_path, "k")
    (tmp_path / "certificate.json").write_bytes(sample())
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}")
    assert main(["sign", "model", "--key", str(keys.key)]) == 0
    (tmp_path / "loop").symlink_to("loop")
    return tmp_path


def refused(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(words) in (1, 2, 3)
    shown = "".join(capsys.readouterr())
    assert not [raw for raw in RAW if raw.lower() in shown.lower()], shown
    return shown


LOOPS = [
    "verify loop",
    "verify certificate.json --lockfile loop",
    "verify certificate.json --policy loop/policy.toml",
    "verify certificate.json --root loop",
    "show loop",
    "export loop .",
    "export certificate.json loop",
    "card certificate.json loop",
    "report certificate.json -o loop",
    "report certificate.json -o loop/page.html",
    "sign model --key k.pem --signature loop/model.sig",
    "digest loop",
    "sign loop --key k.pem",
    "sign model --key loop",
    "verify-signature loop --key k.pub",
    "verify-signature model --key loop",
    "verify-signature model --certificate-chain loop",
    "verify-signature model --key k.pub --signature loop",
    "guard --policy loop -- python x.py",
]


@pytest.mark.parametrize("line", LOOPS)
def test_links_that_lead_in_a_circle(
    folder: Path, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "loop" in refused(line.split(), capsys)


def test_a_link_among_the_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.symlink("shard.safetensors", folder / "model/shard.safetensors")
    for line in ("verify-signature model --key k.pub", "sign model --key k.pem", "digest model"):
        assert "symbolic link" in refused(line.split(), capsys)


@pytest.mark.parametrize("text", PEM.values(), ids=PEM)
@pytest.mark.parametrize(
    "line",
    [
        "verify certificate.json --policy local --root bad.pem",
        "verify-signature model --certificate-chain bad.pem",
        "verify-signature model --key bad.pem",
        "sign model --key bad.pem",
    ],
)
def test_pem_that_cannot_be_read(
    folder: Path, text: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "bad.pem").write_text(text)
    assert "bad.pem" in refused(line.split(), capsys)
