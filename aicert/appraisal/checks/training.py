"""Appraise what training read and what it did, from the machine's own report.

A merge, a quantisation or a conversion trains nothing: outputs.derived is the check for it.
Certificates of version 1 say nothing about rows and loss: for them inputs.records is not
applicable, and outputs.trained uses the fields that version 1 has (docs/spec/run-report.md).
"""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from aicert.appraisal.checklist import Checklist, NotApplicableError
from aicert.appraisal.checks.kinds import BASE_INPUT, DERIVED, check_kind, derived_inputs, kind_of
from aicert.appraisal.checks.run import VerifiedRun
from aicert.appraisal.policy import Policy
from aicert.errors import EvidenceError, UndecidedError
from aicert.formats.digest import Digest
from aicert.formats.known_tasks import ROWS_OF_IMAGE
from aicert.formats.lockfile import CONFIG_INPUT, input_code
from aicert.formats.run_report_facts import Records
from aicert.text import counted

if TYPE_CHECKING:
    from aicert.appraisal.evidence.ceiling import Compute

# Keys of the run report that show that training happened (docs/spec/run-report.md).
STEPS, TOKENS, LOSSES = "steps", "tokens", "losses"
# Keys that count the outputs' tensors which are in no input, under an input's name or a new one;
# and those which are in an input.
CHANGED, NEW, UNCHANGED = "tensorsChanged", "tensorsNew", "tensorsUnchanged"
UNREAD = "weightsUnread"
# Key of the base model's name in an adapter's config.
ADAPTER_BASE = "adapterBase"
WEIGHTS_SUFFIX = ".safetensors"
# The one file that a conversion makes (docs/spec/convert.md).
CONVERTED = "model.gguf"
SHOWN = 5
# The bytes of the shortest row: `{}` and the end of the line.
LEAST_ROW = 3
# How many of the trainer's last losses are used. Each comes from one batch or a few, and one alone
# says little (run-report.md).
LAST_LOSSES = 8
# How much better than the base, in nats per token and as a share of the base's loss, the trainer
# must claim to be before it can be contradicted; and which share of that must be measured. The
# share is small, since the last batches may be from one easy data set among several.
LEAST_CLAIM, LEAST_CLAIM_SHARE, LEAST_MEASURED_SHARE = 1.0, 0.25, 0.1
# Only diverged weights give the output such a loss: a token chosen at random from a million costs
# 14 nats, and a token whose loss is not a number counts as 100. Trainers report 0 for such steps.
DIVERGED = 50.0
# By how much the output may fit the sample better than any of the trainer's last losses.
MOST_BETTER, MOST_BETTER_SHARE = 1.0, 0.5


def appraise_training(
    checklist: Checklist, run: VerifiedRun | None, policy: Policy, then: datetime
) -> None:
    """Decide inputs.records, outputs.trained and outputs.derived.

    `then`: the latest time at which the run can have ended.
    """

    def trained(given: VerifiedRun) -> tuple[str, None]:
        lines, compute = _trained(given), compute_of(given, policy)
        return "\n".join([*lines, *(() if compute is None else compute.compared(then))]), None

    checklist.step("inputs.records", _records, run, "statement.form")
    checklist.step("outputs.trained", trained, run, "statement.form")
    checklist.step("outputs.derived", _derived, run, "statement.form")


def compute_of(run: VerifiedRun, policy: Policy) -> "Compute | None":
    """Return what is known about a run's compute; None if its machine counted no processors."""
    if run.report.compute.processors is None:
        return None
    from aicert.appraisal.evidence.compute import of_run

    return of_run(run, policy)


def _records(run: VerifiedRun) -> tuple[str, None]:
    report = run.report
    if report.version == 1:
        raise NotApplicableError("a run report of version 1 does not say which rows were read")
    locked = {item.name: item.digest for item in run.lockfile.inputs if item.name != CONFIG_INPUT}
    seen = set()
    own = ROWS_OF_IMAGE.get(run.statement.trainer, frozenset())
    for item in report.records:
        if item.name in locked or item not in own:
            _check_records(item, locked)
        if item in seen:
            raise EvidenceError(f"rows of {item.name} {item.split} are counted twice")
        seen.add(item)
    for text in report.removed:
        if text.partition(": ")[0].partition("/")[0] not in locked:
            raise EvidenceError(f"what was removed belongs to no input: {text[:200]!a}")
    total = counted(sum(item.rows for item in report.records), "row")
    lines = [
        f"{item.name} {item.split}: {counted(item.rows, 'row')}, {item.digest}"
        for item in report.records
    ]
    more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    tasks = "" if {item.name for item in seen} <= locked.keys() else " or tasks of the image"
    read = f"{total} read, all from inputs in the lockfile{tasks} (counted in the machine)"
    return "\n".join([read, *lines[:SHOWN], *more]), None


