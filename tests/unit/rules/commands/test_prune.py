"""`./doit prune` removes the files of removed runs."""

from pathlib import Path

import pytest

from rules.commands.prune import Prune
from tests.unit import review_project

GONE = (
    "lockfiles/old.lock.toml",
    "lockfiles/old/data.dvc",
    "lockfiles/old/data.sha256",
    "certificates/old/certificate.json",
    "certificates/old/model.dvc",
    "reproductions/old/measured/ca.pem",
    "reproductions/old/measured/certificate.json",
    "certificates/older/model.dvc",
)
STAYS = (
    "lockfiles/image.lock.toml",
    "lockfiles/image.dvc",
    "lockfiles/images.policy.toml",
    "lockfiles/notes/read-me.txt",
    "certificates/notes/read-me.txt",
    "certificates/tiny/certificate.json",
    "reproductions/old/notes/read-me.txt",
    "reproductions/tiny/local/certificate.json",
    "outputs/old/model/config.json",
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = review_project.make(tmp_path / "repository", monkeypatch)
    for name in (*GONE, *STAYS):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    for folder in ("certificates", "reproductions"):
        (root / folder / "linked").symlink_to(root / folder / "old")
    return root


def there(root: Path) -> set[str]:
    return {name for name in (*GONE, *STAYS) if (root / name).exists()}


def prune(*, yes: bool) -> int:
    return Prune(cmds={}).execute({"yes": yes}, [])


def test_of_second_runs_nothing_stays_that_is_empty(project: Path) -> None:
    (project / "reproductions/old/notes/read-me.txt").unlink()
    (project / "reproductions/old/notes").rmdir()
    assert prune(yes=True) == 0
    assert not (project / "reproductions/old").exists()
    assert (project / "reproductions/tiny/local").exists()


def test_left_overs_are_named_and_go_only_when_told(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prune(yes=False) == 0
    printed = capsys.readouterr().out
    assert [line.split()[1] for line in printed.splitlines()[:-1]] == list(GONE)
    assert printed.endswith("remove them: ./doit prune --yes\n")
    assert there(project) == {*GONE, *STAYS}

    assert prune(yes=True) == 0
    assert there(project) == set(STAYS)
    assert not (project / "lockfiles" / "old").exists()
    assert (project / "lockfiles" / "tiny.lock.toml").is_file()
    assert (project / "certificates" / "linked").is_symlink()
    capsys.readouterr()
    assert prune(yes=True) == 0
    assert capsys.readouterr().out == "nothing to remove\n"
