"""Fixtures that signature tests share: a key, and the output of a command."""

from pathlib import Path

import pytest

from tests.unit.signing_keys import Pair, Printed, pair


@pytest.fixture
def keys(tmp_path: Path) -> Pair:
    return pair(tmp_path, "k")


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Printed:
    return capsys.readouterr