def _check_records(item: Records, locked: Mapping[str, Digest]) -> None:
    if item.name not in locked:
        raise EvidenceError(
            f"the report claims rows of {item.name}, which is not an input that can hold rows"
        )
    if item.rows < 1 or item.bytes < LEAST_ROW * item.rows:
        where = f"{counted(item.rows, 'row')} of {item.name} {item.split}"
        raise EvidenceError(f"{where} cannot take {item.bytes} bytes")
    is_file = locked[item.name].kind == "sha256"
    if is_file and item.files:
        raise EvidenceError(f"input {item.name} is one file, but its rows name files in it")
    if not is_file and not item.files:
        raise EvidenceError(f"input {item.name} is a directory, but its rows name no file")


def _trained(run: VerifiedRun) -> list[str]:
    """Check that a training took steps and changed weights; return the lines that describe it.

    An exit code of 0 is not enough: the outputs must contain weights that were in no input. A new
    header alone makes a different file with the same weights, so tensors are compared. Tokens do
    not count: Transformers counts none for rows that hold several texts.
    """
    check_kind(run, "train")
    steps = run.report.number(STEPS)
    if steps is None or not steps > 0:
        raise EvidenceError(f"the run report counts no {STEPS}: {steps}")
    if run.report.unchanged_weights:
        unchanged = ", ".join(run.report.unchanged_weights[:3])
        raise EvidenceError(f"weights are unchanged from an input: {unchanged[:200]!a}")
    locked = {item.digest for item in run.lockfile.inputs}
    weights = 0
    for name, output in run.statement.outputs.items():
        if output.digest in locked:
            raise EvidenceError(f"output {name} is one of the inputs, unchanged")
        for path, digest in output.files.items():
            # Files that are not weights may be an input's: a chat template, or a tokenizer.
            if not path.endswith(WEIGHTS_SUFFIX):
                continue
            if Digest("sha256", digest) in locked:
                raise EvidenceError(f"output file {name}/{path} is one of the inputs, unchanged")
            weights += 1
    if not weights:
        raise EvidenceError(f"no output file is named *{WEIGHTS_SUFFIX}")
    origin = run.report.values[STEPS].origin
    shared = f", in {run.lockfile.ranks} processes" if run.lockfile.ranks > 1 else ""
    first_line = f"{steps} {STEPS} ({origin}), {_tokens(run)}{shared}"
    lines = [first_line, f"{counted(weights, 'weight file')}: {_compared(run)}"]
    lines += [f"audit {name} held, results {digest}" for name, digest in run.report.audits]
    if run.report.version > 1:
        lines += [*_base(run), *_fit(run)]
    return lines


def _derived(run: VerifiedRun) -> tuple[str, None]:
    """Check a run of a kind in DERIVED: its weights differ from the inputs' and come from all
    models among them, and from nothing else. Only a quantisation may read rows, and adds tensors:
    scales.
    """
    check_kind(run, "merge", "quantise", "convert")
    kind, what = kind_of(run), DERIVED[kind_of(run)]
    if run.report.loss is not None or (run.report.records and kind != "quantise"):
        raise EvidenceError(f"{what} trains on no rows, but its report mentions some")
    if run.report.number(NEW) and kind != "quantise":
        raise EvidenceError(f"{what} makes no tensors that its models do not have")
    files = [list(output.files) for output in run.statement.outputs.values()]
    if kind == "convert" and files != [[CONVERTED]]:
        raise EvidenceError(f"{what} makes {CONVERTED}, and nothing else")
    compared = f"{what}, nothing was trained: {_compared(run)}"
    return "\n".join([compared, *derived_inputs(run)]), None


