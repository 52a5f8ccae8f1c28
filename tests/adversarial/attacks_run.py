"""Attacks on what was trained: statement, inputs, outputs, the model on disk, policy, lineage."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from aicert.digest import Digest, FileFact
from aicert.lockfile import Lockfile
from aicert.measurement import replay
from aicert.policy import Claim
from aicert.report_form import Value
from aicert.statement import Statement
from tests.adversarial.attacks import Attack
from tests.adversarial.ca_forge import ec_key
from tests.adversarial.forger import FILES, Scene, hex_of

Change = Callable[[Scene], object]


def bare_signature(scene: Scene) -> None:
    """Over the payload, without the payload's type: what DSSE exists to prevent."""
    scene.put("dsse", scene.run_key.sign(scene.get("payload"), ec.ECDSA(hashes.SHA256())))


def said(**changes: Any) -> Change:
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
    def change(made: Statement) -> Statement:
        first, *rest = made.dependencies
        wrong = replace(first, digest=Digest("dirHash", "12" * 32))
        return replace(made, dependencies=(wrong, *rest))

    scene.edit("statement", change)


def dependencies_reordered(scene: Scene) -> None:
    scene.edit(
        "statement", lambda made: replace(made, dependencies=tuple(reversed(made.dependencies)))
    )


def dependency_missing(scene: Scene) -> None:
    scene.edit("statement", lambda made: replace(made, dependencies=made.dependencies[1:]))


def lockfile_text(change: Callable[[bytes], bytes]) -> Change:
    """The lockfile's bytes, measured and named as changed."""
    return lambda s: s.edit("lockfile_bytes", change)


def other_lockfile_attached(scene: Scene) -> None:
    """Everything says the innocent lockfile; the machine measured another one."""
    events = scene.get("input_events")
    scene.put("input_events", [b"version = 1\n", *events[1:]])


def input_events(change: Callable[[list[bytes]], list[bytes]]) -> Change:
    return lambda s: s.edit("input_events", change)


def output_events(change: Callable[[list[bytes]], list[bytes]]) -> Change:
    return lambda s: s.edit("output_events", change)


def not_from_zero(index: int, events: str) -> Change:
    """Something was extended before the runner started."""

    def change(scene: Scene) -> None:
        scene.set_pcr(index, replay([b"before\n", *scene.get(events)]))

    return change


def measured_elsewhere(scene: Scene) -> None:
    scene.set_pcr(15, scene.get("pcrs")[14]).set_pcr(14, bytes(32))


def reported(**changes: Any) -> Change:
    return lambda s: s.edit("report", lambda report: replace(report, **changes))


def value(key: str, new: Value | None) -> Change:
    def change(scene: Scene) -> None:
        def edited(report: Any) -> Any:
            values = {k: v for k, v in report.values.items() if k != key}
            return replace(report, values=values | ({} if new is None else {key: new}))

        scene.edit("report", edited)

    return change


def hidden_exit(scene: Scene) -> None:
    """The machine measured that training failed; the statement says that it did not."""
    output_events(lambda events: [b"exit 1\n", *events[1:]])(scene)


def files(change: Callable[[dict[str, bytes]], dict[str, bytes]]) -> Change:
    return lambda s: s.edit("outputs", lambda outputs: {"model": change(outputs["model"])})


def other_output_measured(scene: Scene) -> None:
    digest = "dirHash:" + hex_of(b"another model")
    output_events(lambda e: [e[0], f"output model {digest}\n".encode(), *e[2:]])(scene)


def wrong_dir_hash(scene: Scene) -> None:
    """The dirHash of other files, measured as such, over an innocent list of files."""

    def change(made: Statement) -> Statement:
        output = replace(made.outputs["model"], digest=Digest("dirHash", "77" * 32))
        return replace(made, outputs={"model": output})

    scene.edit("statement", change)


def failed_as_success(scene: Scene) -> None:
    """A failed training with nothing taken, certified."""
    reported(exit_code="1")(scene)
    files(lambda _: {})(scene)


def input_as_output(kind: str) -> Change:
    def change(scene: Scene) -> None:
        if kind == "file":
            files(lambda f: f | {"extra.json": b"config"})(scene)
            return
        digest = scene.get("statement").outputs["model"].digest

        def edited(locked: Lockfile) -> Lockfile:
            *others, last = locked.inputs
            return replace(locked, inputs=(*others, replace(last, digest=digest)))

        scene.edit("lockfile", edited)

    return change


