"""The driver for a person who only installed the package: its module, its client and its volumes
come from the package, and its state is in the person's repository. The cloud is played.
"""

import os
import subprocess
from pathlib import Path

import pytest

from aicert.formats import certificate as certificates
from rules.machines.azure import run as azure_run
from tests.e2e.azure.conftest import HERE, PROJECT, REHEARSAL, REPOSITORY, World
from tests.e2e.conftest import LIMIT_S
from tests.e2e.repository.own_repository import AUTHOR, Person, person, readme_lines

__all__ = ["person"]
pytestmark = pytest.mark.slow


@pytest.fixture
def packages(person: Person) -> Path:
    """Return the packages of a person whose repository has a machine on Azure."""
    person.done(f"git init --quiet && git {AUTHOR} commit --quiet --allow-empty --message empty")
    install, init, *_ = readme_lines()
    person.install(install)
    person.done(init)
    with (person.root / "aicert.toml").open("a") as file:
        file.write(PROJECT)
    person.done("./doit help")
    venv = Path(person.environment["VIRTUAL_ENV"])
    (installed,) = venv.glob("lib/python*/site-packages/aicert_build")
    return installed


def drive(
    person: Person, packages: Path, *module: Path, **more: str
) -> "subprocess.CompletedProcess[str]":
    own = {"PYTHONPATH": str(packages), "AICERT_PROJECT": str(person.root)}
    return subprocess.run(
        [
            person.root / ".aicert/venv/bin/python",
            "-P",
            HERE / "installed.py",
            person.root,
            *module,
        ],
        cwd=person.root,
        # This process's environment already has the played cloud; the person's was made before
        # that.
        env=os.environ | person.environment | own | more,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )


def test_the_driver_works_out_of_the_package(
    person: Person, packages: Path, world: World, tmp_path: Path
) -> None:
    done = drive(person, packages, REHEARSAL)
    assert done.returncode == 0, done.stdout + done.stderr
    driver, module, out = map(Path, done.stdout.splitlines())
    assert driver == packages / "rules/machines/azure/machine.py"
    assert module == packages / "terraform/azure"
    certificate = certificates.parse((out / "certificate.json").read_bytes())
    assert certificate.image_lock == (person.root / "lockfiles/image.lock.toml").read_bytes()
    assert (out / "outputs/model/weights").read_bytes() == b"w" * 5_000_000
    assert (person.root / ".aicert/azure/last-certificate.json").is_file()
    assert world.left() == []

    # Use the package's module and the real terraform, for which no mirror has the provider.
    names = {path.relative_to(REPOSITORY) for path in (REPOSITORY / "terraform").rglob("*.tf")}
    assert names == {path.relative_to(packages) for path in (packages / "terraform").rglob("*.tf")}
    settings, mirror = tmp_path / "terraformrc", tmp_path / "mirror"
    mirror.mkdir()
    settings.write_text(
        f'provider_installation {{\n  filesystem_mirror {{\n    path = "{mirror}"\n  }}\n}}\n'
    )
    refused = drive(person, packages, TF_CLI_CONFIG_FILE=str(settings))
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert "could not fetch the azurerm provider" in refused.stdout
    assert not list((person.root / azure_run.HOME).glob("aicert*"))