def _tokens(run: VerifiedRun) -> str:
    """Return, in words, the tokens that the trainer counted.

    For some kinds of training (ORPO) it counts none.
    """
    tokens = run.report.number(TOKENS)
    if tokens is None or not tokens > 0:
        return f"no {TOKENS} counted"
    return f"{tokens} {TOKENS} ({run.report.values[TOKENS].origin})"


def _compared(run: VerifiedRun) -> str:
    # Nothing is measured if an input's code ran too (`checks/run.py`).
    origin = "self-reported" if input_code(run.lockfile) else "measured"
    counts = {}
    for key in (CHANGED, NEW, UNCHANGED):
        value, number = run.report.values.get(key), run.report.number(key)
        if value is None or number is None or value.origin != origin or number < 0:
            raise EvidenceError(f"the run report has no {origin} number {key}")
        counts[key] = number
    unread = run.report.values.get(UNREAD)
    if unread is not None:
        raise EvidenceError(
            "the machine could not read some output weights, so it is unknown whether they changed"
            f"\n{str(unread.data)[:200]!a}"
        )
    if not counts[CHANGED] + counts[NEW]:
        raise EvidenceError(f"no tensor changed: all {counts[UNCHANGED]} are in the inputs")
    return f"{counts[CHANGED]} tensors changed, {counts[NEW]} new, {counts[UNCHANGED]} unchanged"


def _base(run: VerifiedRun) -> list[str]:
    """Return, for an adapter, the base that it names for loaders, and the base it was
    trained on.
    """
    named, base = (run.report.values.get(key) for key in (ADAPTER_BASE, BASE_INPUT))
    if named is None or base is None:
        return []
    digests = {item.name: item.digest for item in run.lockfile.inputs}
    digest = digests.get(str(base.data).partition("/")[0], "which is not an input")
    name = f"{str(named.data)[:200]!a} (claimed)" if named.data else "none"
    return [f"base that the adapter names: {name}; trained on {str(base.data)[:200]!a}, {digest}"]


def _fit(run: VerifiedRun) -> list[str]:
    """Return the losses measured on base and output, and those that the trainer itself reports.

    Raises EvidenceError if they contradict each other, UndecidedError if they were not measured.
    """
    loss = run.report.loss
    if loss is None or loss.state == "incomplete":
        reason = "the run report has none" if loss is None else f"{loss.reason!a}"
        raise UndecidedError(f"the loss of base and output was not measured: {reason}")
    if loss.state == "measured" and not run.report.records:
        raise EvidenceError("a loss was measured on rows, but the run report counts none")
    if loss.before is None or loss.after is None:
        return [f"loss not measured: {loss.reason!a}"]
    own = _own_losses(run)
    measured = f"{loss.before:.4g} before, {loss.after:.4g} after"
    if loss.comparable and own and loss.after < DIVERGED:
        _check_contradiction(loss.before, loss.after, own, measured)
    rows = counted(loss.rows, "row")
    last = "reports none" if not own else f"last reports {own[-1]:.4g} (self-reported)"
    other = "" if loss.comparable or not own else ", of a different kind, so not compared"
    return [
        f"loss per token on {rows} drawn after training: {measured} (measured)",
        f"the trainer itself {last}{other}",
        "this shows how well the output fits those rows, not that this training made it",
    ]


def _own_losses(run: VerifiedRun) -> tuple[float, ...]:
    value = run.report.values.get(LOSSES)
    return value.data if value is not None and isinstance(value.data, tuple) else ()


def _check_contradiction(before: float, after: float, own: tuple[float, ...], text: str) -> None:
    """Refuse losses that divergence, an early end or noise between batches cannot explain.

    One batch's loss may be low or high by chance: of the last few, the one that claims least is
    used.
    """
    last = own[-LAST_LOSSES:]
    claimed = before - max(last)
    is_large = claimed >= max(LEAST_CLAIM, LEAST_CLAIM_SHARE * before)
    if is_large and before - after < LEAST_MEASURED_SHARE * claimed:
        raise EvidenceError(
            "the output does not fit the rows as well as the trainer says\n"
            f"measured  {text}\nreported  {max(last):.4g} or less in the last {len(last)}"
        )
    least = min(last)
    if len(last) == LAST_LOSSES and least - after > max(MOST_BETTER, MOST_BETTER_SHARE * least):
        raise EvidenceError(
            "the output fits the rows far better than the trainer's last losses say\n"
            f"measured  {text}\nreported  {least:.4g} or more in the last {len(last)}"
        )
