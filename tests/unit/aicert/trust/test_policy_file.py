"""Policy files: what they pass on, their limits, and errors that name file, table and key."""

from pathlib import Path

import pytest

from aicert.appraisal.policy import Claim
from aicert.errors import ConfigError
from aicert.formats.digest import of_bytes
from aicert.trust.policy_file import load_policy
from aicert.trust.policy_table import MAX_POLICY
from aicert.trust.roots import PEM_HINT
from tests.adversarial import ca_forge
from tests.adversarial.ca_forge import ec_key, root
from tests.unit.aicert.formats.test_image_lock import written

ROOT = root("real CA", ec_key("ca"))
REVOKED = "cd" * 32
MOST = 2**63 - 1
NOWHERE = "No such file or directory"


def entry(**changes: str) -> str:
    """Return a [[root]] table."""
    keys = {
        "name": "ours",
        "certificate": "root.pem",
        "sha256": ca_forge.hash_of(ROOT),
        "tier": "vtpm",
    }
    return "[[root]]\n" + "".join(f'{key} = "{it}"\n' for key, it in (keys | changes).items())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "root.pem").write_bytes(ca_forge.pem(ROOT))
    (tmp_path / "image.lock.toml").write_bytes(written())
    return tmp_path


def file(folder: Path, text: str) -> str:
    path = folder / "policy.toml"
    path.write_text(f'tier = "vtpm"\n{text}')
    return str(path)


def refused(path: str) -> tuple[str, str | None]:
    with pytest.raises(ConfigError) as caught:
        load_policy(path)
    return caught.value.message, caught.value.hint


def test_a_file_that_adds_nothing_is_what_it_extends(folder: Path) -> None:
    image = of_bytes(written())
    (folder / "base.toml").write_text(
        f'tier = "vtpm"\nmax-age-days = 7\n{entry()}[images]\naccepted = ["{image}"]\n'
        f'locks = ["image.lock.toml"]\nrevoked = ["sha256:{REVOKED}"]\n'
        f'[[claim]]\nname = "steps"\nat-most = {MOST}\n'
    )
    (folder / "same.toml").write_text('extends = "base.toml"\n')
    policy = load_policy(str(folder / "same.toml"))
    assert (policy.name, policy.tier, policy.max_age_days) == ("same", "vtpm", 7)
    assert policy.accepted == {image}
    assert list(policy.images) == [image]
    assert {one.hex for one in policy.revoked} == {REVOKED}
    trusted = frozenset(("measured", "derived"))
    assert policy.claims == (Claim(name="steps", at_least=None, at_most=MOST, origins=trusted),)
    assert [one.name for one in policy.roots] == ["ours"]
    (folder / "longer.toml").write_text('extends = "base.toml"\nmax-age-days = 8\n')
    assert load_policy(str(folder / "longer.toml")).max_age_days == 8


def test_eight_files_may_be_extended(tmp_path: Path) -> None:
    for number in range(10):
        text = f'extends = "{number - 1}.toml"\n' if number else 'tier = "vtpm"\n'
        (tmp_path / f"{number}.toml").write_text(text)
    assert load_policy(str(tmp_path / "8.toml")).tier == "vtpm"
    message, _ = refused(str(tmp_path / "9.toml"))
    assert message == f"{tmp_path}/0.toml: more than 8 policies extend one another"


def test_a_file_has_a_greatest_size_and_a_line_a_number_of_dots(tmp_path: Path) -> None:
    text = f'tier = "vtpm"\n#{"." * 64}\n'
    path = tmp_path / "p.toml"
    path.write_text(text.ljust(MAX_POLICY, "\n"))
    assert load_policy(str(path)).tier == "vtpm"
    path.write_text(text.ljust(MAX_POLICY + 1, "\n"))
    assert refused(str(path)) == (f"{path}: {path} is larger than 131072 bytes", None)
    path.write_text(text.replace("#", "#."))
    assert refused(str(path)) == (f"{path}: line 2 has more than 64 dots", None)


