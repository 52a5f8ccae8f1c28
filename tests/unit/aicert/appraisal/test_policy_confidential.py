"""What a policy holds about confidential machines: whose processors, and who may start guests."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from aicert.errors import ConfigError
from aicert.trust.azure import CHIPS, CONFIDENTIAL, ID_KEY_SIGNERS, SEEN, TDS, TRUSTED_LAUNCH
from aicert.trust.built_in import built_in
from aicert.trust.policy_file import load_policy
from aicert.trust.roots import INTEL_TDX, chip_root
from tests.adversarial import ca_forge, chip_forge
from tests.adversarial.ca_forge import ec_key, root

ID_KEY = "ab" * 48
POLICY = f"""
name = "ours"
extends = "confidential"

[[chip]]
name = "our-chips"
root = "ark.pem"
root-sha256 = "{ca_forge.hash_of(chip_forge.ark())}"
issuer = "ask.pem"
issuer-sha256 = "{ca_forge.hash_of(chip_forge.ask())}"
minimum-tcb = {{ bootloader = 1, tee = 0, snp = 2, microcode = 3 }}

[[chip]]
name = "amd-milan"
minimum-tcb = {{ bootloader = 4, tee = 0, snp = 24, microcode = 219 }}

[[launch]]
name = "our-paravisor"
id-key = "{ID_KEY}"
minimum-svn = 7

[[launch]]
name = "another"
id-key = "{"cd" * 48}"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "policy.toml").write_text(POLICY)
    (tmp_path / "ark.pem").write_bytes(ca_forge.pem(chip_forge.ark()))
    (tmp_path / "ask.pem").write_bytes(ca_forge.pem(chip_forge.ask()))
    return tmp_path


def test_built_in_policy_pins_processors_and_who_starts_guests() -> None:
    policy = built_in("confidential")
    assert (policy.tier, policy.accepted) == ("confidential", frozenset())
    assert policy.firmware == CONFIDENTIAL
    assert [(one.name, one.tier) for one in policy.roots] == [
        ("azure-confidential-2023", "confidential")
    ]
    assert policy.roots[0].subjects == (
        ".ConfidentialVM.Azure.Microsoft",
        ".ConfidentialVM.Azure.windows.net",
    )
    assert policy.roots[0].der == built_in("default").roots[0].der
    assert {chip.name: chip.minimum for chip in policy.chips} == dict(CHIPS)
    assert policy.id_key_signers == ID_KEY_SIGNERS
    assert not built_in("default").chips


def test_a_file_adds_its_own_and_pinned_ones_by_name(folder: Path) -> None:
    policy = load_policy(str(folder / "policy.toml"))
    genoa, ours, milan = policy.chips
    assert (genoa.name, ours.name) == ("amd-genoa", "our-chips")
    assert (ours.root, ours.issuer) == (chip_forge.ark(), chip_forge.ask())
    assert ours.minimum == {"bootloader": 1, "tee": 0, "snp": 2, "microcode": 3}
    assert milan == chip_root("amd-milan", milan.minimum)
    added = policy.id_key_signers[len(ID_KEY_SIGNERS) :]
    assert [(one.name, one.minimum_svn) for one in added] == [
        ("our-paravisor", 7),
        ("another", 0),
    ]
    assert added[0].id_key == bytes.fromhex(ID_KEY)


def test_every_value_of_the_program_says_when_and_where_it_was_seen() -> None:
    firmware = {one.name for one in (*TRUSTED_LAUNCH, *CONFIDENTIAL)}
    tds = {one.name for one in TDS} | {INTEL_TDX}
    assert firmware | {one.name for one in ID_KEY_SIGNERS} | set(CHIPS) | tds == set(SEEN)
    for when, origin in SEEN.values():
        assert "2023" < when < "2027"
        assert "/" in origin
    assert {one.chip for one in ID_KEY_SIGNERS} == set(CHIPS)
    assert all(one.family for one in (*TRUSTED_LAUNCH, *CONFIDENTIAL))


LAUNCHES = """
extends = "confidential"

[[chip]]
name = "our cloud"
key = "vlek"
root = "ark.pem"
root-sha256 = "ARK"
issuer = "ask.pem"
issuer-sha256 = "ASK"
minimum-tcb = { bootloader = 1, tee = 0, snp = 2, microcode = 3 }

[[launch]]
name = "stricter"
id-key = "AZURE"
minimum-svn = 12
chip = "amd-milan"
until = "2027-01-31"
""".replace("AZURE", ID_KEY_SIGNERS[0].id_key.hex())


def test_a_floor_is_of_one_key_on_one_line_of_processors(folder: Path) -> None:
    text = LAUNCHES.replace("ARK", ca_forge.hash_of(chip_forge.ark()))
    text = text.replace("ASK", ca_forge.hash_of(chip_forge.ask()))
    path = folder / "launches.toml"
    path.write_text(text)
    policy = load_policy(str(path))
    assert [chip.name for chip in policy.chips if chip.vlek] == ["our cloud"]
    kept = [one for one in ID_KEY_SIGNERS if one.name != "azure-paravisor-milan"]
    assert policy.id_key_signers[:-1] == tuple(kept)
    own = policy.id_key_signers[-1]
    assert (own.chip, own.minimum_svn, own.until) == ("amd-milan", 12, date(2027, 1, 31))
    # Without a line of processors, the entry replaces every other entry of that key.
    path.write_text(text.replace('chip = "amd-milan"\n', ""))
    names = [one.name for one in load_policy(str(path)).id_key_signers]
    assert names == ["azure-paravisor-2025", "stricter"]
    # And vice versa: an entry for one line replaces the one for all lines.
    (folder / "again.toml").write_text(text.replace("confidential", "launches.toml"))
    assert [one.chip for one in load_policy(str(folder / "again.toml")).id_key_signers] == [
        "amd-genoa",
        "amd-milan",
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            '"2027-01-31"',
            '"soon"',
            ": launch stricter: until is 'soon', not a date such as 2026-12-31",
        ),
        ('"2027-01-31"', '"20270131"', "launch stricter: until is '20270131', not a date such as"),
        ('key = "vlek"', 'key = "x"', ": chip our cloud: key is 'x', not vcek or vlek"),
        ('root = "ark.pem"', 'root = ""', "chip: root: expected a string"),
    ],
)
def test_mistakes_in_them_are_named(folder: Path, old: str, new: str, message: str) -> None:
    path = folder / "launches.toml"
    text = LAUNCHES.replace("ARK", ca_forge.hash_of(chip_forge.ark()))
    path.write_text(text.replace("ASK", ca_forge.hash_of(chip_forge.ask())).replace(old, new))
    with pytest.raises(ConfigError) as caught:
        load_policy(str(path))
    assert message in caught.value.message


