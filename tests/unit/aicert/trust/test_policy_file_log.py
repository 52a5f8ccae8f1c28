"""Logs and witnesses of a policy file."""

from pathlib import Path

import pytest

from aicert.errors import ConfigError
from aicert.trust.policy_file import load_policy
from tests.adversarial.log_forge import ORIGIN, WITNESS, WITNESSES, signer
from tests.unit.aicert.trust.test_policy_file import file, refused

LOG, (FIRST, SECOND, THIRD) = signer(), (signer(name, WITNESS) for name in WITNESSES)


def table(kind: str, name: str, key: object, more: str = "") -> str:
    return f'[[{kind}]]\nname = "{name}"\nkey = "{key}"\n{more}'


BOTH = table("log", "ours", LOG.key) + table("witness", "first", FIRST.key)


def test_logs_and_witnesses_are_read_and_added_to_those_of_the_base(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text('tier = "vtpm"\nrequire = ["log"]\n' + BOTH)
    (tmp_path / "more.toml").write_text(
        'extends = "base.toml"\nwitnesses = 2\n'
        + table("log", "other", signer("log.example/other").key)
        + table("witness", "second", SECOND.key)
    )
    (tmp_path / "last.toml").write_text(
        'extends = "more.toml"\n' + table("witness", "third", THIRD.key)
    )
    base, more, last = (
        load_policy(str(tmp_path / f"{name}.toml")) for name in ("base", "more", "last")
    )
    assert ([one.name for one in base.logs], base.quorum) == (["ours"], 0)
    assert base.logs[0].key.name == ORIGIN
    assert base.require == last.require == {"log"}
    assert [one.name for one in more.logs] == ["ours", "other"]
    assert ([one.key for one in more.witnesses], more.quorum) == ([FIRST.key, SECOND.key], 2)
    assert (len(last.witnesses), last.quorum) == (3, 2)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (table("log", "ours", f"{LOG.key}x"), "log ours: a verifier key is not base64"),
        (table("log", "ours", "log.example"), "log ours: a verifier key is not NAME+ID+BASE64"),
        (table("log", "ours", FIRST.key), "is a witness's, not a log's"),
        (table("witness", "ours", LOG.key), "is a log's, not a witness's"),
        (table("log", "ours", LOG.key, "origin = 1\n"), "log has an unknown key 'origin'"),
        (table("log", "ours", LOG.key) * 2, "two [[log]] or [[witness]] have the same key: ours"),
        (BOTH + table("witness", "again", FIRST.key), "[[witness]] have the same key: again"),
        ("witnesses = 1\n", "witnesses is 1, but there are 0 [[witness]]"),
        ("witnesses = 0\n" + BOTH, "witnesses is 0, but there are 1 [[witness]]"),
        ("witnesses = 2\n" + BOTH, "witnesses is 2, but there are 1 [[witness]]"),
        ("witnesses = true\n" + BOTH, "policy: witnesses: expected an integer"),
    ],
)
def test_a_wrong_log_or_witness_is_named(tmp_path: Path, text: str, reason: str) -> None:
    assert reason in refused(file(tmp_path, text))[0]


def test_a_log_is_not_its_own_witness(tmp_path: Path) -> None:
    """The same key, under another name and for another kind of signature."""
    key = type(LOG.key)(name="other.example", algorithm=WITNESS, public=LOG.key.public)
    text = table("log", "ours", LOG.key) + table("witness", "theirs", key)
    with pytest.raises(ConfigError, match="have the same key: theirs"):
        load_policy(file(tmp_path, text))