def test_a_file_without_end_is_not_read_to_it(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.touch()
    # A sparse file takes no disk space, but would not fit in memory.
    with path.open("r+b") as sparse:
        sparse.truncate(1 << 43)
    assert refused(str(path))[0] == f"{path}: {path} is larger than 131072 bytes"


@pytest.mark.parametrize(
    ("given", "needed"),
    [({}, True), ({"ak-purpose": "required"}, True), ({"ak-purpose": "if-present"}, False)],
)
def test_a_root_wants_keys_for_attestation_unless_it_says_otherwise(
    folder: Path, given: dict[str, str], needed: bool
) -> None:
    (root,) = load_policy(file(folder, entry(**given))).roots
    assert root.needs_eku is needed


def test_a_wrong_tier_is_told_the_right_ones(folder: Path) -> None:
    (folder / "p.toml").write_text('tier = "tpm"\n')
    assert refused(str(folder / "p.toml"))[0] == (
        f"{folder}/p.toml: tier is 'tpm', not one of software, measured-vm, vtpm, confidential, "
        "confidential-gpu"
    )


def test_the_fingerprint_that_was_found_is_shown(folder: Path) -> None:
    path = file(folder, entry(sha256="0" * 99))
    assert refused(path)[0] == (
        f"{path}: root ours has a different fingerprint\n"
        f"expected  {'0' * 80}\nfound     {ca_forge.hash_of(ROOT)}"
    )
    path = file(
        folder,
        '[[chip]]\nname = "c"\nroot = "root.pem"\nroot-sha256 = "0"\nissuer = "root.pem"\n'
        'issuer-sha256 = "0"\nminimum-tcb = {bootloader = 1, tee = 1, snp = 1, microcode = 1}\n',
    )
    assert refused(path)[0].startswith(f"{path}: chip c has a different fingerprint\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (entry(certificate="policy.toml"), "policy.toml is not one PEM certificate"),
        (entry(certificate="no"), f"FILE: cannot read FOLDER/no: {NOWHERE}"),
        (entry() + 'intermediates = ["policy.toml"]', "policy.toml is not one PEM certificate"),
        (entry() + 'intermediates = ["no"]', f"FILE: cannot read FOLDER/no: {NOWHERE}"),
        ('[images]\naccepted = ["x"]', "FILE: images: not a digest: 'x'"),
        ('[images]\nlocks = ["no"]', f"FILE: cannot read FOLDER/no: {NOWHERE}"),
        (
            f"max-age-days = {MOST + 1}",
            "FILE: policy: max-age-days: expected an integer of 63 bits",
        ),
    ],
)
def test_errors_name_the_file(folder: Path, text: str, message: str) -> None:
    path = file(folder, text)
    wanted = message.replace("FILE", path).replace("FOLDER", str(folder))
    hint = PEM_HINT if "PEM" in wanted else None
    assert refused(path) == (wanted, hint)


def test_the_nearest_key_is_named_however_far_it_is(folder: Path) -> None:
    message, hint = refused(file(folder, "zzz = 1"))
    assert message.endswith("policy has an unknown key 'zzz'")
    assert hint is not None
    assert hint.startswith("the nearest key is ")
    message, _ = refused(file(folder, f"{'z' * 81} = 1"))
    assert message.endswith(f"policy has an unknown key '{'z' * 80}'")


def authority(**changes: str) -> str:
    """Return a [[time-authority]] table; `intermediates` is TOML."""
    keys = {"name": "clock", "certificate": "root.pem", "sha256": ca_forge.hash_of(ROOT)}
    lists = {key: changes.pop(key) for key in ("intermediates",) if key in changes}
    lines = [f'{key} = "{value}"' for key, value in (keys | changes).items()]
    lines += [f"{key} = {value}" for key, value in lists.items()]
    return "\n".join(("[[time-authority]]", *lines)) + "\n"


def test_time_authorities_are_read_and_added_to_those_of_the_base(folder: Path) -> None:
    other = root("other CA", ec_key("other ca"))
    (folder / "other.pem").write_bytes(ca_forge.pem(other))
    (folder / "base.toml").write_text(
        'tier = "vtpm"\nrequire = ["time"]\n' + authority(intermediates='["other.pem"]')
    )
    (folder / "more.toml").write_text(
        'extends = "base.toml"\n'
        + authority(name="other", certificate="other.pem", sha256=ca_forge.hash_of(other))
    )
    policy = load_policy(str(folder / "more.toml"))
    assert policy.require == {"time"}
    first, second = policy.time_authorities
    assert (first.name, first.root, first.intermediates) == ("clock", ROOT, (other,))
    assert (second.name, second.root, second.intermediates) == ("other", other, ())
    assert load_policy(file(folder, entry())).time_authorities == ()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('require = ["tide"]\n', "require: 'tide' is not time or log"),
        ('require = ["time"]\n', "require: time, but there is no [[time-authority]]"),
        ('require = ["time", "log"]\n' + authority(), "require: log, but there is no [[log]]"),
        ("require = 1\n", "policy: require: expected a list of strings"),
        (authority(sha256="00"), "time-authority clock has a different fingerprint"),
        (authority(certificate="none.pem"), "none.pem: No such file"),
        (authority(intermediates='["none.pem"]'), "none.pem: No such file"),
        (authority(intermediates='["policy.toml"]'), "is not one PEM certificate"),
        (authority(more="1"), "unknown key 'more'"),
        (authority() * 2, "two [[time-authority]] have the same root: clock"),
    ],
)
def test_a_wrong_time_authority_is_named(folder: Path, text: str, reason: str) -> None:
    assert reason in refused(file(folder, text))[0]


def test_a_root_of_time_that_cannot_be_judged_is_refused(folder: Path) -> None:
    weak = root("weak CA", ca_forge.rsa_key("weak", 1024))
    (folder / "root.pem").write_bytes(ca_forge.pem(weak))
    path = file(folder, authority(sha256=ca_forge.hash_of(weak)))
    assert refused(path)[0] == f"{path}: time-authority clock: root.pem: an RSA key of 1024 bits"
