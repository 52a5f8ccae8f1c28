"""An engine's stub for the machines of these tests."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import stub_engine
from tests.e2e.stub_engine import StubEngine


@pytest.fixture
def stub() -> Iterator[StubEngine]:
    # A name short enough for a socket.
    with tempfile.TemporaryDirectory(prefix="aicert-") as name:
        with stub_engine.running(Path(name)) as stub:
            yield stub