def model(change: Callable[[dict[str, FileFact]], dict[str, FileFact]]) -> Change:
    return lambda s: s.edit("model", change)


def fact(data: bytes) -> FileFact:
    return FileFact(len(data), hex_of(data))


def wants(*claims: Claim) -> Change:
    return lambda s: s.edit("policy", lambda policy: replace(policy, claims=claims))


def finished(time: str) -> Change:
    def change(scene: Scene) -> None:
        scene.caller_nonce = scene.get("nonce")
        scene.edit("statement", lambda made: replace(made, started=time, finished=time))
        scene.edit("policy", lambda policy: replace(policy, max_age_days=30))

    return change


def ancestor(change: Change, *, given: bool = True) -> Change:
    """The model came from another run, whose certificate is changed by `change`."""

    def edited(scene: Scene) -> None:
        older = Scene()
        older.edit("lockfile", lambda locked: replace(locked, run="base"))
        good = older.get("statement").outputs["model"].digest
        change(older)

        def from_run(locked: Lockfile) -> Lockfile:
            *others, last = locked.inputs
            source = "run:base/model"
            return replace(
                locked, inputs=(*others, replace(last, source=source, uri=source, digest=good))
            )

        # Otherwise the run's own output would be its input.
        files(lambda f: f | {"model.safetensors": b"trained further"})(scene)
        scene.edit("lockfile", from_run)
        scene.ancestors = [older.get("certificate")] if given else []

    return edited


FLOPS = Claim(name="totalFlops", at_most=1e12)
NOT_NFC = "cafe\u0301.json"
TWIN_CASE = "Config.json"