def test_one_key_is_accepted_on_all_lines_or_on_each() -> None:
    both = (chip_forge.PARAVISOR, replace(chip_forge.PARAVISOR, chip="x"))
    with pytest.raises(ConfigError, match=r"two \[\[launch\]\] have the same id-key"):
        replace(built_in("confidential"), id_key_signers=both)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("microcode = 3", "ucode = 3", ": chip our-chips: minimum-tcb has an unknown key 'ucode'"),
        (", microcode = 3", "", "minimum-tcb needs bootloader, tee, snp, microcode"),
        (
            "microcode = 3",
            "microcode = true",
            ": chip our-chips: minimum-tcb: microcode: expected an integer",
        ),
        ('issuer = "ask.pem"', 'issuer = "ark.pem"', "has a different fingerprint"),
        ('root = "ark.pem"', 'root = "none.pem"', "cannot read"),
        ('root = "ark.pem"\n', "", "chip our-chips: expected root, root-sha256, issuer and"),
        ('"amd-milan"', '"amd-turin"', "without them only amd-genoa, amd-milan are known"),
        (f'"{ID_KEY}"', '"ab"', "id-key is not 96 hexadecimal digits"),
        (f'"{ID_KEY}"', f'"{ID_KEY.upper()}"', "id-key is not 96 hexadecimal digits"),
        (f'"{ID_KEY}"', f'"{"00" * 48}"', "id-key is not 96 hexadecimal digits"),
        (f'"{ID_KEY}"', f'"{"xy" * 48}"', "id-key is not 96 hexadecimal digits"),
        ("minimum-svn = 7", 'minimum-svn = "7"', ": launch: minimum-svn: expected an integer"),
        ("minimum-svn", "min-svn", ": launch has an unknown key 'min-svn'"),
        (
            'name = "our-chips"',
            'name = "our-chips"\nnote = "x"',
            ": chip has an unknown key 'note'",
        ),
    ],
)
def test_mistakes_are_named(folder: Path, old: str, new: str, message: str) -> None:
    path = folder / "policy.toml"
    assert old in POLICY
    path.write_text(POLICY.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        load_policy(str(path))
    assert message in caught.value.message
    assert caught.value.message.startswith(f"{path}: ") or not message.startswith(": ")


def test_a_makers_root_that_did_not_issue_the_other_is_refused(folder: Path) -> None:
    strange = chip_forge.issue(
        chip_forge.ARK, ca_forge.rsa_key("other vm"), issuer=chip_forge.ARK,
        issuer_key=ca_forge.rsa_key("other vm"),
    )  # fmt: skip
    elliptic = root(chip_forge.ARK, ec_key("ca"))
    for der in (strange, elliptic, root("another name", ec_key("ca"))):
        (folder / "ark.pem").write_bytes(ca_forge.pem(der))
        text = POLICY.replace(ca_forge.hash_of(chip_forge.ark()), ca_forge.hash_of(der))
        (folder / "policy.toml").write_text(text)
        with pytest.raises(ConfigError, match="chip our-chips: our-chips: the ASK was not issued"):
            load_policy(str(folder / "policy.toml"))


RAISED = """
extends = "confidential"

[[chip]]
name = "amd-genoa"
minimum-tcb = { bootloader = 11, tee = 0, snp = 30, microcode = 90 }

[[launch]]
name = "azure-paravisor"
id-key = "AZURE"
minimum-svn = 65548
""".replace("AZURE", ID_KEY_SIGNERS[0].id_key.hex())


def test_other_least_versions_take_the_place_of_those_that_are_extended(tmp_path: Path) -> None:
    """The old minimum would win: of two minimums the lower one holds."""
    (tmp_path / "raised.toml").write_text(RAISED)
    (tmp_path / "again.toml").write_text('extends = "raised.toml"\n')
    for name in ("raised.toml", "again.toml"):
        policy = load_policy(str(tmp_path / name))
        _, genoa = policy.chips
        assert genoa.minimum == {"bootloader": 11, "tee": 0, "snp": 30, "microcode": 90}
        assert [one.minimum_svn for one in policy.id_key_signers] == [65545, 65548]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("chip", "policy twice: two [[chip]] have the same issuer: amd-genoa"),
        ("launch", "policy twice: two [[launch]] have the same id-key: azure-paravisor"),
    ],
)
def test_two_of_one_kind_in_a_file_are_refused(tmp_path: Path, table: str, message: str) -> None:
    (twice,) = (f"\n[[{part}" for part in RAISED.split("[[") if part.startswith(table))
    (tmp_path / "twice.toml").write_text(RAISED + twice)
    with pytest.raises(ConfigError) as caught:
        load_policy(str(tmp_path / "twice.toml"))
    assert caught.value.message == message
