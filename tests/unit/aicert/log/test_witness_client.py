"""A witness over HTTP: an independent implementation, or a server that answers anything else."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from aicert.errors import AicertError, EvidenceError, ToolError
from aicert.log import check, witness_client
from aicert.log.errors import BrokenLogError
from aicert.log.witness_client import Post
from aicert.sources.log_server import add_checkpoint
from aicert.tlog.checkpoints import cosigned_at
from aicert.tlog.notes import MAX_NOTE, Note, VerifierKey
from tests.unit.aicert.log.logs import Bench
from tests.unit.aicert.log.test_others import fork
from tests.unit.servers import Site, site
from tests.witness_server import WitnessServer


@pytest.fixture
def server(bench: Bench) -> WitnessServer:
    return WitnessServer({bench.key.name: str(bench.key)})


@pytest.fixture
def running(server: WitnessServer) -> Iterator[Site]:
    with site(server.answer) as answering:
        yield answering


def by_http(running: Site) -> Post:
    return lambda body: add_checkpoint(running.url, body)


def saying(status: int, body: bytes = b"") -> Post:
    return lambda _: (status, body)


def key_of(server: WitnessServer) -> VerifierKey:
    return VerifierKey.parse(server.key)


@pytest.mark.parametrize("now", [0, 253_370_764_800, (1 << 63) - 1])
def test_a_time_that_is_none_does_not_get_into_the_log(
    bench: Bench, server: WitnessServer, running: Site, now: int
) -> None:
    server.now = now
    before = bench.part("checkpoint").read_bytes()
    with pytest.raises(ToolError, match="has no real time"):
        witness_client.ask(bench.folder, bench.key, key_of(server), by_http(running))
    assert bench.part("checkpoint").read_bytes() == before


def lines(bench: Bench) -> tuple[str, ...]:
    note = Note.parse(bench.part("checkpoint").read_bytes())
    return tuple(line.name for line in note.signatures)


def test_a_witness_cosigns_a_log_while_it_grows(
    bench: Bench, server: WitnessServer, running: Site
) -> None:
    key = key_of(server)
    asked = 0
    # From the empty log on, the log grows by whole subtrees, by parts of them, and not at all.
    for grown in (0, 1, 3, 252, 1, 300, 0):
        if grown:
            bench.grow(grown)
        first = asked == 0
        result = witness_client.ask(bench.folder, bench.key, key, by_http(running))
        assert (result.checkpoint.size, result.time) == (len(bench.entries), server.now)
        requests, asked = len(running.requests) - asked, len(running.requests)
        # A request repeats the witness's last checkpoint if it had seen one.
        assert requests == (1 if first or len(bench.entries) == 1 else 2)
        note = Note.parse(bench.part("checkpoint").read_bytes())
        assert cosigned_at(note, key)[-1] == server.now
        server.now += 60
    _, proof = check.prove(bench.folder, bench.key, bench.entries[17])
    assert server.name.encode() in proof


def test_lines_of_others_stay_and_are_not_shown(
    bench: Bench, server: WitnessServer, running: Site
) -> None:
    bench.grow(3)
    other = WitnessServer(server.logs, name="witness.example/other")
    with site(other.answer) as answering:
        witness_client.ask(bench.folder, bench.key, key_of(other), by_http(answering))
    witness_client.ask(bench.folder, bench.key, key_of(server), by_http(running))
    assert lines(bench) == (bench.key.name, other.name, server.name)
    assert other.name.encode() not in running.requests[0].body


def test_a_fork_and_a_rollback_are_refused(
    bench: Bench, server: WitnessServer, running: Site, tmp_path: Path
) -> None:
    bench.grow(5)
    witness_client.ask(bench.folder, bench.key, key_of(server), by_http(running))
    for count, words in (
        (7, "the log has forked"),
        (5, "the log has forked"),
        (2, "has seen 5 entries of 'log.example/models', but there are only 2"),
    ):
        other = fork(bench, tmp_path / str(count), count)
        before = other.part("checkpoint").read_bytes()
        with pytest.raises(BrokenLogError, match=words):
            witness_client.ask(other.folder, bench.key, key_of(server), by_http(running))
        assert other.part("checkpoint").read_bytes() == before


def test_a_log_that_it_does_not_know(bench: Bench, server: WitnessServer, running: Site) -> None:
    server.logs = {}
    with pytest.raises(ToolError, match="does not know a log") as caught:
        witness_client.ask(bench.folder, bench.key, key_of(server), by_http(running))
    assert caught.value.hint == "give the log's key to whoever runs the witness"
    server.logs = {bench.key.name: server.key.replace(server.name, bench.key.name)}
    with pytest.raises(ToolError, match="knows a different key for the log"):
        witness_client.ask(bench.folder, bench.key, key_of(server), by_http(running))


@pytest.mark.parametrize(
    ("post", "error", "words"),
    [
        (saying(500), ToolError, "answers 500"),
        (saying(409, b"many\n"), ToolError, "is not a decimal number"),
        (saying(409, b"\xff" * 99), ToolError, "is not a decimal number"),
        (saying(409, b"0\n"), BrokenLogError, "the log has forked"),
        (saying(200, b""), ToolError, "does not cosign"),
        (saying(200, b"thank you\n"), ToolError, "does not cosign"),
        (saying(200, bytes(MAX_NOTE + 1)), ToolError, "is larger than a note"),
    ],
)
def test_what_is_no_answer_is_refused(
    post: Post, error: type[AicertError], words: str, bench: Bench, server: WitnessServer
) -> None:
    bench.grow(3)
    before = bench.part("checkpoint").read_bytes()
    with pytest.raises(error, match=words):
        witness_client.ask(bench.folder, bench.key, key_of(server), post)
    assert bench.part("checkpoint").read_bytes() == before


def test_one_that_saw_another_size_each_time_is_not_asked_for_ever(
    bench: Bench, server: WitnessServer
) -> None:
    bench.grow(9)
    sizes = iter(range(1, 9))
    with pytest.raises(ToolError, match="names a different size each time"):
        witness_client.ask(
            bench.folder, bench.key, key_of(server), lambda _: (409, b"%d" % next(sizes))
        )
    assert next(sizes) == witness_client.MAX_TRIES + 1


def test_a_cosignature_counts_where_the_key_made_it(bench: Bench, server: WitnessServer) -> None:
    text = Note.parse(bench.part("checkpoint").read_bytes()).text.decode()
    key = key_of(server)
    good = server.line(text, server.now).encode()
    for answer in (
        server.line(text + "another line\n", server.now).encode(),
        good.replace(server.name.encode(), b"witness.example/another"),
        good + server.line("other\n", 5).encode(),
    ):
        with pytest.raises(EvidenceError):
            witness_client.ask(bench.folder, bench.key, key, saying(200, answer))
        assert lines(bench) == (bench.key.name,)
    # A cosignature by an unknown key, and the same one twice.
    foreign = good.replace(server.name.encode(), b"witness.example/another")
    earlier = server.line(text, server.now - 60).encode()
    result = witness_client.ask(bench.folder, bench.key, key, saying(200, foreign + good + earlier))
    assert result.time == server.now
    assert lines(bench) == (bench.key.name, server.name)
