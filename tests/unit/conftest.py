"""What tests of signatures share: a key, and what a command said."""

from pathlib import Path

import pytest

from tests.unit.signing_keys import Pair, Said, pair


@pytest.fixture
def keys(tmp_path: Path) -> Pair:
    return pair(tmp_path, "k")


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    return capsys.readouterr
