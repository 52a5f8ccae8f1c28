"""cosign 3.1, as Debian unstable packages it, without a network.

It verifies our bundle against our trusted root, and refuses each variant with one false value.
`./doit test -m logs tests/logs`: not in CI, as unstable changes every day.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests import sigstore_scene
from tests.oracles import environment

pytestmark = pytest.mark.logs
DOCS = Path(__file__).resolve().parents[2] / "docs" / "log.md"


@pytest.fixture(scope="session")
def cosign() -> Path:
    return environment.newest_cosign()


def documented(cosign: Path, folder: Path) -> tuple[int, str]:
    """Run the document's command, and return its exit code and error output."""
    text = DOCS.read_text().replace("\\\n", " ")
    (command,) = re.findall(r"^cosign verify.*$", text, re.MULTILINE)
    words = command.partition("#")[0].split()[1:]
    # In the document the file is in the model's folder.
    words = [word.removeprefix("model/") for word in words]
    done = subprocess.run(
        ["unshare", "--user", "--net", str(cosign), *words],
        cwd=folder,
        env={"HOME": str(folder), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stderr


def test_it_verifies_what_our_commands_write(cosign: Path, tmp_path: Path) -> None:
    sigstore_scene.make(tmp_path)
    assert documented(cosign, tmp_path)[0] == 0, documented(cosign, tmp_path)[1]


@pytest.mark.parametrize("lie", sigstore_scene.LIES)
def test_it_refuses_what_is_not_as_it_says(lie: str, cosign: Path, tmp_path: Path) -> None:
    sigstore_scene.make(tmp_path)
    sigstore_scene.tell(tmp_path, lie)
    code, complaint = documented(cosign, tmp_path)
    assert code == 1, complaint
    assert "error during command execution" in complaint
