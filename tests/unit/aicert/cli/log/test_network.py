"""`aicert log ask`, and `mirror` of a URL: logs and witnesses over HTTP."""

import json
import sys
from pathlib import Path

import pytest

from aicert.cli.main import main
from tests.unit.aicert.log.logs import ORIGIN, Bench
from tests.unit.servers import Reply, Request, site
from tests.witness_server import WitnessServer


def log(*words: object) -> int:
    return main(["log", *map(str, words)])


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path)
    bench.grow(300)
    return bench


def test_a_witness_is_asked(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    server = WitnessServer({ORIGIN: str(bench.key)})
    with site(server.answer) as running:
        words = ["ask", bench.folder, running.url, "--witness-key", server.key]
        assert log(*words) == 0
        assert capsys.readouterr().out == (
            f"log       {ORIGIN}, 300 entries\n"
            f"cosigned  by {server.name}, at 2027-01-15T08:00:00Z\n"
        )
        assert log(*words, "--format", "json") == 0
        shown = json.loads(capsys.readouterr().out)
    assert (shown["witness"], shown["time"]) == (server.name, server.now)
    assert server.name.encode() in bench.part("checkpoint").read_bytes()


def test_what_is_no_witness_is_refused(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    url, key = "http://127.0.0.1:9", WitnessServer({}).key
    for words, message in (
        ([url, "--witness-key", "nothing"], "--witness-key: a verifier key is not"),
        ([url, "--witness-key", bench.key], "is a log's, not a witness's"),
        (["log.example", "--witness-key", key], "not a URL"),
    ):
        assert log("ask", bench.folder, *words) == 3
        assert message in capsys.readouterr().err


def test_without_the_package_it_is_named(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "aicert.sources.log_server", raising=False)
    monkeypatch.setitem(sys.modules, "httpx2", None)
    words = ["http://127.0.0.1:9", "--witness-key", WitnessServer({}).key]
    assert log("ask", bench.folder, *words) == 2
    assert "pip install '.[sources]'" in capsys.readouterr().err


def test_a_log_is_mirrored_from_a_server_of_files(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(request: Request) -> Reply:
        path = bench.folder / request.path.removeprefix("/log/")
        return Reply(body=path.read_bytes()) if path.is_file() else Reply(status=404)

    copy = tmp_path / "copy"
    with site(answer) as running:
        words = ["mirror", f"{running.url}/log/", copy]
        # A log is not trusted only because a server has it.
        assert log(*words) == 3
        assert "whose log it is" in capsys.readouterr().err
        assert log(*words, "--log-key", bench.key) == 0
        assert "copied    300 entries" in capsys.readouterr().out
        bench.grow(20)
        asked = len(running.requests)
        assert log(*words) == 0
        assert "copied    64 entries" in capsys.readouterr().out
        # The mirror does not read again what the copy already has.
        places = [request.path for request in running.requests[asked:]]
        assert "/log/tile/entries/000" not in places
        assert log("check", copy) == 0
        bench.part("checkpoint").unlink()
        capsys.readouterr()
        assert log(*words) == 1
        assert "it has no checkpoint" in capsys.readouterr().err