ATTACKS = (
    Attack("statement signed by another key", "statement.signature", lambda s: s.put("signer", ec_key("another run key"))),
    Attack("statement signed without its type", "statement.signature", bare_signature),
    Attack("no signature", "statement.signature", lambda s: s.put("dsse", b"")),
    Attack("signature of garbage", "statement.signature", lambda s: s.put("dsse", b"\x30\x00")),
    Attack("statement's nonce differs", "statement.form", said(nonce=b"\x01" * 32)),
    Attack("statement names another lockfile", "statement.form", said(lockfile=Digest("sha256", "00" * 32))),
    Attack("statement names a directory as lockfile", "statement.form", json_edit(lambda d: d["predicate"]["buildDefinition"]["externalParameters"].update(lockfile="dirHash:" + "00" * 32))),
    Attack("statement's run differs", "statement.form", said(run="famous-run")),
    Attack("run with terminal escapes", "statement.form", said(run="x\x1b[2J\nPASSED")),
    Attack("statement's trainer differs", "statement.form", said(trainer="other")),
    Attack("statement's input digest differs", "statement.form", dependency_digest),
    Attack("statement's inputs reordered", "statement.form", dependencies_reordered),
    Attack("statement leaves out an input", "statement.form", dependency_missing),
    Attack("statement declares another output", "statement.form", json_edit(lambda d: d["predicate"]["buildDefinition"]["externalParameters"].update(outputs=[]))),
    Attack("run ends before it starts", "statement.form", said(started="2026-10-31T11:00:00Z")),
    Attack("time that no calendar has", "statement.form", said(finished="2026-13-31T11:00:00Z")),
    Attack("report under another digest", "statement.form", json_edit(lambda d: d["predicate"]["runDetails"]["byproducts"][0]["digest"].update(sha256="00" * 32))),
    Attack("key given twice", "statement.form", payload(lambda p: p.replace(b'{"_type"', b'{"_type":"x","_type"', 1))),
    Attack("field that no check reads", "statement.form", json_edit(lambda d: d["predicate"].update(safe="yes"))),
    Attack("another statement type", "statement.form", json_edit(lambda d: d.update(_type="https://in-toto.io/Statement/v0.1"))),
    Attack("another predicate type", "statement.form", json_edit(lambda d: d.update(predicateType="https://slsa.dev/vsa/v1"))),
    Attack("another build type", "statement.form", json_edit(lambda d: d["predicate"]["buildDefinition"].update(buildType="x"))),
    Attack("statement is no JSON", "statement.form", payload(lambda p: p[:-1])),
    Attack("statement with a byte order mark", "statement.form", payload(lambda p: b"\xef\xbb\xbf" + p)),
    Attack("statement in UTF-16", "statement.form", payload(lambda p: p.decode().encode("utf-16"))),
    Attack("statement nested without end", "statement.form", payload(lambda _: b"[" * 100_000)),
    Attack("NaN in the statement", "statement.form", payload(lambda p: p.replace(b'"_type":', b'"n":NaN,"_type":', 1))),
    Attack("number of a million digits", "statement.form", payload(lambda p: p.replace(b'"_type":', b'"n":' + b"9" * 10**6 + b',"_type":', 1))),
    Attack("lone surrogate", "statement.form", payload(lambda p: p.replace(b'"tiny"', b'"\\ud800"'))),
    Attack("path out of the output", "statement.form", renamed_to("../config.json")),
    Attack("absolute path", "statement.form", renamed_to("/etc/passwd")),
    Attack("NUL in a path", "statement.form", renamed_to("config\0.json")),
    Attack("terminal escape in a path", "statement.form", renamed_to("\x1b]0;PASSED\x07")),
    Attack("direction override in a path", "statement.form", renamed_to("nosj.\u202egifnoc")),
    Attack("path not in NFC", "statement.form", renamed_to(NOT_NFC)),
    Attack("case twins", "statement.form", twin(TWIN_CASE)),
    Attack("file and folder of one name", "statement.form", twin("config.json/x")),
    Attack("file listed twice", "statement.form", twin("config.json")),
    Attack("file as an output", "statement.form", subject(lambda e: e[0].update(digest={"sha256": "00" * 32}))),
    Attack("two digests for one file", "statement.form", subject(lambda e: e[1]["digest"].update(sha512="00" * 64))),
    Attack("lockfile with an unknown key", "inputs.lockfile", lockfile_text(lambda t: t + b'note = "x"\n')),
    Attack("lockfile with CRLF", "inputs.lockfile", lockfile_text(lambda t: t.replace(b"\n", b"\r\n"))),
    Attack("lockfile not canonical", "inputs.lockfile", lockfile_text(lambda t: t + b"\n")),
    Attack("lockfile is no TOML", "inputs.lockfile", lockfile_text(lambda _: b"[[")),
    Attack("lockfile nested without end", "inputs.lockfile", lockfile_text(lambda _: b"a=" + b"[" * 5000)),
    Attack("another lockfile than the caller's", "inputs.lockfile", lambda s: setattr(s, "caller_lockfile", Digest("sha256", "00" * 32))),
    Attack("another lockfile attached", "inputs.pcr14", other_lockfile_attached),
    Attack("input not measured", "inputs.pcr14", input_events(lambda e: [*e[:1], *e[2:]])),
    Attack("inputs reordered", "inputs.pcr14", input_events(lambda e: [e[0], e[2], e[1], *e[3:]])),
    Attack("input renamed", "inputs.pcr14", input_events(lambda e: [e[0], e[1].replace(b"alpaca", b"llama"), *e[2:]])),
    Attack("file measured as a directory", "inputs.pcr14", input_events(lambda e: [*e[:2], e[2].replace(b"sha256:", b"dirHash:"), *e[3:]])),
    Attack("other bytes than locked", "inputs.pcr14", input_events(lambda e: [e[0], e[1][:-3] + b"00\n", *e[2:]])),
    Attack("inputs not sealed", "inputs.pcr14", input_events(lambda e: e[:-1])),
    Attack("input measured after the seal", "inputs.pcr14", input_events(lambda e: [*e, b"input more sha256:00\n"])),
    Attack("register 14 not from zero", "inputs.pcr14", not_from_zero(14, "input_events")),
    Attack("nothing measured at all", "inputs.pcr14", lambda s: s.set_pcr(14, bytes(32))),
    Attack("inputs measured in another register", "inputs.pcr14", measured_elsewhere),
    Attack("training failed", "outputs.exit", reported(exit_code="1")),
    Attack("training killed", "outputs.exit", reported(exit_code="signal:9")),
    Attack("training ran out of time", "outputs.exit", reported(exit_code="timeout")),
    Attack("failed training with nothing taken", "outputs.exit", failed_as_success),
    Attack("exit code hidden", "outputs.pcr8", hidden_exit),
    Attack("other outputs measured", "outputs.pcr8", other_output_measured),
    Attack("dirHash of other files", "outputs.pcr8", wrong_dir_hash),
    Attack("report exchanged", "outputs.pcr8", output_events(lambda e: [*e[:2], b"report sha256:" + b"0" * 64 + b"\n", *e[3:]])),
    Attack("output not measured", "outputs.pcr8", output_events(lambda e: [e[0], *e[2:]])),
    Attack("outputs not sealed", "outputs.pcr8", output_events(lambda e: e[:-1])),
    Attack("output measured after the seal", "outputs.pcr8", output_events(lambda e: [*e, b"output x\n"])),
    Attack("register 8 not from zero", "outputs.pcr8", not_from_zero(8, "output_events")),
    Attack("certificate of an empty archive", "outputs.nonempty", files(lambda _: {})),
    Attack("only empty files", "outputs.nonempty", files(lambda f: dict.fromkeys(f, b""))),
    Attack("no step was made", "outputs.trained", value("steps", Value("self-reported", 0))),
    Attack("no step is counted", "outputs.trained", value("steps", None)),
    Attack("steps are words", "outputs.trained", value("steps", Value("self-reported", "many"))),
    Attack("no token was seen", "outputs.trained", value("tokens", Value("measured", 0))),
    Attack("negative steps", "outputs.trained", value("steps", Value("self-reported", -1))),
    Attack("weights equal to the input's", "outputs.trained", reported(unchanged_weights=("model.safetensors",))),
    Attack("no weights", "outputs.trained", files(lambda f: {"config.json": f["config.json"]})),
    Attack("pickle instead of safetensors", "outputs.trained", files(lambda f: {"pytorch_model.bin": b"pickle"})),
    Attack("an input file as output", "outputs.trained", input_as_output("file")),
    Attack("an input directory as output", "outputs.trained", input_as_output("directory")),
    Attack("model file changed", "subject.files", model(lambda m: m | {"config.json": fact(b"{}")})),
    Attack("model file removed", "subject.files", model(lambda m: {k: v for k, v in m.items() if k != "tokenizer.json"})),
    Attack("model file added", "subject.files", model(lambda m: m | {"modeling_x.py": fact(b"code")})),
    Attack("model file renamed", "subject.files", model(lambda m: {("x" if k == "config.json" else k): v for k, v in m.items()})),
    Attack("no model at all", "subject.files", model(lambda _: {})),
    Attack("pickle beside the weights", "subject.files", model(lambda m: m | {"pytorch_model.bin": fact(b"x")})),
    Attack("code named like a licence", "subject.files", model(lambda m: m | {"LICENSE-x/modeling.py": fact(b"x")})),
    Attack("weights named like a licence", "subject.files", model(lambda m: m | {"LICENSE.safetensors": fact(b"x")})),
    Attack("readme in a folder", "subject.files", model(lambda m: m | {"x/README.md": fact(b"x")})),
    Attack("readme of another case", "subject.files", model(lambda m: m | {"readme.md": fact(b"x")})),
    Attack("more computation than allowed", "policy.claims", wants(FLOPS)),
    Attack("less computation than wanted", "policy.claims", wants(Claim(name="totalFlops", at_least=1e15))),
    Attack("self-reported where measured is wanted", "policy.claims", wants(Claim(name="steps", at_least=1))),
    Attack("value that the report lacks", "policy.claims", wants(Claim(name="energy", at_most=1))),
    Attack("too old by its own clock", "policy.age", finished("2025-01-01T00:00:00Z")),
    Attack("from the future by its own clock", "policy.age", finished("2027-01-01T00:00:00Z")),
    Attack("ancestor not certified", "lineage.ancestors", ancestor(lambda _: None, given=False)),
    Attack("ancestor failed", "lineage.ancestors", ancestor(reported(exit_code="1"))),
    Attack("ancestor gave something else", "lineage.ancestors", ancestor(files(lambda f: f | {"model.safetensors": b"?"}))),
    Attack("ancestor of another run", "lineage.ancestors", ancestor(lambda s: s.edit("lockfile", lambda k: replace(k, run="other")))),
    Attack("ancestor of another platform", "lineage.ancestors", ancestor(lambda s: s.put("chain", Scene("qemu").get("chain")))),
)  # fmt: skip

__all__ = ["ATTACKS", "FILES", "ancestor"]
