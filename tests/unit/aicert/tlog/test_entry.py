"""Entries of a log: computed from a certificate, or read from any source."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from aicert.errors import EvidenceError
from aicert.formats import certificate as certificates
from aicert.formats.digest import Digest, of_bytes
from aicert.formats.run_report import Value
from aicert.frozen import replace
from aicert.tlog import entry
from tests.unit.sample_certificate import SOURCES, sample

BASE = {"baseInput": Value("derived", "model")}


def test_an_entry_has_what_people_search_for() -> None:
    certificate = certificates.parse(sample(values=BASE))
    data = entry.entry_of(certificate)
    read = entry.parse(data)
    assert entry.emit(read) == data
    assert read.certificate == certificates.core_digest(certificate)
    assert read.lockfile == of_bytes(certificate.lockfile)
    assert (read.run, read.trainer, read.builder) == (
        "tiny", "axolotl", "urn:aicert:machine:local",
    )  # fmt: skip
    assert read.code == (entry.Item(name="runner", digest=Digest("dirHash", "33" * 32)),)
    assert {item.name: item.uri for item in read.inputs} == SOURCES
    assert [item.name for item in read.outputs] == ["model"]
    assert read.base == "model"


@pytest.mark.parametrize("values", [{}, {"baseInput": Value("derived", "another")}])
def test_a_base_is_an_input_of_the_run(values: dict[str, Value]) -> None:
    assert entry.parse(entry.entry_of(certificates.parse(sample(values=values)))).base is None


def test_a_file_of_an_input_may_be_the_base() -> None:
    values = {"baseInput": Value("derived", "model/sub")}
    assert entry.parse(entry.entry_of(certificates.parse(sample(values=values)))).base == "model"


def test_time_stamps_change_no_entry() -> None:
    plain = certificates.parse(sample())
    stamped = replace(plain, evidence=replace(plain.evidence, timestamps=("tlog-proof:AAAA",)))
    assert entry.entry_of(stamped) == entry.entry_of(plain)


def test_names_of_sources_are_left_out_where_they_do_not_fit() -> None:
    many = {f"rows-{n:03}": "hf:datasets/org/" + "r" * 400 for n in range(200)}
    read = entry.parse(entry.entry_of(certificates.parse(sample(sources=SOURCES | many))))
    assert len(read.inputs) == 203
    assert {item.uri for item in read.inputs} == {None}


def test_what_does_not_fit_is_not_logged() -> None:
    many = {f"rows-{'r' * 50}-{n:03}": "path:rows" for n in range(700)}
    with pytest.raises(EvidenceError, match="too many inputs or outputs"):
        entry.entry_of(certificates.parse(sample(sources=SOURCES | many)))


def changed(**changes: object) -> Callable[[dict[str, Any]], object]:
    return lambda document: document.update(changes)


HOSTILE: list[Callable[[dict[str, Any]], object]] = [
    changed(kind="aicert-certificate"),
    changed(version=2),
    changed(certificate="sha256:00"),
    changed(certificate=1),
    changed(lockfile="x" * 81),
    changed(run="r" * 64),
    changed(inputs={}),
    changed(inputs=[{"name": "a"}]),
    changed(inputs=[{"name": "a", "digest": "sha256:" + "0" * 64, "size": 1}]),
    changed(inputs=[{"name": "a", "digest": "sha256:" + "0" * 64}] * 1001),
    changed(code=[{"name": "a", "digest": "sha256:" + "0" * 64}] * 21),
    changed(outputs=[{"name": "a", "digest": "sha256:" + "0" * 64, "uri": "u" * 1001}]),
    changed(base=None),
    changed(more=1),
    lambda document: document.pop("outputs"),
]


@pytest.mark.parametrize("change", HOSTILE)
def test_hostile_entries_are_refused(change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads(entry.entry_of(certificates.parse(sample())))
    change(document)
    with pytest.raises(EvidenceError):
        entry.parse(json.dumps(document, sort_keys=True, separators=(",", ":")).encode())


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"\xff", b"[" * 40, b'{"a":1,"a":1}', b" " * 65536]
)
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(EvidenceError):
        entry.parse(data)


def test_an_entry_has_one_form() -> None:
    data = entry.entry_of(certificates.parse(sample()))
    with pytest.raises(EvidenceError, match="canonical"):
        entry.parse(data + b"\n")
