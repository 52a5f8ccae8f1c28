"""Audits before a training: what they get, and what is refused before any of them is made."""

from pathlib import Path

import pytest

from aicert.audits import config, results
from aicert.audits.results import BesideFact
from aicert.audits.run import Audit
from aicert.errors import ConfigError, LockError
from aicert.files.tree import read_file
from aicert.formats.digest import Digest, of_bytes
from aicert.formats.lockfile import LockedInput, Lockfile
from aicert.formats.run_report_facts import Records
from aicert.frozen import replace
from enclave_runner.audit import auditing, gate
from enclave_runner.inputs.measure import MeasuredInput
from enclave_runner.inputs.references import Text
from enclave_runner.inputs.rows import Rows

CONFIG = b'[records]\nkey = "input:key"\n[[check]]\nname = "pii"\nkind = "patterns/v1"\n'
RECORDS = Records(
    name="rows", split="train", rows=1, bytes=3, digest=of_bytes(b"{}\n"), unread_bytes=0, files=()
)


def measured(folder: Path, **files: bytes) -> list[MeasuredInput]:
    """Return inputs that are files; `_` in a name stands for a hyphen."""
    inputs = []
    for key, data in sorted(files.items()):
        path = folder / key
        path.write_bytes(data)
        fact = read_file(path)
        inputs.append(
            MeasuredInput(
                name=key.replace("_", "-"),
                path=path,
                digest=Digest("sha256", fact.sha256),
                files={"": fact},
                stat_keys={},
            )
        )
    return inputs


def lockfile(inputs: list[MeasuredInput]) -> Lockfile:
    locked = tuple(
        LockedInput(name=one.name, source="path:a", uri="path:a", size=1, digest=one.digest)
        for one in inputs
    )
    return Lockfile(run="r", trainer="axolotl", outputs=("model",), inputs=locked, audits=("look",))


def test_an_audit_sees_its_inputs_by_its_own_names(tmp_path: Path) -> None:
    inputs = measured(tmp_path, config=b"x", look_config=CONFIG, look_key=bytes(32), rows=b"{}\n")
    (asked,) = gate.read(lockfile(inputs), inputs)
    assert asked.name == "look"
    assert {name: item.name for name, item in asked.inputs.items()} == {
        "config": "look-config", "key": "look-key",
    }  # fmt: skip
    assert gate.read(replace(lockfile(inputs), audits=()), inputs) == []


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"look_config": CONFIG}, "audit look: the audit's config names input key, which the run"),
        ({"look_config": CONFIG, "look_key": b"1"}, "audit look: .* is not a file of 32 bytes"),
        ({"look_config": b"x"}, "audit look: the audit's config is not TOML"),
        ({"look_config": bytes(1 << 15)}, "audit look: .* is larger than 16384 bytes"),
    ],
)
def test_what_an_audit_lacks_is_refused(
    tmp_path: Path, files: dict[str, bytes], reason: str
) -> None:
    inputs = measured(tmp_path, config=b"x", **files)
    with pytest.raises(ConfigError, match=reason):
        gate.read(lockfile(inputs), inputs)


def test_a_config_that_changed_is_refused(tmp_path: Path) -> None:
    inputs = measured(tmp_path, look_config=CONFIG, look_key=bytes(32))
    (tmp_path / "look_config").write_bytes(CONFIG + b"at-most = 9\n")
    with pytest.raises(ConfigError, match="audit look: the audit's config changed"):
        gate.read(lockfile(inputs), inputs)


def prepared(*records: Records) -> Rows:
    return Rows(shown={}, records=records, copied=0, columns={}, cpu_seconds=0.0)


def test_rows_that_audits_cannot_name_are_refused() -> None:
    gate.check_rows(prepared(RECORDS, replace(RECORDS, split="test")))
    with pytest.raises(ConfigError, match="reads no rows"):
        gate.check_rows(prepared())
    twice = replace(RECORDS, digest=of_bytes(b"other"))
    with pytest.raises(ConfigError, match="selects rows train twice"):
        gate.check_rows(prepared(RECORDS, twice))


