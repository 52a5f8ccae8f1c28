"""In a repository of one's own: from nothing to PASSED by the README's lines, and a second
clone.
"""

import re
from pathlib import Path

import pytest

from tests.e2e.repository.own_repository import AUTHOR, Person, bring_inputs, person, readme_lines

__all__ = ["person"]
# Names of our modules and of libraries that we load. A repository may have modules of these names.
THEIRS = ("rules/__init__.py", "aicert.py", "enclave_runner.py", "rich.py", "tomlkit.py")


@pytest.mark.slow
def test_from_an_empty_repository_to_passed_and_a_second_clone(
    person: Person, tmp_path: Path
) -> None:
    root = person.root
    person.done(f"git init --quiet && git {AUTHOR} commit --quiet --allow-empty --message empty")
    bring_inputs(root)
    for name in THEIRS:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("raise SystemExit('a module of the repository was imported')\n")
    install, *setting_up, verify = readme_lines()
    person.install(install)
    for line in setting_up:
        person.done(line)
        if line == "aicert init":
            # There is no run yet.
            assert "certify" in person.done("./doit list")
    assert "PASSED    (software: the operator could have forged this)" in person.done(verify)
    assert "nothing to do" in person.run("./doit certify").stderr
    person.done("./doit lock --check")
    assert "run my-run: new" in person.done("./doit review")

    tops = {line[3:] for line in person.done("git status --porcelain").splitlines()}
    ours = {"doit", "dodo.py", "aicert.toml", "lockfiles/", "certificates/", ".dvc/", ".github/"}
    theirs = {"base/", "rows/", "train.yml", "rules/", *THEIRS[1:]}
    assert tops == ours | theirs | {".gitignore", ".gitattributes"}

    person.done(f"git add --all && git {AUTHOR} commit --quiet --message first")
    person.done(f"./doit dvc remote add --default store {tmp_path}/store")
    person.done(f"./doit dvc push && git {AUTHOR} commit --quiet --all --message remote")
    person.done(f"git clone --quiet . {tmp_path}/second")
    second = Person(root=tmp_path / "second", environment=person.environment)
    second.done("./doit dvc pull")
    unknown = second.run(verify)
    assert unknown.returncode == 2, unknown.stdout + unknown.stderr
    fingerprint = re.search(r"sha256:[0-9a-f]{64}", person.done("./doit trust"))
    assert fingerprint
    second.done(f"./doit trust {fingerprint[0]}")
    assert "PASSED" in second.done(verify)
    assert "nothing to do" in second.run("./doit certify").stderr
