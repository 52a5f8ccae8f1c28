"""The processor's certificate is requested as its maker's server expects, and checked first.

It is checked before it is written. The server is simulated; the certificates are the Forger's and,
where they are available, genuine ones.
"""

from pathlib import Path
from typing import Any

import pytest

from aicert.appraisal.appraise import appraise
from aicert.errors import ToolError
from aicert.formats import certificate as certificates
from rules.machines.azure import vcek as chip_certificate
from rules.machines.azure.vcek import attach
from tests.adversarial import chip_forge
from tests.adversarial.ca_forge import ec_key, rsa_key
from tests.adversarial.forger import Scene
from tests.unit.aicert.appraisal.test_genuine_confidential import genoa_chip, genoa_report
from tests.unit.genuine import needs_vectors
from tests.unit.servers import Reply, Request, site


@pytest.fixture(autouse=True)
def test_maker(monkeypatch: pytest.MonkeyPatch) -> None:
    """The verifier's roots, except those of genuine processors."""
    monkeypatch.setattr(chip_certificate, "chip_root", lambda *_: chip_forge.makers()[0])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the path of a confidential machine's certificate, as the machine writes it."""
    path = tmp_path / "certificate.json"
    path.write_bytes(Scene("confidential").put("vcek", None).get("file"))
    return path


def vcek(request: Request) -> Reply:
    """Answer as AMD's server, with one chip of the second processor family that is tried."""
    wanted = "blSPL=10&teeSPL=00&snpSPL=27&ucodeSPL=86"
    here = request.path.endswith(f"/Milan/{chip_forge.CHIP_ID.hex()}") and request.query == wanted
    return Reply(body=chip_forge.vcek()) if here else Reply(status=404)


def test_what_the_maker_answers_completes_the_certificate(file: Path) -> None:
    scene = Scene("confidential")

    def judged() -> str:
        certificate = certificates.parse(file.read_bytes())
        policy = scene.get("policy")
        return appraise(certificate, scene.get("model"), policy, at=scene.at).verdict

    with site(vcek) as server:
        assert judged() == "none"
        assert attach(file, server.url) is True
        assert judged() == "passed"
        assert [request.path.split("/")[1] for request in server.requests] == ["Genoa", "Milan"]
        assert attach(file, server.url) is False
    assert file.read_bytes() == scene.get("file")


@pytest.mark.parametrize(
    "part",
    [
        ("platform", None),
        # No confidential verdict can rest on this report; the machine can still pass as a cloud's.
        ("hcl", chip_forge.hcl(bytes(1184), b"{}", kind=4)),
    ],
)
def test_other_machines_need_none(part: tuple[str, Any], file: Path) -> None:
    file.write_bytes(Scene("confidential").put("vcek", None).put(*part).get("file"))
    before = file.read_bytes()
    with site(vcek) as server:
        assert attach(file, server.url) is False
        assert not server.requests
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (
            Reply(status=404),
            r"no certificate for the processor\nchip .*\n.*snp 27.*\n.*Genoa 404, Milan 404",
        ),
        (Reply(status=429), "Genoa 429, Milan 429"),
        (Reply(body=b"<html>"), "does not match: not one DER certificate"),
        (Reply(body=b"x" * 9000), "too large"),
        (
            Reply(body=chip_forge.vcek(key=ec_key("x", "P-384"))),
            "does not match: the report is not",
        ),
        (Reply(body=chip_forge.vcek(issuer_key=rsa_key("other ask"))), "does not match: the chip"),
        (Reply(body=chip_forge.vcek(), cut=100), "cannot ask AMD"),
    ],
)
def test_any_other_answer_is_an_error_and_nothing_is_written(
    reply: Reply, message: str, file: Path
) -> None:
    before = file.read_bytes()
    with site(lambda _: reply) as server, pytest.raises(ToolError, match=message):
        attach(file, server.url)
    assert file.read_bytes() == before


def test_no_server_is_an_error(file: Path) -> None:
    with site(vcek) as server:
        gone = server.url
    with pytest.raises(ToolError, match="cannot ask AMD") as caught:
        attach(file, gone)
    assert caught.value.hint is not None


def test_it_can_be_done_later(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with site(vcek) as server:
        monkeypatch.setattr(attach, "__defaults__", (server.url,))
        assert chip_certificate.main([str(file), str(file)]) == 0
    assert capsys.readouterr().out == f"{file}: added\n{file}: nothing to add\n"
    file.write_text("{")
    assert chip_certificate.main([str(file)]) == 2
    assert capsys.readouterr().err.startswith("error: certificate is not JSON")
    assert chip_certificate.main([str(file.with_name("none"))]) == 2
    assert capsys.readouterr().err.startswith("error: cannot read certificate")


@needs_vectors
def test_a_genuine_report_asks_for_its_genuine_certificate(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    scene = Scene("confidential").put("vcek", None).put("hcl", genoa_report())
    file.write_bytes(scene.get("file"))

    def answer(request: Request) -> Reply:
        wanted = "blSPL=10&teeSPL=00&snpSPL=23&ucodeSPL=84"
        here = "/Genoa/" in request.path and request.query == wanted
        return Reply(body=genoa_chip()) if here else Reply(status=404)

    with site(answer) as server:
        assert attach(file, server.url)
    platform = certificates.parse(file.read_bytes()).evidence.platform
    assert platform is not None
    assert platform.chip_certificate == genoa_chip()
