"""Attacks on the statement and on the inputs that were measured before training."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives import hashes

from aicert.formats.digest import Digest
from aicert.formats.lockfile import Lockfile, audit_input
from aicert.formats.measurement import replay
from aicert.formats.statement import Statement
from tests.adversarial.attacks import Attack
from tests.adversarial.ca_forge import ec_key, ecdsa
from tests.adversarial.forger import Scene, hex_of

Change = Callable[[Scene], object]
HANGUL_FILLER = "model\u3164.safetensors"
NOT_NFC = "cafe\u0301.json"
TWIN_CASE = "Config.json"
FOLDS = "\ufdfa" * 20 + ".json"
SIGNER = "p256:02" + hex_of(b"signer")
OTHER_SIGNER = "p256:03" + hex_of(b"signer")


def bare_signature(scene: Scene) -> None:
    """Sign the payload without its type, which is what DSSE exists to prevent."""
    scene.put("dsse", scene.run_key.sign(scene.get("payload"), ecdsa(hashes.SHA256())))


def statement_with(**changes: Any) -> Change:
    return lambda s: s.edit("statement", lambda statement: replace(statement, **changes))


def payload(change: Callable[[bytes], bytes]) -> Change:
    return lambda s: s.edit("payload", change)


def json_edit(change: Callable[[Any], None]) -> Change:
    return lambda s: s.edit_json(change)


def subject(change: Callable[[list[Any]], None]) -> Change:
    return json_edit(lambda document: change(document["subject"]))


def renamed_to(path: str) -> Change:
    return subject(lambda entries: entries[1].update(name=f"model/{path}"))


def twin(path: str) -> Change:
    entry = {"name": f"model/{path}", "digest": {"sha256": hex_of(b"twin")}}
    return subject(lambda entries: entries.append(entry))


def dependency_digest(scene: Scene) -> None:
    def change(statement: Statement) -> Statement:
        first, *rest = statement.dependencies
        wrong = replace(first, digest=Digest("dirHash", "12" * 32))
        return replace(statement, dependencies=(wrong, *rest))

    scene.edit("statement", change)


def dependencies_reordered(scene: Scene) -> None:
    scene.edit(
        "statement",
        lambda statement: replace(statement, dependencies=tuple(reversed(statement.dependencies))),
    )


def dependency_missing(scene: Scene) -> None:
    scene.edit(
        "statement", lambda statement: replace(statement, dependencies=statement.dependencies[1:])
    )


def lockfile_text(change: Callable[[bytes], bytes]) -> Change:
    """Change the lockfile's bytes; the changed bytes are measured and named."""
    return lambda s: s.edit("lockfile_bytes", change)


def signers(locked: bool, reported: tuple[tuple[str, str], ...]) -> Change:
    """Lock the last input as signed by a key, and report whose signatures the machine verified."""

    def change(scene: Scene) -> None:
        def edited(lockfile: Lockfile) -> Lockfile:
            *others, last = lockfile.inputs
            return replace(lockfile, inputs=(*others, replace(last, signed_by=SIGNER)))

        if locked:
            scene.edit("lockfile", edited)
        scene.edit("report", lambda report: replace(report, signers=reported))

    return change


def audits(locked: tuple[str, ...], reported: tuple[str, ...]) -> Change:
    """Name audits before the training in the lockfile, and report the audits that were made."""

    def change(scene: Scene) -> None:
        def edited(lockfile: Lockfile) -> Lockfile:
            config = lockfile.input("config")
            configs = [replace(config, name=audit_input(name, "config")) for name in locked]
            inputs = sorted((*lockfile.inputs, *configs), key=lambda item: item.name)
            return replace(lockfile, audits=locked, inputs=tuple(inputs))

        scene.edit("lockfile", edited)
        results = tuple((name, Digest("sha256", hex_of(name.encode()))) for name in reported)
        scene.edit("report", lambda report: replace(report, audits=results))

    return change


def without_results(scene: Scene) -> None:
    """Let the run succeed after an audit that ended without results."""
    audits(("look",), ("look",))(scene)
    digest = f"sha256:{hex_of(b'look')}".encode()
    scene.edit("report_bytes", lambda data: data.replace(digest, b"none"))


def other_lockfile_attached(scene: Scene) -> None:
    """Measure another lockfile than the harmless one that every other part names."""
    events = scene.get("input_events")
    scene.put("input_events", [b"version = 1\n", *events[1:]])


def input_events(change: Callable[[list[bytes]], list[bytes]]) -> Change:
    return lambda s: s.edit("input_events", change)


def measured_elsewhere(scene: Scene) -> None:
    scene.set_pcr(15, scene.get("pcrs")[14]).set_pcr(14, bytes(32))


def empty_log(scene: Scene) -> None:
    """Extend no event and show an empty event log, which replays to that."""
    scene.set_pcr(14, bytes(32)).set_pcr(8, bytes(32)).edit_evidence(event_log=b"")


