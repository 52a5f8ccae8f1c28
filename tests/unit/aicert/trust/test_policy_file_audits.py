"""[[audit]] tables of policy files."""

from pathlib import Path

import pytest

from aicert.appraisal.evidence.accepted import AuditDemand
from aicert.appraisal.policy import Policy
from aicert.errors import ConfigError
from aicert.formats.digest import Digest
from aicert.trust.policy_file import load_policy

LIST, TEXT = f"sha256:{'a1' * 32}", f"sha256:{'b2' * 32}"
HEAD = 'extends = "default"\n'
DOMAINS = f'[[audit]]\nkind = "domains/v1"\ncolumn = "url"\nlist = "{LIST}"\n'
BOUNDS = f"""\
at-most = 1
missing = 2
unparsable = 3
unusable = 4
unread-bytes = 5
texts = ["{TEXT}"]
"""
PATTERNS = '[[audit]]\nkind = "patterns/v1"\n'


def load(folder: Path, text: str) -> Policy:
    (folder / "policy.toml").write_text(HEAD + text)
    return load_policy(str(folder / "policy.toml"))


def test_every_key(tmp_path: Path) -> None:
    (demand,) = load(tmp_path, DOMAINS + BOUNDS).audits
    assert demand == AuditDemand(
        kind="domains/v1", column="url", list=Digest.parse(LIST), at_most=1, missing=2,
        unparsable=3, unusable=4, unread_bytes=5, texts=frozenset((Digest.parse(TEXT),)),
    )  # fmt: skip


def test_what_is_left_out(tmp_path: Path) -> None:
    assert load(tmp_path, PATTERNS).audits == (AuditDemand(kind="patterns/v1"),)
    assert load(tmp_path, "").audits == ()


def test_a_list_that_is_a_folder(tmp_path: Path) -> None:
    listed = f"dirHash:{'a1' * 32}"
    text = f'[[audit]]\nkind = "passages/v1"\nlist = "{listed}"\ncolumn = "text"\n'
    (demand,) = load(tmp_path, text).audits
    assert (demand.list, demand.column) == (Digest.parse(listed), "text")


def test_demands_are_added_to_those_of_the_policy_that_is_extended(tmp_path: Path) -> None:
    (tmp_path / "company.toml").write_text(HEAD + PATTERNS)
    text = f'extends = "company.toml"\n{DOMAINS}'
    (tmp_path / "team.toml").write_text(text)
    audits = load_policy(str(tmp_path / "team.toml")).audits
    assert [one.kind for one in audits] == ["patterns/v1", "domains/v1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[[audit]]\nkind = "domains/v2"\n',
            (
                "audit domains/v2: there is no such kind, only domains/v1, exact/v1, passages/v1, "
                "patterns/v1"
            ),
        ),
        (
            f'[[audit]]\nkind = "domains/v1"\nlist = "{LIST}"\n',
            "audit domains/v1: column is missing",
        ),
        (
            f'{PATTERNS}column = "{"x" * 257}"\n',
            "audit patterns/v1: column is not the name of a column",
        ),
        (
            f'{PATTERNS}column = "a\\u0007"\n',
            "audit patterns/v1: column is not the name of a column",
        ),
        (
            '[[audit]]\nkind = "domains/v1"\ncolumn = "url"\n',
            "audit domains/v1: list is missing",
        ),
        (f'{PATTERNS}list = "{LIST}"\n', "audit patterns/v1 has no list"),
        (f"{PATTERNS}unusable = 0\n", "audit patterns/v1 has no list"),
        (f"{PATTERNS}missing = -1\n", "audit patterns/v1: missing is -1, but must be 0 or more"),
        (f"{PATTERNS}at-most = -1\n", "audit patterns/v1: at-most is -1, but must be 0 or more"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert caught.value.message == f"{tmp_path / 'policy.toml'}: {message}"


@pytest.mark.parametrize(
    "text",
    [
        '[[audit]]\nkind = "exact/v1"\nlist = "md5:00"\n',
        f'{PATTERNS}texts = ["everything"]\n',
        f"{PATTERNS}missing = 0.5\n",
        f"{PATTERNS}skip = true\n",
        "[audit]\nkind = 1\n",
    ],
)
def test_other_values_are_refused_too(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError):
        load(tmp_path, text)
