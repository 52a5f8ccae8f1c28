"""The reviewed list of machine images."""

import subprocess
from pathlib import Path

import pytest

from aicert.errors import ConfigError
from aicert.formats.digest import Digest
from rules.project import images
from rules.project.images import LIST, Images
from tests.adversarial.forger import Scene

ROOT = Path(__file__).resolve().parents[4]
ONE, TWO = (Digest("sha256", pair * 32) for pair in ("11", "22"))
HEAD = b'tier = "measured-vm"\n[images]\n'


def test_the_list_of_this_repository_is_one_and_of_no_list_nothing_follows(tmp_path: Path) -> None:
    assert (ROOT / LIST).is_file()
    images.read(ROOT)
    assert images.read(tmp_path) == Images()


def test_what_it_accepts_is_added_to_a_policy() -> None:
    lines = f'accepted = ["{ONE}"]\nrevoked = ["{TWO}"]\nreasons = {{"{TWO}" = "why"}}'
    listed = images.parse(HEAD + lines.encode())
    assert listed == Images(accepted=frozenset((ONE,)), revoked={TWO: "why"})
    policy = Scene("qemu").get("policy")
    wider = listed.added_to(policy)
    assert wider.accepted == policy.accepted | {ONE}
    assert wider.revoked == frozenset((TWO,))
    assert wider.reasons == {TWO: "why"}
    assert (wider.roots, wider.tier, wider.name) == (policy.roots, policy.tier, policy.name)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (HEAD + f'revoked = ["{ONE}"]'.encode(), f"image {ONE} is revoked without a reason"),
        (HEAD + b'locks = []', "'locks' is not allowed"),
        (b"max-age-days = 3\n" + HEAD, "'max-age-days' is not allowed"),
        (b'extends = "qemu"\n' + HEAD, "'extends' is not allowed"),
        (HEAD + b"accept = []", "unknown key 'accept'"),
        (b"\xff", "not UTF-8"),
        (b"[", "not TOML"),
    ],
)  # fmt: skip
def test_anything_else_in_it_is_refused_and_named(data: bytes, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        images.parse(data)
    assert str(LIST) in caught.value.message
    assert message in caught.value.message
    assert caught.value.message.startswith(str(LIST))


def test_no_verifier_ever_reads_it() -> None:
    """Only rules know the list's name, and a relying party never runs rules."""
    done = subprocess.run(
        ["git", "grep", "--untracked", "-lF", LIST.name, "--", "aicert", "enclave_runner"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (1, "")
