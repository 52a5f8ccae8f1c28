"""`./doit trust --make` makes a CA for simulated machines before the first run."""

from pathlib import Path

import pytest

from aicert.errors import ConfigError
from rules.commands import trust
from rules.project import platform_cas


def run(*args: str, make: str) -> int:
    return trust.Trust().execute({"make": make, "remove": False}, list(args))


def test_a_ca_is_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(make="local") == 0
    first = capsys.readouterr().out
    own = platform_cas.own(tmp_path, "local")
    assert own is not None
    assert first.split() == ["own", f"sha256:{own.fingerprint}", "local", ".aicert/ca/local.pem"]
    assert run(make="local") == 0
    assert capsys.readouterr().out == first


@pytest.mark.parametrize(("args", "driver"), [((), "azure"), (("sha256:aa",), "local")])
def test_what_has_no_ca_of_ours_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...], driver: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="--make takes a driver of simulated machines: "):
        run(*args, make=driver)
    assert not (tmp_path / ".aicert").exists()
