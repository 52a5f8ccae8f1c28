"""Certificates that only lack a known CA, and certificates that are wrong."""

from dataclasses import replace
from pathlib import Path

import pytest

from aicert.appraisal import revoked_images
from aicert.formats import image_lock
from aicert.formats.digest import Digest, of_bytes
from rules.project import config, images
from rules.runs import unknown_ca
from rules.runs.appraisal import AppraisalRequest
from rules.runs.unknown_ca import Appraised, Unknown
from tests.adversarial.forger import Scene

TOML = b"""
[runs.tiny]
config = "path:tiny.yml"
machine = "measured"
outputs = ["model"]
[runs.tiny.inputs]
model = "path:model"
[machines.measured]
driver = "qemu"
"""


def judged(root: Path, scene: Scene, *, own: bool = True, **changes: object) -> Unknown | None:
    """Return what the scene lacks for a pass under the policy of measured machines."""
    policy = replace(scene.get("policy"), name="qemu", **changes)
    asked = AppraisalRequest(policy=policy, nonce=None, own=own)
    certificate, model = scene.get("certificate"), scene.get("model")
    lockfile = of_bytes(certificate.lockfile)
    result = asked.appraise(certificate, model, lockfile)
    run = config.parse(root, TOML).run("tiny")
    return unknown_ca.unknown(root, run, asked, Appraised(certificate, model, lockfile, result))


def test_what_passes_lacks_nothing(tmp_path: Path) -> None:
    assert judged(tmp_path, Scene("qemu")) is None


def test_an_image_that_moved_is_no_reason_to_train_again(tmp_path: Path) -> None:
    scene = Scene("qemu")
    other = frozenset((Digest("sha256", "11" * 32),))
    reason = judged(tmp_path, scene, accepted=other)
    assert reason is not None
    assert str(of_bytes(scene.get("image_lock"))) in reason.text
    assert str(images.LIST) in reason.text
    assert "./doit certify tiny --again" in reason.hint
    # A user who named a root or a policy gets the verdict under that.
    assert judged(tmp_path, scene, accepted=other, own=False) is None


def test_a_revoked_image_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene("qemu")
    digest = of_bytes(scene.get("image_lock"))
    assert judged(tmp_path, scene, accepted=frozenset(), revoked=frozenset((digest,))) is None
    lock = image_lock.parse(scene.get("image_lock"))
    monkeypatch.setitem(revoked_images.REVOKED, lock.pcrs[11][:8], "why")
    assert judged(tmp_path, scene, accepted=frozenset()) is None


def test_neither_is_kept_that_is_wrong_as_well(tmp_path: Path) -> None:
    scene = Scene("qemu")
    model = scene.get("model")
    scene.put("model", dict(list(model.items())[:-1]))
    assert judged(tmp_path, scene, accepted=frozenset()) is None
    assert judged(tmp_path, scene, roots=()) is None
    scene = Scene("qemu").edit("report", lambda report: replace(report, exit_code="1"))
    assert judged(tmp_path, scene, roots=()) is None
    garbled = Scene("qemu").put("payload", b"{}")
    assert judged(tmp_path, garbled, roots=()) is None


def test_without_its_ca_the_claims_are_compared(tmp_path: Path) -> None:
    reason = judged(tmp_path, Scene("qemu"), roots=())
    assert reason is not None
    assert reason.hint.startswith("./doit trust PEM")
    # Evidence of another platform is not what was requested.
    scene = Scene("qemu")
    certificate, model = scene.get("certificate"), scene.get("model")
    lockfile = of_bytes(certificate.lockfile)
    policy = replace(scene.get("policy"), name="local", roots=())
    asked = AppraisalRequest(policy=policy, nonce=None, own=True)
    result = asked.appraise(certificate, model, lockfile)
    run = config.parse(tmp_path, TOML).run("tiny")
    assert (
        unknown_ca.unknown(tmp_path, run, asked, Appraised(certificate, model, lockfile, result))
        is None
    )


def test_without_a_model_the_certificate_alone_is_judged(tmp_path: Path) -> None:
    scene = Scene("qemu")
    scene.put("model", None)
    assert judged(tmp_path, scene) is None
    reason = judged(tmp_path, scene, accepted=frozenset((Digest("sha256", "11" * 32),)))
    assert reason is not None
    assert str(images.LIST) in reason.text
    # Without what vouches for it, no bytes here speak for the certificate.
    assert judged(tmp_path, scene, roots=()) is None
