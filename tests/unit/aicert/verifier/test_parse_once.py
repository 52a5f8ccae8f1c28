"""Each part of a certificate is parsed once, however many checks use it."""

import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import pytest

from aicert.appraisal.appraise import appraise
from aicert.cli import main
from aicert.formats import certificate, image_lock, lockfile, run_report, statement
from aicert.trust.built_in import with_image
from tests.adversarial import ca_forge
from tests.adversarial.forger import Scene

AT = datetime(2026, 11, 1, tzinfo=UTC)
PARTS = {
    module.parse.__code__: module.__name__.rpartition(".")[2]
    for module in (certificate, image_lock, lockfile, run_report, statement)
}


class Parsed:
    """A counter of each parser's calls while the block runs, under any imported name."""

    def __enter__(self) -> Counter[str]:
        self.counts: Counter[str] = Counter()
        sys.setprofile(self._seen)
        return self.counts

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _seen(self, frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code in PARTS:
            self.counts[PARTS[frame.f_code]] += 1


def test_the_command_parses_each_part_once(tmp_path: Path) -> None:
    scene = Scene()
    (tmp_path / "c.json").write_bytes(scene.get("file"))
    (tmp_path / "root.pem").write_bytes(ca_forge.pem(scene.get("root")))
    words = ["verify", str(tmp_path / "c.json"), "--certificate-only", "--policy", "local"]
    words += ["--root", str(tmp_path / "root.pem"), "--at", "2026-11-01T00:00:00Z"]
    with Parsed() as counts:
        assert main.main(words) == 0
    assert counts == {"certificate": 1, "lockfile": 1, "statement": 1, "run_report": 1}


@pytest.mark.parametrize("given", [True, False])
def test_an_image_lock_is_parsed_once(given: bool) -> None:
    scene = Scene(kind="qemu")
    policy, data = scene.get("policy"), scene.get("file")
    with Parsed() as counts:
        if given:
            policy = with_image(policy, image_lock.parse(scene.get("image_lock")))
        result = appraise(
            certificate.parse(data), None, policy, at=datetime(2026, 11, 1, tzinfo=UTC)
        )
    assert not result.failed
    assert counts == {
        "certificate": 1, "image_lock": 1, "lockfile": 1, "run_report": 1, "statement": 1
    }  # fmt: skip
