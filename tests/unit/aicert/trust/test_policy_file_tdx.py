"""Trust domains in a policy file: whose processors, in which state, and which builds."""

from datetime import date
from pathlib import Path

import pytest

from aicert.appraisal.evidence.accepted import Td
from aicert.errors import ConfigError
from aicert.trust.azure import TDS, TDX_EVALUATION, TDX_STATUSES
from aicert.trust.built_in import built_in
from aicert.trust.policy_file import load_policy
from aicert.trust.roots import intel_tdx
from tests.adversarial import ca_forge, td_forge

PRINT = ca_forge.hash_of(td_forge.certified_root())
HEX = "ab" * 48
OURS = f'[[tdx]]\nname = "ours"\nroot = "root.pem"\nroot-sha256 = "{PRINT}"\n'


def loaded(folder: Path, text: str) -> object:
    (folder / "root.pem").write_bytes(ca_forge.pem(td_forge.certified_root()))
    (folder / "policy.toml").write_text(f'extends = "confidential"\n{text}')
    return load_policy(str(folder / "policy.toml"))


def test_the_built_in_policy_knows_intels_root_and_azures_paravisor() -> None:
    policy = built_in("confidential")
    assert policy.td_roots == (intel_tdx(TDX_STATUSES, TDX_EVALUATION),)
    assert policy.tds == TDS
    assert not built_in("default").td_roots


def test_a_file_adds_roots_and_builds(tmp_path: Path) -> None:
    policy = loaded(
        tmp_path,
        f'{OURS}statuses = ["UpToDate", "OutOfDate"]\n'
        f'[[td]]\nname = "a"\nmrtd = "{HEX}"\nrtmr2 = "{HEX}"\nuntil = "2027-12-31"\n',
    )
    intel, ours = policy.td_roots  # type: ignore[attr-defined]
    assert intel == built_in("confidential").td_roots[0]
    assert (ours.root, ours.minimum_evaluation) == (td_forge.certified_root(), 0)
    assert ours.statuses == {"UpToDate", "OutOfDate"}
    value, zero = bytes.fromhex(HEX), bytes(48)
    added = Td(name="a", mrtd=value, rtmrs=(zero, zero, value, zero), until=date(2027, 12, 31))
    assert policy.tds == (*TDS, added)  # type: ignore[attr-defined]


def test_what_is_the_same_is_replaced(tmp_path: Path) -> None:
    mrtd = TDS[0].mrtd.hex()
    policy = loaded(
        tmp_path,
        '[[tdx]]\nname = "intel-tdx"\nstatuses = ["UpToDate"]\nminimum-evaluation = 19\n'
        f'[[td]]\nname = "retired"\nmrtd = "{mrtd}"\nuntil = "2026-01-01"\n',
    )
    assert policy.td_roots == (intel_tdx(frozenset(("UpToDate",)), 19),)  # type: ignore[attr-defined]
    assert [one.name for one in policy.tds] == ["retired"]  # type: ignore[attr-defined]


STATUSES = 'statuses = ["UpToDate"]\n'
INTEL = '[[tdx]]\nname = "intel-tdx"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (INTEL, "tdx intel-tdx: statuses are not some of ConfigurationAndSWHardening"),
        (INTEL + 'statuses = ["Revoked"]\n', "statuses are not some of"),
        (INTEL + 'statuses = [""]\n', "expected a list of strings"),
        (INTEL + STATUSES + 'note = "x"\n', "note"),
        (INTEL + STATUSES + 'minimum-evaluation = "x"\n', "minimum-evaluation"),
        (INTEL + STATUSES + 'root = "root.pem"\n', "expected root and root-sha256"),
        (INTEL.replace("intel", "other") + STATUSES, "only intel-tdx is known"),
        (OURS.replace(PRINT, "00" * 32) + STATUSES, "has a different fingerprint"),
        (OURS.replace("root.pem", "none.pem") + STATUSES, "cannot read"),
        (OURS + STATUSES + OURS.replace('"ours"', '"again"') + STATUSES, "same root: again"),
        ('[[td]]\nname = "a"\n', "mrtd"),
        ('[[td]]\nname = "a"\nmrtd = "ab"\n', "td a: mrtd is not 96 hexadecimal digits"),
        (f'[[td]]\nname = "a"\nmrtd = "{HEX.upper()}"\n', "mrtd is not 96"),
        (f'[[td]]\nname = "a"\nmrtd = "{HEX}"\nrtmr3 = "{"x" * 96}"\n', "rtmr3 is not 96"),
        (f'[[td]]\nname = "a"\nmrtd = "{HEX}"\nrtmr4 = "{HEX}"\n', "rtmr4"),
        (f'[[td]]\nname = "a"\nmrtd = "{HEX}"\nuntil = "tomorrow"\n', "td a: until is"),
        ("tdx = 1\n", r"\[\[tdx\]\]"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        loaded(tmp_path, text)


def test_a_root_must_be_a_sound_certificate(tmp_path: Path) -> None:
    weak = ca_forge.root("weak", ca_forge.rsa_key("weak", 1024))
    text = OURS.replace(PRINT, ca_forge.hash_of(weak)).replace("root.pem", "weak.pem") + STATUSES
    (tmp_path / "weak.pem").write_bytes(ca_forge.pem(weak))
    with pytest.raises(ConfigError, match=r"tdx ours: .*1024 bits"):
        loaded(tmp_path, text)
