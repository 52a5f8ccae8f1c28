"""Policy files of the guard: strict, with no way to exclude a file."""

from pathlib import Path

import pytest

from aicert.errors import ConfigError
from aicert.guard.policy import Certificates, Signer, load_policy
from tests.unit.signing_keys import pair

KEY = '[[signer]]\nkey = "k.pub"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pair(tmp_path, "k")
    return tmp_path


def written(folder: Path, text: str) -> Path:
    place = folder / "guard.toml"
    place.write_text(text)
    return place


def test_a_whole_policy(folder: Path) -> None:
    policy = load_policy(
        written(
            folder,
            f'unsigned = "warn"\n{KEY}[[signer]]\ncertificate-chain = ["k.pub"]\n'
            '[[signer]]\nidentity = "me@example.com"\nissuer = "https://example.com"\n'
            '[certificate]\npolicy = "default"\nlockfile = "sha256:' + "a" * 64 + '"\n',
        )
    )
    key = str(folder / "k.pub")
    assert policy.path == str(folder / "guard.toml")
    assert policy.unsigned == "warn"
    assert policy.signers == (
        Signer(key=key),
        Signer(roots=(key,)),
        Signer(identity="me@example.com", issuer="https://example.com"),
    )
    assert policy.certificates == Certificates(policy="default", lockfile=f"sha256:{'a' * 64}")


def test_the_default_refuses(folder: Path) -> None:
    assert load_policy(written(folder, KEY)).unsigned == "refuse"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "neither a [[signer]] nor a [certificate]"),
        ("x = ", "not TOML"),
        (f"ignore = ['a']\n{KEY}", "checks every file, so ignore has no place"),
        (f"ignore-unsigned = true\n{KEY}", "ignore-unsigned has no place"),
        (f"unsigned = 'maybe'\n{KEY}", "unsigned is 'maybe', not refuse, warn, allow"),
        (f"{KEY}ignore = ['a']\n", "unknown key 'ignore'"),
        (f"other = 1\n{KEY}", "unknown key 'other'"),
        ("[[signer]]\n", "name one: key, certificate-chain or identity"),
        (f"{KEY}identity = 'a'\nissuer = 'b'\n", "name one: "),
        ("[[signer]]\nidentity = 'a'\n", "identity and issuer go together"),
        (f"{KEY}issuer = 'a'\n", "identity and issuer go together"),
        (f"{KEY}trusted-root = 'k.pub'\n", "trusted-root goes with identity"),
        ("[[signer]]\nkey = 'absent.pub'\n", "there is no file"),
        ("signer = 1\n", "expected [[signer]] tables"),
        ("[certificate]\npolicy = 'absent.toml'\n", "no policy"),
        ("[certificate]\nlockfile = 'absent.toml'\n", "cannot read lockfile"),
        ("[certificate]\nother = 1\n", "unknown key 'other'"),
    ],
)
def test_what_is_no_policy_is_refused(folder: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_policy(written(folder, text))
    assert message in raised.value.message


def test_a_policy_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read guard policy"):
        load_policy(tmp_path / "absent.toml")
