"""`aicert show`: no verdict, nothing unescaped, and only boot-log events that the PCRs cover."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from aicert.cli import main
from aicert.cli.show import claims as show
from aicert.cli.show import event_log
from aicert.formats.certificate import TDX, Certificate, PlatformReport, core_digest
from aicert.formats.digest import of_bytes
from tests.adversarial.attacks_time import timestamps
from tests.adversarial.forger import Scene
from tests.fuzz import event_logs
from tests.unit.aicert.cli.test_main import lay_out


def test_show_explains_the_boot_log_where_it_replays() -> None:
    bare: Certificate = Scene().get("certificate")
    assert show.boot(bare) is None
    on = event_logs.variable("SecureBoot", b"\x01")
    log = event_logs.spec_id() + event_logs.event(7, event_logs.VARIABLE, on)
    log += event_logs.event(7, event_logs.IPL, b"other", hashed=b"hidden")
    log += event_logs.event(4, event_logs.IPL, b"a loader that the register does not have")
    values = event_log.replay(event_log.parse(log), "sha256")

    def carrying(data: bytes, pcrs: dict[int, bytes]) -> Certificate:
        evidence = replace(bare.evidence, event_log=data, pcrs={**bare.evidence.pcrs, **pcrs})
        return replace(bare, evidence=evidence)

    text = show.claims_text(carrying(log, {7: values[7]}))
    assert "boot log  Secure Boot was on; 2 events of registers that the log replays" in text
    assert "variable SecureBoot, 1 bytes" in text
    assert "other" not in text.partition("boot log")[2]
    assert "a loader" not in text
    assert "Secure Boot is unknown; 0 events" in show.claims_text(carrying(log, {}))
    assert "boot log  event log" in show.claims_text(carrying(b"short", {}))
    assert show.claims(carrying(b"short", {}))["bootLog"] == {
        "error": "event log ends early, at byte 5"
    }


def test_show_explains_the_log_of_a_trust_domain_by_its_quote() -> None:
    scene = Scene("bare td")
    padded = event_logs.ccel(
        event_logs.event(1, event_logs.IPL, b"firmware", algorithms=(0x000C,)),
        event_logs.event(3, event_logs.IPL, b"a kernel that is not there", algorithms=(0x000C,)),
    )
    value = event_log.replay(event_log.parse(padded), "sha384")[1]
    scene.edit("td", lambda td: td | {"rtmrs": (value, *td["rtmrs"][1:])})
    bare: Certificate = scene.get("certificate")

    def carrying(data: bytes) -> Certificate:
        return replace(bare, evidence=replace(bare.evidence, event_log=data))

    text = show.claims_text(carrying(padded))
    assert "boot log  Secure Boot is unknown; 1 event of registers that the log replays" in text
    assert f"          RTMR 0   sha384:{hashlib.sha384(b'firmware').hexdigest()}  firmware" in text
    assert "a kernel" not in text
    boot = show.claims(carrying(padded))["bootLog"]
    assert isinstance(boot, dict)
    assert [(event["rtmr"], event["data"]) for event in boot["events"]] == [(0, "firmware")]
    # A TPM's log, if there is one, covers PCRs.
    of_tpm = event_logs.spec_id() + event_logs.event(7, event_logs.IPL, b"x")
    assert "; 0 events of registers" in show.claims_text(carrying(of_tpm))
    scene.put("platform", PlatformReport(kind=TDX, report=b"no quote"))
    bare = scene.get("certificate")
    assert show.claims(carrying(padded))["bootLog"] == {"error": "a TD quote of 8 bytes"}


def test_show_has_no_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = lay_out(Scene(), tmp_path)
    assert main.main(["show", str(folder / "c.json")]) == 0
    out = capsys.readouterr().out
    assert out.startswith("a certificate's claims; nothing here was verified")
    assert "40 (self-reported)" in out
    assert main.main(["show", str(folder / "c.json"), "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["verified"], document["run"]) == (False, "tiny")
    assert document["lockfileReadable"] == "canonical"


def test_show_escapes_and_limits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from aicert.formats.run_report import Override, Value

    scene = Scene()
    scene.edit("outputs", lambda _: {"model": {f"f{i}.safetensors": b"%d" % i for i in range(60)}})
    scene.edit("lockfile_bytes", lambda data: data + b"\n")
    override = Override(key="k\x1b[2J", configured="a\nb", used="x" * 900, why="\u202e")
    losses = Value("self-reported", (1.0, 2.0))
    scene.edit(
        "report",
        lambda r: replace(r, overrides=(override,), values=r.values | {"losses": losses}),
    )
    lay_out(scene, tmp_path)
    assert main.main(["show", str(tmp_path / "c.json")]) == 0
    out = capsys.readouterr().out
    assert all(line.isprintable() and len(line) < 300 for line in out.split("\n"))
    assert "and 10 more" in out
    assert "2 numbers" in out
    assert "not in canonical form" in out
    assert main.main(["show", str(tmp_path / "c.json"), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["overrides"][0]["why"] == "\u202e"


def test_show_names_the_digest_and_what_is_said_of_the_time() -> None:
    certificate = Scene("local", 2).get("certificate")
    digest = f"digest    {core_digest(certificate)} (of the certificate without its time stamps)"
    shown = show.claims_text(certificate)
    assert digest in shown.splitlines()
    assert "stamped" not in shown
    more = timestamps(certificate, "rfc3161:AAAA", "\x1b[31m:x")
    shown = show.claims_text(more)
    assert digest in shown.splitlines()
    assert "stamped   rfc3161, \\x1b[31m" in shown.splitlines()
    claims = show.claims(more)
    assert claims["digest"] == str(core_digest(certificate))
    assert claims["timestamps"] == ["rfc3161:AAAA", "\x1b[31m:x"]


def test_show_names_the_audits_before_a_training() -> None:
    scene = Scene("local", 2)
    digest = of_bytes(b"results")
    scene.edit(
        "report",
        lambda report: replace(report, exit_code="1", audits=(("look", digest), ("more", None))),
    )
    certificate = scene.get("certificate")
    text = show.claims_text(certificate)
    assert f"audit     look             {digest}\n" in text
    assert "audit     more             none\n" in text
    assert show.claims(certificate)["audits"] == {"look": str(digest), "more": "none"}
