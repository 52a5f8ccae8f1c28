"""What tests of signatures share: a key, and what a command said."""

from pathlib import Path

import pytest

from tests.unit.signing_keys import Pair, Printed, pair


@pytest.fixture
def keys(tmp_path: Path) -> Pair:
    return pair(tmp_path, "k")


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Printed:
    return capsys.readouterr
