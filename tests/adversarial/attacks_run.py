"""Attacks on what was trained: outputs, the model on disk, the policy, and ancestors."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from aicert.appraisal.policy import Claim
from aicert.formats.digest import Digest, FileFact
from aicert.formats.lockfile import Lockfile
from aicert.formats.run_report import Value
from aicert.formats.statement import Statement
from tests.adversarial.attacks import Attack
from tests.adversarial.attacks_statement import not_from_zero
from tests.adversarial.forger import Scene, hex_of

Change = Callable[[Scene], object]
FLOPS = Claim(name="totalFlops", at_most=1e12)


def output_events(change: Callable[[list[bytes]], list[bytes]]) -> Change:
    return lambda s: s.edit("output_events", change)


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
    """Measure that training failed, and leave that out of the statement."""
    output_events(lambda events: [b"exit 1\n", *events[1:]])(scene)


def files(change: Callable[[dict[str, bytes]], dict[str, bytes]]) -> Change:
    return lambda s: s.edit("outputs", lambda outputs: {"model": change(outputs["model"])})


def other_output_measured(scene: Scene) -> None:
    digest = "dirHash:" + hex_of(b"another model")
    output_events(lambda e: [e[0], f"output model {digest}\n".encode(), *e[2:]])(scene)


def wrong_dir_hash(scene: Scene) -> None:
    """Measure the dirHash of other files, beside a list of harmless files."""

    def change(statement: Statement) -> Statement:
        output = replace(statement.outputs["model"], digest=Digest("dirHash", "77" * 32))
        return replace(statement, outputs={"model": output})

    scene.edit("statement", change)


def failed_as_success(scene: Scene) -> None:
    """Certify a training that failed and left no output."""
    reported(exit_code="1")(scene)
    files(lambda _: {})(scene)


def input_as_output(kind: str) -> Change:
    def change(scene: Scene) -> None:
        if kind == "file":
            files(lambda f: f | {"extra.safetensors": b"config"})(scene)
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


def tensors(changed: object, new: object = 0, origin: Any = "measured") -> Change:
    def change(scene: Scene) -> None:
        value("tensorsChanged", Value(origin, cast(Any, changed)))(scene)
        value("tensorsNew", Value("measured", cast(Any, new)))(scene)

    return change


def finished(time: str) -> Change:
    def change(scene: Scene) -> None:
        scene.caller_nonce = scene.get("nonce")
        scene.edit("statement", lambda statement: replace(statement, started=time, finished=time))
        scene.edit("policy", lambda policy: replace(policy, max_age_days=30))

    return change


def input_code(*, allow_remote_code: bool = False, allow_pickle: bool = False) -> Change:
    """Let the lockfile allow code that comes with the base model to run (lockfile.CODE_WORDS)."""

    def edited(locked: Lockfile) -> Lockfile:
        *others, last = locked.inputs
        item = replace(last, allow_remote_code=allow_remote_code, allow_pickle=allow_pickle)
        return replace(locked, inputs=(*others, item))

    return lambda scene: scene.edit("lockfile", edited)


def words(*allow: str) -> Change:
    """Let the policy allow such code."""
    return lambda s: s.edit("policy", lambda given: replace(given, allow=frozenset(allow)))


def beside_code_measured_is_said(scene: Scene) -> None:
    """Claim a measured number although the trainer ran code of an input."""
    input_code(allow_remote_code=True)(scene)
    words("remote-code")(scene)
    wants(Claim(name="totalFlops", at_least=1))(scene)


def ancestor(change: Change, *, given: bool = True, version: int = 1) -> Change:
    """Train on the output of another run, whose certificate `change` alters."""

    def edited(scene: Scene) -> None:
        older = Scene(version=version)
        older.edit("lockfile", lambda locked: replace(locked, run="base"))
        good = older.get("statement").outputs["model"].digest
        change(older)

        def from_run(locked: Lockfile) -> Lockfile:
            *others, last = locked.inputs
            source = "run:base/model"
            return replace(
                locked, inputs=(*others, replace(last, source=source, uri=source, digest=good))
            )

        # Without this the run's own output would also be its input.
        files(lambda f: f | {"model.safetensors": b"trained further"})(scene)
        scene.edit("lockfile", from_run)
        scene.ancestors = [older.get("certificate")] if given else []

    return edited


ATTACKS = (
    Attack("training failed", "outputs.exit", reported(exit_code="1")),
    Attack("training killed", "outputs.exit", reported(exit_code="signal:9")),
    Attack("training ran out of time", "outputs.exit", reported(exit_code="timeout")),
    Attack(
        "failed training with nothing taken",
        "outputs.exit",
        failed_as_success,
        also=("outputs.nonempty", "outputs.trained"),
    ),
    Attack("exit code hidden", "outputs.pcr8", hidden_exit),
    Attack("other outputs measured", "outputs.pcr8", other_output_measured),
    Attack("dirHash of other files", "outputs.pcr8", wrong_dir_hash),
    Attack(
        "report exchanged",
        "outputs.pcr8",
        output_events(lambda e: [*e[:2], b"report sha256:" + b"0" * 64 + b"\n", *e[3:]]),
    ),
    Attack("output not measured", "outputs.pcr8", output_events(lambda e: [e[0], *e[2:]])),
    Attack("outputs not sealed", "outputs.pcr8", output_events(lambda e: e[:-1])),
    Attack(
        "output measured after the seal",
        "outputs.pcr8",
        output_events(lambda e: [*e, b"output x\n"]),
    ),
    Attack("register 8 not from zero", "outputs.pcr8", not_from_zero(8, "output_events")),
    Attack(
        "certificate of an empty archive",
        "outputs.nonempty",
        files(lambda _: {}),
        also=("outputs.trained",),
    ),
    Attack("only empty files", "outputs.nonempty", files(lambda f: dict.fromkeys(f, b""))),
    Attack(
        "signature of an output that is none",
        "statement.form",
        reported(signatures=(("adapter", Digest("sha256", "ab" * 32)),)),
    ),
    Attack("no step was made", "outputs.trained", value("steps", Value("self-reported", 0))),
    Attack("no step is counted", "outputs.trained", value("steps", None)),
    Attack("steps are words", "outputs.trained", value("steps", Value("self-reported", "many"))),
    Attack("negative steps", "outputs.trained", value("steps", Value("self-reported", -1))),
    Attack(
        "weights equal to the input's",
        "outputs.trained",
        reported(unchanged_weights=("model.safetensors",)),
    ),
    Attack("the input's tensors behind another header", "outputs.trained", tensors(0)),
    Attack("fewer than no tensor changed", "outputs.trained", tensors(2, new=-1)),
    Attack("changed tensors in words", "outputs.trained", tensors("all")),
    Attack(
        "tensors compared by the trainer", "outputs.trained", tensors(21, origin="self-reported")
    ),
    Attack("tensors not compared", "outputs.trained", value("tensorsChanged", None)),
    Attack(
        "weights that the machine could not read",
        "outputs.trained",
        value("weightsUnread", Value("measured", "model.safetensors: cut short")),
    ),
    Attack("new tensors not counted", "outputs.trained", value("tensorsNew", None)),
    Attack("unchanged tensors not counted", "outputs.trained", value("tensorsUnchanged", None)),
    Attack("no weights", "outputs.trained", files(lambda f: {"config.json": f["config.json"]})),
    Attack(
        "pickle instead of safetensors",
        "outputs.trained",
        files(lambda f: {"pytorch_model.bin": b"pickle"}),
    ),
    Attack("an input file among the weights", "outputs.trained", input_as_output("file")),
    Attack("an input directory as output", "outputs.trained", input_as_output("directory")),
    Attack(
        "model file changed", "subject.files", model(lambda m: m | {"config.json": fact(b"{}")})
    ),
    Attack(
        "model file removed",
        "subject.files",
        model(lambda m: {k: v for k, v in m.items() if k != "tokenizer.json"}),
    ),
    Attack(
        "model file added", "subject.files", model(lambda m: m | {"modeling_x.py": fact(b"code")})
    ),
    Attack(
        "model file renamed",
        "subject.files",
        model(lambda m: {("x" if k == "config.json" else k): v for k, v in m.items()}),
    ),
    Attack("no model at all", "subject.files", model(lambda _: {})),
    Attack(
        "pickle beside the weights",
        "subject.files",
        model(lambda m: m | {"pytorch_model.bin": fact(b"x")}),
    ),
    Attack(
        "code named like a licence",
        "subject.files",
        model(lambda m: m | {"LICENSE-x/modeling.py": fact(b"x")}),
    ),
    Attack(
        "weights named like a licence",
        "subject.files",
        model(lambda m: m | {"LICENSE.safetensors": fact(b"x")}),
    ),
    Attack(
        "sentence named like a licence",
        "subject.files",
        model(lambda m: m | {"LICENSE-and all else was verified, too": fact(b"x")}),
    ),
    Attack("readme in a folder", "subject.files", model(lambda m: m | {"x/README.md": fact(b"x")})),
    Attack(
        "readme of another case", "subject.files", model(lambda m: m | {"readme.md": fact(b"x")})
    ),
    Attack("more computation than allowed", "policy.claims", wants(FLOPS)),
    Attack(
        "less computation than wanted",
        "policy.claims",
        wants(Claim(name="totalFlops", at_least=1e15)),
    ),
    Attack(
        "self-reported where measured is wanted",
        "policy.claims",
        wants(Claim(name="steps", at_least=1)),
    ),
    Attack("measured beside code of an input", "policy.claims", beside_code_measured_is_said),
    Attack("value that the report lacks", "policy.claims", wants(Claim(name="energy", at_most=1))),
    Attack("too old by its own clock", "policy.age", finished("2025-01-01T00:00:00Z")),
    Attack("from the future by its own clock", "policy.age", finished("2027-01-01T00:00:00Z")),
    Attack("from the last second that there is", "policy.age", finished("9999-12-31T23:59:59Z")),
    Attack("from the first second that there is", "policy.age", finished("0001-01-01T00:00:00Z")),
    Attack("ancestor not certified", "lineage.ancestors", ancestor(lambda _: None, given=False)),
    Attack("ancestor failed", "lineage.ancestors", ancestor(reported(exit_code="1"))),
    Attack(
        "ancestor gave something else",
        "lineage.ancestors",
        ancestor(files(lambda f: f | {"model.safetensors": b"?"})),
    ),
    Attack(
        "ancestor of another run",
        "lineage.ancestors",
        ancestor(lambda s: s.edit("lockfile", lambda k: replace(k, run="other"))),
    ),
    Attack(
        "ancestor of another platform",
        "lineage.ancestors",
        ancestor(lambda s: s.put("chain", Scene("qemu").get("chain"))),
    ),
)
