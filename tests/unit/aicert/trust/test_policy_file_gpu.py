"""GPUs in a policy file: whose, and which versions."""

from pathlib import Path

import pytest

from aicert.appraisal.evidence.accepted import GpuRoot
from aicert.appraisal.policy import Policy
from aicert.errors import ConfigError
from aicert.trust.built_in import built_in
from aicert.trust.policy_file import load_policy
from aicert.trust.roots import nvidia
from tests.adversarial import ca_forge, nvidia_forge

ROOT, OTHER = nvidia_forge.ca_root(), ca_forge.root("rims", ca_forge.ec_key("rims", "P-384"))
PRINT = ca_forge.hash_of(ROOT)
OURS = (
    f'[[gpu]]\nname = "ours"\nroot = "root.pem"\nroot-sha256 = "{PRINT}"\n'
    f'rim-root = "rim.pem"\nrim-root-sha256 = "{ca_forge.hash_of(OTHER)}"\n'
)
PINNED = '[[gpu]]\nname = "nvidia"\n'


def loaded(folder: Path, text: str) -> Policy:
    (folder / "root.pem").write_bytes(ca_forge.pem(ROOT))
    (folder / "rim.pem").write_bytes(ca_forge.pem(OTHER))
    (folder / "policy.toml").write_text(f'extends = "confidential-gpu"\n{text}')
    return load_policy(str(folder / "policy.toml"))


def test_the_built_in_policy_is_that_of_confidential_machines_with_gpus() -> None:
    policy, without = built_in("confidential-gpu"), built_in("confidential")
    assert (policy.tier, policy.roots[0].tier) == ("confidential-gpu", "confidential-gpu")
    assert policy.roots[0].der == without.roots[0].der
    assert (policy.chips, policy.tds, policy.firmware) == (
        without.chips,
        without.tds,
        without.firmware,
    )
    assert (policy.gpus, without.gpus) == ((nvidia(),), ())


def test_a_file_adds_a_maker(tmp_path: Path) -> None:
    policy = loaded(tmp_path, f'{OURS}drivers = ["1.2", "3"]\n')
    added = GpuRoot(name="ours", root=ROOT, rim_root=OTHER, drivers=frozenset(("1.2", "3")))
    assert policy.gpus == (nvidia(), added)


def test_the_same_maker_is_replaced(tmp_path: Path) -> None:
    policy = loaded(tmp_path, f'{PINNED}drivers = ["590.12"]\nvbios = ["96.00.A5.00.01"]\n')
    assert policy.gpus == (nvidia(frozenset(("590.12",)), frozenset(("96.00.A5.00.01",))),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PINNED + 'root = "root.pem"\n', "expected root, root-sha256, rim-root and"),
        (PINNED.replace("nvidia", "other"), "only nvidia is known"),
        (PINNED + 'note = "x"\n', "note"),
        (PINNED + "drivers = [1]\n", "expected a list of strings"),
        (PINNED + 'vbios = [""]\n', "expected a list of strings"),
        (OURS.replace(PRINT, "00" * 32), "has a different fingerprint"),
        (OURS.replace("root.pem", "none.pem"), "cannot read"),
        (OURS + OURS.replace('"ours"', '"again"'), "same root: again"),
        ("gpu = 1\n", r"\[\[gpu\]\]"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        loaded(tmp_path, text)


@pytest.mark.parametrize("place", ["root.pem", "rim.pem"])
def test_a_root_must_be_a_sound_certificate(tmp_path: Path, place: str) -> None:
    weak = ca_forge.root("weak", ca_forge.rsa_key("weak", 1024))
    own = PRINT if place == "root.pem" else ca_forge.hash_of(OTHER)
    text = OURS.replace(own, ca_forge.hash_of(weak)).replace(f'"{place}"', '"weak.pem"')
    (tmp_path / "weak.pem").write_bytes(ca_forge.pem(weak))
    with pytest.raises(ConfigError, match=r"gpu ours: .*1024 bits"):
        loaded(tmp_path, text)
