"""The [compute] table of policy files."""

from datetime import date
from pathlib import Path

import pytest

from aicert.appraisal.evidence.accepted import CAPS, Caps, ComputeDemand
from aicert.errors import ConfigError
from aicert.trust.policy_file import load_policy

CAPPED = "processor = 1e12\naccelerator = 1e15\n"


def read(folder: Path, text: str, extends: str = "default") -> ComputeDemand | None:
    path = folder / "p.toml"
    path.write_text(f'extends = "{extends}"\n{text}')
    return load_policy(str(path)).compute


def test_no_policy_bounds_compute_unless_it_says_so(tmp_path: Path) -> None:
    assert read(tmp_path, "") is None


def test_a_bound_of_the_run_or_with_its_lineage(tmp_path: Path) -> None:
    assert read(tmp_path, "[compute]\nat-most = 1e23\n") == ComputeDemand(at_most=1e23)
    summed = read(tmp_path, '[compute]\nat-most = 1000\nlineage = "sum"\n')
    assert summed == ComputeDemand(at_most=1000, lineage=True, caps=CAPS)


def test_caps_are_the_files_own_or_reviewed_again(tmp_path: Path) -> None:
    text = "[compute]\nat-most = 1e23\n"
    own = read(tmp_path, f'{text}{CAPPED}reviewed = "2027-01-31"\n')
    assert own is not None
    assert own.caps == Caps(processor=1e12, accelerator=1e15, reviewed=date(2027, 1, 31))
    again = read(tmp_path, f'{text}reviewed = "2027-01-31"\n')
    assert again is not None
    assert again.caps == Caps(processor=1e13, accelerator=2e16, reviewed=date(2027, 1, 31))


def test_it_replaces_that_of_the_base_as_a_whole(tmp_path: Path) -> None:
    base = tmp_path / "base.toml"
    base.write_text('extends = "default"\n[compute]\nat-most = 1e23\nlineage = "sum"\n')
    assert read(tmp_path, "", "base.toml") == ComputeDemand(at_most=1e23, lineage=True)
    assert read(tmp_path, "[compute]\nat-most = 1e25\n", "base.toml") == ComputeDemand(at_most=1e25)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "compute: at-most is missing"),
        ("at-most = 0", "compute: at-most is 0, but must be above 0 and finite"),
        ("at-most = inf", "compute: at-most is inf, but must be above 0 and finite"),
        ("at-most = nan", "compute: at-most: expected a number"),
        ('at-most = "1e23"', "compute: at-most: expected a number"),
        ("at-most = 1e23\nlineage = true", "compute: lineage: expected a string"),
        ('at-most = 1e23\nlineage = "all"', "compute: lineage is 'all', not sum"),
        (
            "at-most = 1e23\nprocessor = -1.0",
            "compute: processor is -1.0, but must be above 0 and finite",
        ),
        (f"at-most = 1e23\n{CAPPED}", "compute: caps need processor, accelerator and reviewed"),
        (
            'at-most = 1e23\naccelerator = 1e15\nreviewed = "2027-01-31"',
            "compute: caps need processor, accelerator and reviewed",
        ),
        (
            'at-most = 1e23\nreviewed = "2027-02-31"',
            "compute: reviewed is '2027-02-31', not a date such as 2026-11-28",
        ),
        (
            'at-most = 1e23\nreviewed = "20270131"',
            "compute: reviewed is '20270131', not a date such as 2026-11-28",
        ),
        ("at-most = 1e23\nslack = 1", "compute has an unknown key 'slack'"),
    ],
)
def test_what_is_no_bound(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(tmp_path, f"[compute]\n{text}\n")
    assert refused.value.message == f"{tmp_path / 'p.toml'}: {message}"


def test_a_list_of_bounds_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="compute"):
        read(tmp_path, "[[compute]]\nat-most = 1e23\n")
