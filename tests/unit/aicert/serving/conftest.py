"""A stub engine for the machines of these tests, and a port that they keep."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.serving import stub_engine
from tests.e2e.serving.stub_engine import StubEngine
from tests.unit.aicert.serving import machines


@pytest.fixture
def stub() -> Iterator[StubEngine]:
    # A path short enough for a socket.
    with tempfile.TemporaryDirectory(prefix="aicert-") as name:
        with stub_engine.running(Path(name)) as stub:
            yield stub


@pytest.fixture
def port() -> Iterator[int]:
    with machines.kept_port() as port:
        yield port
