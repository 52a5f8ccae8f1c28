"""Every key of a policy file, and the message for every mistake in one."""

from pathlib import Path

import pytest

from aicert.appraisal.policy import Claim, Firmware
from aicert.errors import ConfigError
from aicert.frozen import replace
from aicert.trust.built_in import built_in
from aicert.trust.policy_file import load_policy
from tests.adversarial import ca_forge
from tests.adversarial.ca_forge import ec_key, issue, root
from tests.unit.aicert.formats.test_image_lock import written

REAL = root("real CA", ec_key("ca"))
MIDDLE = issue("middle", ec_key("middle"), issuer="real CA", issuer_key=ec_key("ca"), ca=True)
WEAK = issue("x", ca_forge.rsa_key("weak", 1024), issuer="x", issuer_key=ec_key("ca"))
HEX = "ab" * 32
PCRS = "".join(f'pcr{index} = "{HEX}"\n' for index in (0, 1, 2, 3, 7))
ROOT = '[[root]]\nname = "r"\ncertificate = "c"\nsha256 = "x"\ntier = "vtpm"\n'
FULL = f"""
name = "ours"
extends = "base.toml"
tier = "vtpm"
max-age-days = 90
allow = ["remote-code"]

[[root]]
name = "our-cloud"
certificate = "root.pem"
sha256 = "{ca_forge.hash_of(REAL)}"
tier = "vtpm"
ak-purpose = "if-present"
subject-suffixes = [".vm.example"]
intermediates = ["middle.pem"]

[images]
accepted = ["IMAGE", "sha256:{HEX}"]
locks = ["image.lock.toml"]
revoked = ["sha256:{"cd" * 32}"]
reasons = {{"sha256:{"cd" * 32}" = "its kernel"}}

[[firmware]]
name = "cloud"
pcr0 = "{HEX}"
pcr1 = "{HEX}"
pcr2 = "{HEX}"
pcr3 = "{HEX}"
pcr7 = "{HEX}"

[[claim]]
name = "totalFlops"
at-most = 1e21
origins = ["measured", "derived"]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lock = written()
    image = with_lock_digest(lock)
    (tmp_path / "policy.toml").write_text(FULL.replace("IMAGE", image))
    (tmp_path / "base.toml").write_text(
        'extends = "default"\nmax-age-days = 10\nallow = ["pickle"]\n'
    )
    (tmp_path / "root.pem").write_bytes(ca_forge.pem(REAL))
    (tmp_path / "middle.pem").write_bytes(ca_forge.pem(MIDDLE))
    (tmp_path / "weak.pem").write_bytes(ca_forge.pem(WEAK))
    (tmp_path / "image.lock.toml").write_bytes(lock)
    return tmp_path


def with_lock_digest(lock: bytes) -> str:
    from aicert.formats.digest import of_bytes

    return str(of_bytes(lock))


def test_a_policy_file_with_every_key(folder: Path) -> None:
    policy = load_policy(str(folder / "policy.toml"))
    assert (policy.name, policy.tier, policy.max_age_days) == ("ours", "vtpm", 90)
    assert policy.allow == {"remote-code", "pickle"}
    assert [one.name for one in policy.roots] == ["azure-vtpm-2023", "our-cloud"]
    ours = policy.roots[1]
    assert (ours.needs_eku, ours.subjects, ours.simulated) == (False, (".vm.example",), None)
    assert ours.intermediates == (MIDDLE,)
    assert len(policy.accepted) == 2
    assert [lock.name for lock in policy.images.values()] == ["machine"]
    assert policy.reasons == dict.fromkeys(policy.revoked, "its kernel")
    assert len(policy.revoked) == 1
    assert [one.name for one in policy.firmware] == ["azure-trusted-launch-2024-06", "cloud"]
    assert policy.firmware[1].pcrs == dict.fromkeys((0, 1, 2, 3, 7), bytes.fromhex(HEX))
    assert (policy.claims[0].at_most, policy.claims[0].at_least) == (1e21, None)


def test_claims_and_firmware_are_read_key_by_key(tmp_path: Path) -> None:
    values = {index: f"{index:064x}" for index in (0, 1, 2, 3, 7)}
    pcrs = "".join(f'pcr{index} = "{value}"\n' for index, value in values.items())
    path = tmp_path / "p.toml"
    path.write_text(
        f'tier = "vtpm"\n[[firmware]]\nname = "f"\n{pcrs}[[claim]]\nname = "a"\nat-least = 2\n'
        '[[claim]]\nname = "b"\nat-least = 1.5\nat-most = 3\norigins = ["self-reported"]\n'
    )
    policy = load_policy(str(path))
    wanted = {index: bytes.fromhex(value) for index, value in values.items()}
    assert policy.firmware == (Firmware(name="f", pcrs=wanted),)
    trusted = frozenset(("measured", "derived"))
    assert policy.claims == (
        Claim(name="a", at_least=2, at_most=None, origins=trusted),
        Claim(name="b", at_least=1.5, at_most=3, origins=frozenset(("self-reported",))),
    )
    empty = (policy.roots, policy.accepted, policy.revoked, policy.images)
    assert not any(map(len, empty))
    assert policy.max_age_days is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[claim]]\nat-most = 1", "claim: name: expected a string"),
        ('[[claim]]\nname = "c"', "claim c: at-least or at-most is missing"),
        ('[[claim]]\nname = "c"\nat-least = "1"', "claim: at-least: expected a number"),
        ('[[claim]]\nname = "c"\nat-most = 1\nx = 1', "claim has an unknown key 'x'"),
        (
            '[[claim]]\nname = "c"\nat-most = 1\norigins = 1',
            "claim: origins: expected a list of strings",
        ),
        (
            '[[claim]]\nname = "c"\nat-most = 1\norigins = ["z", "y"]',
            "claim c: no origin is named 'y'",
        ),
        ("[[firmware]]\npcr0 = 1", "firmware: name: expected a string"),
        ('[[firmware]]\nname = ""', "firmware: name: expected a string"),
        (f'[[firmware]]\nname = "f"\npcr0 = "{HEX}"', "firmware: pcr1: expected a string"),
        ('[[firmware]]\nname = "f"\npcr0 = "0"', "firmware f: pcr0 is not 64 hexadecimal digits"),
        (f'[[firmware]]\nname = "f"\n{PCRS}pcr4 = ""', "firmware has an unknown key 'pcr4'"),
        ("[images]\naccepted = 1", "images: accepted: expected a list of strings"),
        ("[images]\nlocks = 1", "images: locks: expected a list of strings"),
        ("[images]\nrevoked = 1", "images: revoked: expected a list of strings"),
        ('[images]\nrevoked = ["a"]', "images: not a digest: 'a'"),
        ("[images]\nreasons = 1", "images: reasons: expected a table"),
        (
            f'[images]\nreasons = {{"sha256:{HEX}" = "a"}}',
            f"images: reasons: sha256:{HEX} is not in `revoked`",
        ),
        (
            f'[images]\nrevoked = ["sha256:{HEX}"]\nreasons = {{"sha256:{HEX}" = " "}}',
            f"images: reasons: sha256:{HEX}: expected a string",
        ),
        (
            f'[images]\nrevoked = ["sha256:{HEX}"]\nreasons = {{"sha256:{HEX}" = 1}}',
            f"images: reasons: sha256:{HEX}: expected a string",
        ),
        ('[images]\nreasons = {a = "b"}', "images: not a digest: 'a'"),
        ("[images]\nx = 1", "images has an unknown key 'x'"),
        ("images = 1", "policy: images: expected a table"),
        ("claim = 1", "policy: claim: expected [[claim]] tables"),
        ("firmware = [1]", "policy: firmware: expected [[firmware]] tables"),
        ("root = {}", "policy: root: expected [[root]] tables"),
        ("[[root]]", "root: name: expected a string"),
        ('[[root]]\nname = "r"', "root: certificate: expected a string"),
        ('[[root]]\nname = "r"\ncertificate = "c"', "root: sha256: expected a string"),
        ('[[root]]\nname = "r"\ncertificate = "c"\nsha256 = "x"', "root: tier: expected a string"),
        (f'{ROOT}ak-purpose = "x"', "root r: ak-purpose is 'x', not required or if-present"),
        (f"{ROOT}subject-suffixes = 1", "root: subject-suffixes: expected a list of strings"),
        (f"{ROOT}x = 1", "root has an unknown key 'x'"),
        ("max-age-days = -1", "max-age-days is -1, but must be 1 or more"),
        ("name = 1", "policy: name: expected a string"),
        ("extends = 1", "policy: extends: expected a string"),
    ],
)
def test_what_is_wrong_is_said_in_full(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "p.toml"
    path.write_text(text if text.startswith(("name", "extends")) else f'tier = "vtpm"\n{text}\n')
    with pytest.raises(ConfigError) as caught:
        load_policy(str(path))
    assert caught.value.message == f"{path}: {message}"


def test_a_small_policy_file(tmp_path: Path) -> None:
    (tmp_path / "team.toml").write_text('extends = "default"\n')
    policy = load_policy(str(tmp_path / "team.toml"))
    assert (policy.name, policy.tier, policy.max_age_days) == ("team", "vtpm", None)


def swap(folder: Path, old: str, new: str) -> str:
    path = folder / "policy.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return str(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("max-age-days", "max-age-dais", "unknown key 'max-age-dais'"),
        ('["remote-code"]', '["code"]', "allow: 'code' is not remote-code or pickle"),
        ('["remote-code"]', "true", "allow: expected a list"),
        ("certificate =", "certificat =", "certificate: expected a string"),
        ("[images]", "[image]", "unknown key 'image'"),
        ("revoked =", "revokd =", "unknown key 'revokd'"),
        ("pcr7 =", "pcr6 =", "pcr7: expected a string"),
        ("at-most = 1e21\n", "", "at-least or at-most is missing"),
        ("1e21", '"1e21"', "at-most: expected a number"),
        ("1e21", "nan", "at-most: expected a number"),
        ("1e21", "true", "at-most: expected a number"),
        ("days = 90", "days = 90.5", "max-age-days: expected an integer"),
        ("days = 90", "days = true", "max-age-days: expected an integer"),
        ("days = 90", "days = 0", "must be 1 or more"),
        ("max-age-days = 90", "a" + ".a" * 65 + " = 1", "line 5 has more than 64 dots"),
        ("days = 90", f"days = 0x{'f' * 9000}", "expected an integer of 63 bits"),
        ("1e21", f"0x{'f' * 9000}", "expected an integer of 63 bits"),
        ('tier = "vtpm"\nmax', 'tier = "tpm"\nmax', "tier is 'tpm', not one of"),
        ('"if-present"', '"no"', "not required or if-present"),
        ('[".vm.example"]', '".vm.example"', "expected a list of strings"),
        ('[".vm.example"]', "[1]", "expected a list of strings"),
        ('[".vm.example"]', '[""]', "expected a list of strings"),
        ("middle.pem", "none.pem", "cannot read"),
        ("middle.pem", "policy.toml", "not one PEM"),
        ("middle.pem", "weak.pem", "an intermediate of root our-cloud: an RSA key of 1024 bits"),
        ('"derived"]', '"guessed"]', "no origin is named 'guessed'"),
        (f'"{HEX}"\npcr1', '"AB"\npcr1', "pcr0 is not 64"),
        ('"sha256:cd', '"md5:cd', "not a digest"),
        ('"sha256:cd', '"dirHash:cd', "is a directory's"),
        ("root.pem", "none.pem", "cannot read"),
        ("root.pem", "policy.toml", "not one PEM"),
        ('"our-cloud"', "3", "expected a string"),
        ("[[root]]", "[root]", "expected [[root]] tables"),
        ('"base.toml"', '"none.toml"', "cannot read"),
        ('"base.toml"', '"policy.toml"', "extend one another"),
        ('"base.toml"', '"base\\u0000"', "cannot read"),
        ("= 90", f"= {'9' * 5000}", "is not TOML"),
        ("image.lock.toml", "root.pem", "image lock is not in canonical form: line 1"),
        ("image.lock.toml", "none.toml", "cannot read"),
        (f'sha256 = "{ca_forge.hash_of(REAL)}"', f'sha256 = "{HEX}"', "a different fingerprint"),
    ],
)
def test_mistakes_in_a_policy_file_are_named(
    folder: Path, old: str, new: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_policy(swap(folder, old, new))
    assert message in caught.value.message


def test_the_nearest_key_is_named(folder: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_policy(swap(folder, "max-age-days", "max-age-dais"))
    assert caught.value.hint == "the nearest key is 'max-age-days'"


def test_more_mistakes(folder: Path) -> None:
    path = folder / "policy.toml"
    lock = written(name="other")
    (folder / "image.lock.toml").write_bytes(lock)
    with pytest.raises(ConfigError, match="which is not in `accepted`"):
        load_policy(str(path))
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigError) as caught:
        load_policy(str(path))
    assert caught.value.message == f"{path} is not UTF-8"
    for data in (b"[[", b"images = 3", b"root = [3]"):
        path.write_bytes(b'tier = "vtpm"\n' + data if data != b"[[" else data)
        with pytest.raises(ConfigError):
            load_policy(str(path))
    path.write_bytes(b"#" * (1 << 20) + b"\n")
    with pytest.raises(ConfigError, match="larger than"):
        load_policy(str(path))
    weak = issue("x", ca_forge.rsa_key("weak", 1024), issuer="x", issuer_key=ec_key("ca"))
    (folder / "root.pem").write_bytes(ca_forge.pem(weak))
    head = FULL.split("[images]", maxsplit=1)[0]
    path.write_text(head.replace(ca_forge.hash_of(REAL), ca_forge.hash_of(weak)))
    with pytest.raises(ConfigError, match="1024 bits"):
        load_policy(str(path))


def test_a_policy_without_tier_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text('name = "x"\n')
    with pytest.raises(ConfigError, match="tier is ''") as caught:
        load_policy(str(tmp_path / "p.toml"))
    assert caught.value.hint is not None
    assert 'extends = "default"' in caught.value.hint


def test_intermediates_are_added_to_roots_by_name(folder: Path) -> None:
    path = folder / "more.toml"
    path.write_text(
        'extends = "policy.toml"\n'
        '[[intermediate]]\nroot = "our-cloud"\ncertificate = "middle.pem"\n'
        '[[intermediate]]\nroot = "azure-vtpm-2023"\ncertificate = "middle.pem"\n'
    )
    azure, ours = load_policy(str(path)).roots
    (before,) = built_in("default").roots
    assert azure == replace(before, intermediates=(*before.intermediates, MIDDLE))
    assert ours.intermediates == (MIDDLE, MIDDLE)


@pytest.mark.parametrize(
    ("root", "file", "message"),
    [
        ("azure", "middle.pem", "intermediate: no root is named 'azure': azure-vtpm-2023"),
        ("azure-vtpm-2023", "none.pem", "cannot read"),
        ("azure-vtpm-2023", "weak.pem", "intermediate: weak.pem: an RSA key of 1024 bits"),
        ("azure-vtpm-2023", "image.lock.toml", "not one PEM certificate"),
    ],
)
def test_mistakes_in_intermediates_are_named(
    folder: Path, root: str, file: str, message: str
) -> None:
    path = folder / "more.toml"
    path.write_text(
        f'extends = "default"\n[[intermediate]]\nroot = "{root}"\ncertificate = "{file}"\n'
    )
    with pytest.raises(ConfigError) as caught:
        load_policy(str(path))
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("eku", "good"),
    [
        ("2.23.133.8.1", True),
        ("1.3", True),
        ("3.1", False),
        ("1", False),
        ("1.03", False),
        ("1.x", False),
        ("1.3\\n", False),
    ],
)
def test_a_root_names_the_purpose_of_its_attestation_keys(
    folder: Path, eku: str, good: bool
) -> None:
    path = folder / "eku.toml"
    text = (folder / "policy.toml").read_text()
    path.write_text(text.replace('name = "our-cloud"', f'name = "our-cloud"\nak-eku = "{eku}"'))
    if good:
        assert load_policy(str(path)).roots[1].eku == eku
        return
    with pytest.raises(ConfigError, match=r"root our-cloud: ak-eku is .*not an object identifier"):
        load_policy(str(path))


def test_sets_of_firmware_may_be_of_a_family(tmp_path: Path) -> None:
    values = "".join(f'pcr{index} = "{HEX}"\n' for index in (0, 1, 2, 3, 7))
    path = tmp_path / "p.toml"
    path.write_text(f'tier = "vtpm"\n[[firmware]]\nname = "f"\nfamily = "cloud"\n{values}')
    (firmware,) = load_policy(str(path)).firmware
    assert (firmware.name, firmware.family) == ("f", "cloud")
