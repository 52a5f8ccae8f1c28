"""What others do with a log: check, prove, mirror and witness it; and broken or dishonest logs."""

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from aicert.audits.merkle import root_of
from aicert.errors import AicertError, EvidenceError
from aicert.log import check, durable, keys, mirror, tiles, witness
from aicert.log.errors import BrokenLogError
from aicert.log.keys import PrivateKey
from aicert.tlog import proofs
from aicert.tlog.checkpoints import Checkpoint, cosigned_at, open_checkpoint
from aicert.tlog.notes import COSIGNATURE, MAX_NOTE, Note, VerifierKey, signature_line
from tests.unit.aicert.log.logs import ORIGIN, Bench

START = 1_800_000_000


def fork(bench: Bench, place: Path, count: int) -> Bench:
    """Return another log by the same key: the operator shows each reader a different one."""
    place.mkdir()
    other = Bench(place)
    for name in ("log.key", "log.key.last"):
        (place / name).unlink()
    (place / "log.key").write_bytes(bench.key_file.read_bytes())
    (place / "log.key").chmod(0o600)
    for name in ("checkpoint", "log.vkey"):
        other.part(name).unlink()
    other.folder.rmdir()
    from aicert.log import writer

    writer.start(other.folder, ORIGIN, other.key_file)
    other.append(*(b"forked %d" % index for index in range(count)))
    return other


def changed(path: str, change: Callable[[bytes], bytes]) -> Callable[[Bench], object]:
    def to(bench: Bench) -> None:
        part = bench.part(path)
        part.write_bytes(change(part.read_bytes()))

    return to


def gone(path: str) -> Callable[[Bench], object]:
    return lambda bench: bench.part(path).unlink()


def fifo(bench: Bench) -> None:
    bench.part("tile/entries/000").unlink()
    os.mkfifo(bench.part("tile/entries/000"))


def folder(bench: Bench) -> None:
    bench.part("tile/0/000").unlink()
    bench.part("tile/0/000").mkdir()