def test_a_run_that_did_not_begin_names_its_audits_and_the_limit() -> None:
    digest = of_bytes(b"results")
    stopped = gate.Gate(
        results={"look": b"results", "more": None},
        exit_code="timeout",
        limit_hit="time",
        lines=("audit more: it ended with timeout",),
    )
    report = gate.report(stopped, prepared(RECORDS), [])
    assert report.audits == (("look", digest), ("more", None))
    assert (report.exit_code, report.values["limitHit"].data) == ("timeout", "time")
    assert report.records == (RECORDS,)


def text(data: bytes | Path | None, digest: Digest | None = None) -> Text:
    return Text(digest=digest or of_bytes(data if isinstance(data, bytes) else b""), data=data)


def test_texts_are_put_where_a_child_sees_them(tmp_path: Path) -> None:
    (tmp_path / "template").write_bytes(b"of a file")
    of_file = text(tmp_path / "template", of_bytes(b"of a file"))
    beside = [("a", text(b"one")), ("b", text(None)), ("c: d", of_file)]
    words = auditing._write_texts(beside, tmp_path / "beside")
    assert [(each.name, digest) for each, digest in words] == [
        ("a", of_bytes(b"one")), ("c: d", of_bytes(b"of a file")),
    ]  # fmt: skip
    written = sorted(path.read_bytes() for path in (tmp_path / "beside").iterdir())
    assert written == [b"of a file", b"one"]


def test_a_text_of_an_audit_is_named_apart_from_one_of_the_training(tmp_path: Path) -> None:
    """Both may call an input `model`; the training's own name for the audit's is `look-model`."""
    settings = CONFIG + b'[texts]\ninputs = ["input:model"]\n'
    inputs = measured(
        tmp_path, look_config=settings, look_key=bytes(32), look_model=b"one", model=b"two"
    )
    (asked,) = gate.read(lockfile(inputs), inputs)
    training = [("model", text(b"two"))]
    beside = [*auditing.texts_of(asked.settings, asked.inputs), *training]
    words = auditing._write_texts(beside, tmp_path / "beside")
    assert [(each.name, digest) for each, digest in words] == [
        ("look-model", of_bytes(b"one")), ("model", of_bytes(b"two")),
    ]  # fmt: skip


@pytest.mark.parametrize("names", [("a", "a"), (" a",), ("\u00e9",)])
def test_texts_that_cannot_be_told_apart_are_refused(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigError, match="a text cannot be named like this, or two are"):
        auditing._write_texts([(name, text(b"x")) for name in names], tmp_path / "beside")


def test_a_text_that_changed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LockError, match="changed while it was read"):
        auditing._write_texts([("a", text(b"x", of_bytes(b"y")))], tmp_path / "beside")


def test_results_that_name_another_text_are_not_taken(tmp_path: Path) -> None:
    inputs = {one.name: one for one in measured(tmp_path, config=CONFIG, key=bytes(32))}
    settings = config.parse(CONFIG)
    audit = Audit(settings, bytes(32), {})
    reading = audit.reading("rows", "train")
    reading.feed(b"{}\n")
    reading.fact(0)
    assert audit.look_at_text("a", b"one", is_json=False)
    whole = audit.results()
    path = tmp_path / "results.json"
    path.write_bytes(results.emit(whole))
    words = auditing._write_texts([("a", text(b"one"))], tmp_path / "beside")
    assert auditing._taken(path, settings, inputs, (RECORDS,), words) == path.read_bytes()
    (beside,) = whole.texts
    for other in (replace(beside, name="b"), replace(beside, digest=of_bytes(b"two"))):
        assert isinstance(other, BesideFact)
        path.write_bytes(results.emit(replace(whole, texts=(other,))))
        with pytest.raises(LockError, match="name a text that the run does not have"):
            auditing._taken(path, settings, inputs, (RECORDS,), words)
