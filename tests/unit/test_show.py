"""What `aicert show` says of a boot log: only what registers of the certificate cover."""

from dataclasses import replace

from aicert import event_log, show
from aicert.certificate import Certificate
from tests.adversarial.forger import Scene
from tests.fuzz import event_logs


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
    assert "boot log  Secure Boot was on; 2 events of PCRs that the log replays" in text
    assert "variable SecureBoot, 1 bytes" in text
    assert "other" not in text.partition("boot log")[2]
    assert "a loader" not in text
    assert "Secure Boot is not told; 0 events" in show.claims_text(carrying(log, {}))
    assert "boot log  event log" in show.claims_text(carrying(b"short", {}))
    assert show.claims(carrying(b"short", {}))["bootLog"] == {"error": "event log ends early"}