HOSTILE = {
    "an entry differs": changed("tile/entries/000", lambda d: d.replace(b"entry 7", b"entry X")),
    "a bundle is cut": changed("tile/entries/000", lambda d: d[:-1]),
    "a bundle is empty": changed("tile/entries/001.p/44", lambda _: b""),
    "a length is long": changed("tile/entries/000", lambda d: b"\xff\xff" + d[2:]),
    "a bundle has more": changed("tile/entries/001.p/44", lambda d: d + b"\0\0"),
    "a bundle is huge": lambda b: os.truncate(b.part("tile/entries/000"), 1 << 40),
    "a bundle is missing": gone("tile/entries/000"),
    "a bundle is a FIFO": fifo,
    "a tile differs": changed("tile/0/000", lambda d: bytes(32) + d[32:]),
    "a tile is cut": changed("tile/0/001.p/44", lambda d: d[:-32]),
    "a tile has more": changed("tile/0/001.p/44", lambda d: d + bytes(32)),
    "a tile is uneven": changed("tile/0/000", lambda d: d[:-1]),
    "a tile is missing": gone("tile/1/000.p/1"),
    "a tile is a folder": folder,
    "a tile above differs": changed("tile/1/000.p/1", lambda _: bytes(32)),
    "the root differs": changed("checkpoint", lambda d: d.replace(b"300", b"299")),
    "no signature": changed("checkpoint", lambda d: d.partition(b"\n\n")[0]),
    "no checkpoint": changed("checkpoint", lambda _: b"\xff"),
    "the checkpoint is huge": lambda b: os.truncate(b.part("checkpoint"), 1 << 30),
    "the checkpoint is missing": gone("checkpoint"),
    "the key is another": lambda b: b.part("log.vkey").write_text(
        str(VerifierKey(name=ORIGIN, algorithm=1, public=bytes(32)))
    ),
    "the key is none": lambda b: b.part("log.vkey").write_bytes(b"\xff" * 20),
    "the key is missing": gone("log.vkey"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_log_that_is_not_whole_is_refused(bench: Bench, name: str) -> None:
    bench.grow(300)
    check.check(bench.folder, tiles.read_key(bench.folder, None))
    HOSTILE[name](bench)
    with pytest.raises(AicertError) as caught:
        check.check(bench.folder, tiles.read_key(bench.folder, None))
    assert caught.value.exit_code in (1, 2)
    is_read = isinstance(caught.value, BrokenLogError)
    assert is_read or "key" in name or "checkpoint" in name


def test_a_file_that_may_not_be_read_is_an_error(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.grow(1)

    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("aicert.log.tiles.os.stat", refused)
    with pytest.raises(BrokenLogError, match="Permission denied"):
        check.check(bench.folder, bench.key)


def test_a_huge_size_ends_at_once(bench: Bench) -> None:
    huge = Checkpoint(origin=ORIGIN, size=(1 << 63) - 1, root=bytes(32)).text()
    note = huge + b"\n" + signature_line(bench.key, bench.private.sign(huge))
    bench.part("checkpoint").write_bytes(note)
    for ask in (
        lambda: check.check(bench.folder, bench.key),
        lambda: check.prove(bench.folder, bench.key, b"x"),
        lambda: mirror.mirror(bench.folder, bench.folder.with_name("copy"), bench.key),
        lambda: tiles.Tiles(bench.folder, (1 << 63) - 1).consistency(5),
    ):
        with pytest.raises(BrokenLogError, match="missing"):
            ask()


def kept(bench: Bench) -> Path:
    path = bench.folder.with_name(f"kept-{len(bench.entries)}")
    path.write_bytes(bench.part("checkpoint").read_bytes())
    return path


def test_forks_and_rollbacks_are_seen_against_what_was_kept(bench: Bench, tmp_path: Path) -> None:
    bench.grow(3)
    older = kept(bench)
    bench.grow(300)
    check.check(bench.folder, bench.key, against=older)
    newer = kept(bench)
    other = fork(bench, tmp_path / "fork", 303)
    for against in (older, newer):
        with pytest.raises(BrokenLogError, match="forked"):
            check.check(other.folder, bench.key, against=against)
    smaller = fork(bench, tmp_path / "smaller", 5)
    with pytest.raises(BrokenLogError, match="rolled back"):
        check.check(smaller.folder, bench.key, against=newer)


def test_a_proof_leads_to_the_root(bench: Bench) -> None:
    bench.grow(300)
    for entry in bench.entries[::60]:
        index, data = check.prove(bench.folder, bench.key, entry)
        proof = proofs.parse(data)
        checkpoint = open_checkpoint(proof.checkpoint, bench.key)
        assert proof.index == index == bench.entries.index(entry)
        assert root_of(entry, index, checkpoint.size, proof.path) == checkpoint.root
    with pytest.raises(BrokenLogError, match="it is not among"):
        check.prove(bench.folder, bench.key, b"another")
    tile = bench.part("tile/1/000.p/1")
    tile.write_bytes(bytes(32))
    with pytest.raises(BrokenLogError, match="do not give the root"):
        check.prove(bench.folder, bench.key, bench.entries[299])


def test_a_mirror_follows(bench: Bench, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    for count in (0, 1, 255, 100, 300):
        if count:
            bench.grow(count)
        mirrored = mirror.mirror(bench.folder, copy, bench.key)
        assert mirrored.checkpoint.size == len(bench.entries)
        assert check.check(copy, bench.key) == check.check(bench.folder, bench.key)
    assert mirror.mirror(bench.folder, copy, bench.key).copied == 0
    # No tile of the copy is older than it must be.
    assert not (copy / "tile/0/000.p").exists()


def test_a_mirror_that_was_interrupted_goes_on(bench: Bench, tmp_path: Path) -> None:
    bench.grow(700)
    copy = tmp_path / "copy"
    mirror.mirror(bench.folder, copy, bench.key)
    # The state after a kill before the last bundle.
    (copy / "checkpoint").unlink()
    (copy / "tile/entries/002.p/188").unlink()
    bundle = copy / "tile/entries/001"
    bundle.write_bytes(bundle.read_bytes().replace(b"entry 300", b"entry XXX"))
    assert mirror.mirror(bench.folder, copy, bench.key).copied == 188 + 256
    check.check(copy, bench.key)


def test_a_mirror_refuses_a_fork_and_stays(bench: Bench, tmp_path: Path) -> None:
    bench.grow(300)
    copy = tmp_path / "copy"
    mirror.mirror(bench.folder, copy, bench.key)
    before = check.check(copy, bench.key)
    with pytest.raises(BrokenLogError, match="forked"):
        mirror.mirror(fork(bench, tmp_path / "fork", 400).folder, copy, bench.key)
    with pytest.raises(BrokenLogError, match="rolled back"):
        mirror.mirror(fork(bench, tmp_path / "less", 4).folder, copy, bench.key)
    bench.grow(300)
    bundle = bench.part("tile/entries/001")
    bundle.write_bytes(bundle.read_bytes().replace(b"entry 400", b"entry XXX"))
    with pytest.raises(BrokenLogError, match="the source is broken"):
        mirror.mirror(bench.folder, copy, bench.key)
    assert check.check(copy, bench.key) == before
    # The mirror does not build on a copy that somebody changed.
    (copy / "tile/0/001.p/44").write_bytes(bytes(44 * 32))
    with pytest.raises(BrokenLogError, match="the copy is broken"):
        mirror.mirror(bench.folder, copy, bench.key)


@pytest.mark.parametrize("count", [0, 1, 300])
def test_a_mirror_takes_no_entry_that_the_copy_has_otherwise(
    bench: Bench, tmp_path: Path, count: int
) -> None:
    bench.grow(10)
    copy = tmp_path / "copy"
    mirror.mirror(bench.folder, copy, bench.key)
    before = check.check(copy, bench.key)
    if count:
        bench.grow(count)
    else:
        # Otherwise the mirror would use the copy's own bundle, from which this tile is computed.
        bench.part("tile/0/000.p/10").write_bytes(bytes(320))
    # The root does not show the change: the copy's tree continues from its own tiles.
    for path in bench.part("tile/entries").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes().replace(b"entry 7", b"entry X"))
    with pytest.raises(BrokenLogError, match="not what the copy has"):
        mirror.mirror(bench.folder, copy, bench.key)
    assert check.check(copy, bench.key) == before


def test_a_mirror_leaves_the_copy_of_another_log_as_it_is(bench: Bench, tmp_path: Path) -> None:
    bench.grow(3)
    copy = tmp_path / "copy"
    mirror.mirror(bench.folder, copy, bench.key)
    (tmp_path / "other").mkdir()
    other = Bench(tmp_path / "other", "other.example")
    with pytest.raises(BrokenLogError, match="no signature of other"):
        mirror.mirror(other.folder, copy, other.key)
    assert tiles.read_key(copy, None) == bench.key
    check.check(copy, tiles.read_key(copy, None))


@pytest.fixture
def own(tmp_path: Path) -> tuple[Path, PrivateKey]:
    path = tmp_path / "w.key"
    return path, keys.create(path, "witness.example/w1", COSIGNATURE)


def test_a_witness_cosigns_a_log_that_grows(bench: Bench, own: tuple[Path, PrivateKey]) -> None:
    path, key = own
    times = itertools.count(1_800_000_000)
    before = None
    for count in (2, 0, 300):
        if count:
            bench.grow(count)
        cosigned = witness.cosign(bench.folder, path, key, bench.key, now=lambda: next(times) + 0.9)
        assert cosigned.before == before
        before = cosigned.checkpoint.size
        note = Note.parse(cosigned.note)
        assert cosigned_at(note, key.public)[-1] == cosigned.time
        witness.publish(bench.folder, cosigned.note, bench.key)
        witness.publish(bench.folder, cosigned.note, bench.key)
    assert path.with_name("w.key.seen").stat().st_mode & 0o777 == 0o600
    _, proof = check.prove(bench.folder, bench.key, bench.entries[0])
    assert b"witness.example/w1" in proof
    # No witness has cosigned the next checkpoint yet.
    bench.grow(1)
    assert len(Note.parse(bench.part("checkpoint").read_bytes()).signatures) == 1


def test_a_witness_that_looks_often_leaves_room_for_others(
    bench: Bench, own: tuple[Path, PrivateKey], tmp_path: Path
) -> None:
    path, key = own
    another = keys.create(tmp_path / "w2.key", "witness.example/w2", COSIGNATURE)
    for at in range(START, START + 17):
        for place, signer in ((path, key), (tmp_path / "w2.key", another)):
            one = witness.cosign(
                bench.folder, place, signer, bench.key, now=itertools.repeat(at).__next__
            )
            witness.publish(bench.folder, one.note, bench.key)
    note = Note.parse(bench.part("checkpoint").read_bytes())
    for signer in (key, another):
        assert cosigned_at(note, signer.public) == (START, START + 16)
    assert open_checkpoint(bench.part("checkpoint").read_bytes(), bench.key).size == 0


def test_a_witness_refuses_what_it_must(
    bench: Bench, own: tuple[Path, PrivateKey], tmp_path: Path
) -> None:
    path, key = own
    bench.grow(300)
    witness.cosign(bench.folder, path, key, bench.key)
    state = path.with_name("w.key.seen").read_bytes()
    for name, count, words in (("a", 301, "forked"), ("b", 300, "forked"), ("c", 7, "rolled back")):
        other = fork(bench, tmp_path / name, count)
        with pytest.raises(BrokenLogError, match=words):
            witness.cosign(other.folder, path, key, bench.key)
    (tmp_path / "d").mkdir()
    stranger = Bench(tmp_path / "d")
    with pytest.raises(BrokenLogError, match="does not have the key"):
        witness.cosign(stranger.folder, path, key, stranger.key)
    assert path.with_name("w.key.seen").read_bytes() == state


@pytest.mark.parametrize(
    "state",
    [
        b"", b"{}", b'{"kind":"aicert-log-witness","logs":{},"version":2}',
        b'{"kind":"aicert-log-witness","logs":{"a":{}},"version":1}',
        b'{"kind":"aicert-log-witness","logs":{"a":{"key":"","root":"","size":1}},"version":1}',
        b'{"kind":"aicert-log-witness","logs":{},"more":1,"version":1}',
    ],
)  # fmt: skip
def test_a_witness_that_has_forgotten_signs_nothing(
    bench: Bench, own: tuple[Path, PrivateKey], state: bytes
) -> None:
    path, key = own
    path.with_name("w.key.seen").write_bytes(state)
    with pytest.raises(EvidenceError):
        witness.cosign(bench.folder, path, key, bench.key)


def test_a_witness_has_so_many_logs(
    bench: Bench, own: tuple[Path, PrivateKey], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, key = own
    monkeypatch.setattr(witness, "MAX_LOGS", 0)
    with pytest.raises(BrokenLogError, match="logs already"):
        witness.cosign(bench.folder, path, key, bench.key)


def test_a_cosignature_of_another_checkpoint_is_not_added(
    bench: Bench, own: tuple[Path, PrivateKey]
) -> None:
    path, key = own
    cosigned = witness.cosign(bench.folder, path, key, bench.key)
    bench.grow(1)
    with pytest.raises(BrokenLogError, match="already has a newer checkpoint"):
        witness.publish(bench.folder, cosigned.note, bench.key)


def test_lines_that_would_spoil_a_checkpoint_are_not_added(bench: Bench) -> None:
    note = bench.part("checkpoint").read_bytes()
    forged = note + signature_line(bench.key, bytes(64))
    with pytest.raises(EvidenceError):
        witness.publish(bench.folder, forged, bench.key)
    stranger = VerifierKey(name="w.example", algorithm=COSIGNATURE, public=bytes(32))
    text = Note.parse(note).text
    # As long as a note may be, without the log's own line.
    line = signature_line(stranger, bytes((MAX_NOTE - len(text) - 30) // 4 * 3))
    assert len(text + b"\n" + line) <= MAX_NOTE
    with pytest.raises(BrokenLogError, match="too many signatures"):
        witness.publish(bench.folder, text + b"\n" + line, bench.key)
    assert bench.part("checkpoint").read_bytes() == note


def test_a_folder_that_somebody_writes_to_is_waited_for(bench: Bench) -> None:
    import fcntl

    with durable.alone(bench.folder):
        descriptor = os.open(bench.folder, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(descriptor)