def missing_pin(scene: Scene) -> None:
    """Pin a revision that never existed; the machine measured an empty folder."""
    pin = "hf:org/famous-model@" + "0" * 40

    def pinned(locked: Lockfile) -> Lockfile:
        *others, last = locked.inputs
        return replace(locked, inputs=(*others, replace(last, source=pin, uri=pin)))

    scene.edit("lockfile", pinned)
    event = f"input model dirHash:{hex_of(b'')}\n".encode()
    input_events(lambda events: [*events[:3], event, *events[4:]])(scene)


def not_from_zero(index: int, events: str) -> Change:
    """Extend an event before the runner starts."""

    def change(scene: Scene) -> None:
        scene.set_pcr(index, replay([b"before\n", *scene.get(events)]))

    return change


ATTACKS = (
    Attack(
        "statement signed by another key",
        "statement.signature",
        lambda s: s.put("signer", ec_key("another run key")),
    ),
    Attack("statement signed without its type", "statement.signature", bare_signature),
    Attack("no signature", "statement.signature", lambda s: s.put("dsse", b"")),
    Attack("signature of garbage", "statement.signature", lambda s: s.put("dsse", b"\x30\x00")),
    Attack("statement's nonce differs", "statement.form", statement_with(nonce=b"\x01" * 32)),
    Attack(
        "statement names another lockfile",
        "statement.form",
        statement_with(lockfile=Digest("sha256", "00" * 32)),
    ),
    Attack(
        "statement names a directory as lockfile",
        "statement.form",
        json_edit(
            lambda d: d["predicate"]["buildDefinition"]["externalParameters"].update(
                lockfile="dirHash:" + "00" * 32
            )
        ),
    ),
    Attack("statement's run differs", "statement.form", statement_with(run="famous-run")),
    Attack("run with terminal escapes", "statement.form", statement_with(run="x\x1b[2J\nPASSED")),
    Attack("statement's trainer differs", "statement.form", statement_with(trainer="other")),
    Attack("statement's input digest differs", "statement.form", dependency_digest),
    Attack("statement's inputs reordered", "statement.form", dependencies_reordered),
    Attack("statement leaves out an input", "statement.form", dependency_missing),
    Attack(
        "statement declares another output",
        "statement.form",
        json_edit(
            lambda d: d["predicate"]["buildDefinition"]["externalParameters"].update(outputs=[])
        ),
    ),
    Attack("signature of an input that no machine looked at", "statement.form", signers(True, ())),
    Attack(
        "input signed by another key than locked",
        "statement.form",
        signers(True, (("model", OTHER_SIGNER),)),
    ),
    Attack(
        "another input signed than the locked one",
        "statement.form",
        signers(True, (("alpaca", SIGNER),)),
    ),
    Attack(
        "signer of an input that the lockfile does not ask for",
        "statement.form",
        signers(False, (("model", SIGNER),)),
    ),
    Attack(
        "audit before the training that no machine made", "statement.form", audits(("look",), ())
    ),
    Attack(
        "one of two audits before the training",
        "statement.form",
        audits(("look", "more"), ("look",)),
    ),
    Attack("another audit than the lockfile names", "statement.form", audits(("look",), ("more",))),
    Attack("audit that no lockfile names", "statement.form", audits((), ("look",))),
    Attack("audit before the training without results", "statement.form", without_results),
    Attack(
        "run ends before it starts",
        "statement.form",
        statement_with(started="2026-10-31T11:00:00Z"),
    ),
    Attack(
        "time that no calendar has",
        "statement.form",
        statement_with(finished="2026-13-31T11:00:00Z"),
    ),
    Attack(
        "report under another digest",
        "statement.form",
        json_edit(
            lambda d: d["predicate"]["runDetails"]["byproducts"][0]["digest"].update(
                sha256="00" * 32
            )
        ),
    ),
    Attack(
        "key given twice",
        "statement.form",
        payload(lambda p: p.replace(b'{"_type"', b'{"_type":"x","_type"', 1)),
    ),
    Attack(
        "field that no check reads",
        "statement.form",
        json_edit(lambda d: d["predicate"].update(safe="yes")),
    ),
    Attack(
        "another statement type",
        "statement.form",
        json_edit(lambda d: d.update(_type="https://in-toto.io/Statement/v0.1")),
    ),
    Attack(
        "another predicate type",
        "statement.form",
        json_edit(lambda d: d.update(predicateType="https://slsa.dev/vsa/v1")),
    ),
    Attack(
        "another build type",
        "statement.form",
        json_edit(lambda d: d["predicate"]["buildDefinition"].update(buildType="x")),
    ),
    Attack("statement is no JSON", "statement.form", payload(lambda p: p[:-1])),
    Attack(
        "statement with a byte order mark", "statement.form", payload(lambda p: b"\xef\xbb\xbf" + p)
    ),
    Attack("statement in UTF-16", "statement.form", payload(lambda p: p.decode().encode("utf-16"))),
    Attack("statement nested without end", "statement.form", payload(lambda _: b"[" * 100_000)),
    Attack(
        "NaN in the statement",
        "statement.form",
        payload(lambda p: p.replace(b'"_type":', b'"n":NaN,"_type":', 1)),
    ),
    Attack(
        "number of a million digits",
        "statement.form",
        payload(lambda p: p.replace(b'"_type":', b'"n":' + b"9" * 10**6 + b',"_type":', 1)),
    ),
    Attack(
        "lone surrogate", "statement.form", payload(lambda p: p.replace(b'"tiny"', b'"\\ud800"'))
    ),
    Attack("path out of the output", "statement.form", renamed_to("../config.json")),
    Attack("absolute path", "statement.form", renamed_to("/etc/passwd")),
    Attack("NUL in a path", "statement.form", renamed_to("config\0.json")),
    Attack("terminal escape in a path", "statement.form", renamed_to("\x1b]0;PASSED\x07")),
    Attack("direction override in a path", "statement.form", renamed_to("nosj.\u202egifnoc")),
    Attack("path not in NFC", "statement.form", renamed_to(NOT_NFC)),
    Attack("letter that nothing shows", "statement.form", renamed_to(HANGUL_FILLER)),
    Attack("name that folds to eighteen times its length", "statement.form", renamed_to(FOLDS)),
    Attack("case twins", "statement.form", twin(TWIN_CASE)),
    Attack("file and folder of one name", "statement.form", twin("config.json/x")),
    Attack("file listed twice", "statement.form", twin("config.json")),
    Attack(
        "file as an output",
        "statement.form",
        subject(lambda e: e[0].update(digest={"sha256": "00" * 32})),
    ),
    Attack(
        "two digests for one file",
        "statement.form",
        subject(lambda e: e[1]["digest"].update(sha512="00" * 64)),
    ),
    Attack(
        "lockfile with an unknown key",
        "inputs.lockfile",
        lockfile_text(lambda t: t + b'note = "x"\n'),
    ),
    Attack(
        "lockfile with CRLF", "inputs.lockfile", lockfile_text(lambda t: t.replace(b"\n", b"\r\n"))
    ),
    Attack(
        "lockfile with a signer that is no key",
        "inputs.lockfile",
        lockfile_text(lambda t: t.replace(b"\nuri =", b'\nsigned-by = "someone"\nuri =', 1)),
    ),
    Attack(
        "lockfile with an audit that has no config",
        "inputs.lockfile",
        lockfile_text(lambda t: t.replace(b"]\n\n", b']\naudits = ["look"]\n\n', 1)),
    ),
    Attack("lockfile not canonical", "inputs.lockfile", lockfile_text(lambda t: t + b"\n")),
    Attack("lockfile is no TOML", "inputs.lockfile", lockfile_text(lambda _: b"[[")),
    Attack(
        "lockfile nested without end",
        "inputs.lockfile",
        lockfile_text(lambda _: b"a=" + b"[" * 5000),
    ),
    Attack(
        "another lockfile than the caller's",
        "inputs.lockfile",
        lambda s: setattr(s, "caller_lockfile", Digest("sha256", "00" * 32)),
    ),
    Attack("another lockfile attached", "inputs.pcr14", other_lockfile_attached),
    Attack("input not measured", "inputs.pcr14", input_events(lambda e: [*e[:1], *e[2:]])),
    Attack("inputs reordered", "inputs.pcr14", input_events(lambda e: [e[0], e[2], e[1], *e[3:]])),
    Attack(
        "input renamed",
        "inputs.pcr14",
        input_events(lambda e: [e[0], e[1].replace(b"alpaca", b"llama"), *e[2:]]),
    ),
    Attack(
        "file measured as a directory",
        "inputs.pcr14",
        input_events(lambda e: [*e[:2], e[2].replace(b"sha256:", b"dirHash:"), *e[3:]]),
    ),
    Attack(
        "other bytes than locked",
        "inputs.pcr14",
        input_events(lambda e: [e[0], e[1][:-3] + b"00\n", *e[2:]]),
    ),
    Attack("inputs not sealed", "inputs.pcr14", input_events(lambda e: e[:-1])),
    Attack(
        "input measured after the seal",
        "inputs.pcr14",
        input_events(lambda e: [*e, b"input more sha256:00\n"]),
    ),
    Attack("register 14 not from zero", "inputs.pcr14", not_from_zero(14, "input_events")),
    Attack("nothing measured at all", "inputs.pcr14", lambda s: s.set_pcr(14, bytes(32))),
    Attack(
        "empty log beside registers that were never extended",
        "inputs.pcr14",
        empty_log,
        also=("outputs.pcr8",),
    ),
    Attack("pin that does not exist", "inputs.pcr14", missing_pin),
    Attack("inputs measured in another register", "inputs.pcr14", measured_elsewhere),
)
