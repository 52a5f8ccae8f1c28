"""Results that are compared by a task's name: for `.eval_results/` and a card's `model-index`.

Only whole tasks of the image have such a name (docs/spec/known-tasks.md), and only evaluations
whose certificate passed are in `Verified`. An adapter's count if it was loaded on the base that it
was trained on. Where several evaluations of one output differ, the worst is exported.

Formats: https://huggingface.co/docs/hub/eval-results and, for `model-index`,
https://github.com/huggingface/hub-docs/blob/main/modelcard.md. Both are written as YAML whose texts
are JSON strings, which every YAML reader accepts.
"""

import json
import re
from collections.abc import Iterable, Mapping

from aicert.appraisal.checks.kinds import BASE_INPUT
from aicert.appraisal.result import below_vtpm
from aicert.errors import ConfigError
from aicert.exports.facts import Facts
from aicert.exports.verified import Verified
from aicert.formats import known_tasks
from aicert.formats.digest import Digest
from aicert.formats.evaluated_tasks import BY_DIGEST, HIGHEST, Metric, Task, TaskResults
from aicert.formats.known_tasks import KnownTask
from aicert.frozen import dataclass
from aicert.verifier.evidence import Evaluation

FOLDER = ".eval_results"
_PLACE = re.compile(
    r"([a-z0-9-]+)=([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@([0-9a-f]{40}))?", re.ASCII
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """Where somebody says that a task's rows lie on the hub; `commit` may be None."""

    name: str
    commit: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedResult:
    """A metric of a whole task of the image, by an evaluation of one output."""

    known: KnownTask
    measured: Task
    metric: Metric
    evaluation: Evaluation

    @property
    def described(self) -> str:
        """What a name and a number leave out, on one line."""
        error = "" if self.metric.stderr is None else f" ± {self.metric.stderr:.2g}"
        one = self.evaluation
        forged = ", so that its operator could have forged it" if below_vtpm(one.tier) else ""
        return (
            f"{self.metric.key}{error}, n = {self.measured.samples}, 0-shot, measured by a run "
            f"that aicert certified (tier {one.tier}{forged}): task {self.measured.digest}, "
            f"results {one.digest}"
        )


def data_sets(words: Iterable[str]) -> dict[str, DataSet]:
    """Read what `--eval-dataset` says, by task. Raises ConfigError."""
    places: dict[str, DataSet] = {}
    for word in words:
        match = _PLACE.fullmatch(word)
        if match is None or match[1] not in known_tasks.NAMES:
            raise ConfigError(
                f"no task of the image and its data set on the hub: {word[:200]!a}",
                hint=f"--eval-dataset {known_tasks.NAMES[0]}=ORGANISATION/NAME",
            )
        places[match[1]] = DataSet(name=match[2], commit=match[3])
    return places


def named_results(verified: Verified, output: str) -> list[NamedResult]:
    """Return the results on whole tasks of the image for one output, sorted by task and metric."""
    worst: dict[tuple[str, str], NamedResult] = {}
    for evaluation in verified.about_output(verified.facts.statement.outputs[output].digest):
        results = evaluation.results
        if not isinstance(results, TaskResults) or not _is_on_its_base(results, verified.facts):
            continue
        for task in results.tasks:
            known = BY_DIGEST.get(task.digest)
            if known is None:
                continue
            for metric in task.metrics:
                one = NamedResult(known=known, measured=task, metric=metric, evaluation=evaluation)
                key = (known.name, metric.key)
                if key not in worst or _is_worse(one, worst[key]):
                    worst[key] = one
    return [worst[key] for key in sorted(worst)]


def _is_worse(one: NamedResult, other: NamedResult) -> bool:
    more_is_better = HIGHEST[one.measured.kind][one.metric.name] == 1
    lower = one.metric.value < other.metric.value
    return lower if more_is_better else one.metric.value > other.metric.value


def _is_on_its_base(results: TaskResults, facts: Facts) -> bool:
    """Return whether an adapter was loaded on the base of its training."""
    if results.adapter is None:
        return True
    value = facts.log.get(BASE_INPUT)
    text = "" if value is None or value.origin != "measured" else str(value.data)
    name, _, inside = text.partition("/")
    digests: dict[str, Digest] = {item.name: item.digest for item in facts.lockfile.inputs}
    return (results.base.digest, results.base.inside) == (digests.get(name), inside)


def eval_results(results: Iterable[NamedResult], places: Mapping[str, DataSet]) -> dict[str, bytes]:
    """Return the files for `.eval_results/`, by path: one for each task with a data set there."""
    files: dict[str, list[str]] = {}
    for one in results:
        place = places.get(one.known.name)
        if place is None:
            continue
        lines = [
            "- dataset:",
            f"    id: {_text(place.name)}",
            f"    task_id: {_text(one.known.name)}",
        ]
        lines += [] if place.commit is None else [f"    revision: {_text(place.commit)}"]
        lines += [f"  value: {_number(one.metric.value)}", f"  notes: {_text(one.described)}"]
        files.setdefault(f"{FOLDER}/{one.known.name}.yaml", []).extend(lines)
    return {path: "".join(f"{each}\n" for each in lines).encode() for path, lines in files.items()}


def model_index(
    name: str, results: Iterable[NamedResult], places: Mapping[str, DataSet]
) -> list[str]:
    """Return the lines below a card's key `model-index`; none without results."""
    lines = [f"- name: {_text(name)}", "  results:"]
    for one in results:
        place = places.get(one.known.name)
        commit = None if place is None else place.commit
        lines += [
            "  - task:",
            "      type: text-generation",
            f"      name: {_text(one.known.name)}",
            "    dataset:",
            f"      type: {_text(one.known.name if place is None else place.name)}",
            f"      name: {_text(one.known.name)}",
            f"      split: {_text(one.known.rows.split)}",
            *([] if commit is None else [f"      revision: {_text(commit)}"]),
            "    metrics:",
            f"    - type: {_text(one.metric.name)}",
            f"      value: {_number(one.metric.value)}",
            f"      name: {_text(one.described)}",
        ]
    return lines if len(lines) > 2 else []


def _number(value: float) -> str:
    """Write a number in the form that YAML 1.1 reads as one: without an exponent."""
    text = repr(value)
    return f"{value:.20f}" if "e" in text else text


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
