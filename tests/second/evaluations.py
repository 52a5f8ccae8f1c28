"""The second verifier on evaluations that a policy demands: from docs/spec/evaluation.md, and for
results of tasks from docs/spec/lm-eval.md.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.second import forms, known_tasks, tasks
from tests.second.chain import NoError, OpenError, need
from tests.second.limits import limits

Record = Mapping[str, Any]
MOST = limits("evaluation.md")["results"]


def _inside(value: Any) -> bool:
    forms.check_paths([value])
    return True


SHA256, ANY = forms.like(f"sha256:{forms.HEX}"), forms.like(f"(sha256|dirHash):{forms.HEX}")
WEIGHTS: Any = {
    "input": forms.like(forms.NAME),
    "digest": ANY,
    "inside?": _inside,
}
READ = {key: form for key, form in forms.RECORDS.items() if key != "files"}
READ["rows"] = forms.count(1)


def _loss(value: Any) -> bool:
    return type(value) is float and 0 <= value <= 100


SHARED: Any = {
    "about": {"base": WEIGHTS, "adapter?": WEIGHTS},
    "config": SHA256,
    "data": [READ, 0, forms.RUN["`records`"]],
}
RESULTS: Any = {
    **SHARED,
    "version": 1,
    "loss": _loss,
    "rows": forms.count(1),
    "leftOut": forms.count(0),
    "tokens": forms.count(1),
    "templateTokens": forms.count(0),
    "seed": forms.count(0),
    "sequenceLength": forms.count(1),
}


def canonical(document: object) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def counted(
    results: bytes,
    outputs: Mapping[str, str],
    report: Record,
    inputs: Mapping[str, str],
    trainer: str,
) -> Record | None:
    """Return the results if they are the only output, and describe the report's rows and these
    inputs; None if not.
    """
    files = {"results.json": hashlib.sha256(results).hexdigest()}
    try:
        need(list(outputs.values()) == [forms.dir_hash(files)])
        document: dict[str, Any] = forms.strict_json(results, MOST)
        forms.fit(document, RESULTS if trainer == "axolotl-evaluate" else tasks.form(SHARED))
        need(canonical(document) + b"\n" == results)
        _check_loss(document) if document["version"] == 1 else tasks.check(document)
        for weights in document["about"].values():
            need(inputs.get(weights["input"]) == weights["digest"])
        theirs = [{key: one[key] for key in READ} for one in report["records"]["value"]]
        need(document["data"] == sorted(theirs, key=lambda one: (one["name"], one["split"])))
    except NoError:
        return None
    return document


def _check_loss(document: Record) -> None:
    need(document["templateTokens"] <= document["tokens"])
    rows = sum(one["rows"] for one in document["data"])
    need(document["rows"] + document["leftOut"] == rows)


def _numbers(document: Record) -> list[Record]:
    """Return the metrics of the results, each as a policy can demand it."""
    if document["version"] == 2:
        return tasks.numbers(document)
    return [
        {
            "task": task_of(document),
            "metric": "loss",
            "value": document["loss"],
            "samples": document["rows"],
            "templateTokens": document["templateTokens"],
        }
    ]


def task_of(document: Record) -> str:
    """Return the digest of what was asked."""
    task = {"config": document["config"], "rows": [one["digest"] for one in document["data"]]}
    return f"sha256:{hashlib.sha256(canonical(task)).hexdigest()}"


def measured(
    demands: Sequence[Record],
    outputs: Sequence[str],
    evaluations: Sequence[Record],
    report: Record,
    inputs: Mapping[str, str],
) -> list[tuple[Record, Record]]:
    """Return each demand with each number that it is about; require one for each output."""
    pairs = []
    for output in outputs:
        for demand in demands:
            hits = [
                number
                for document in evaluations
                if _is_of(document["about"], output, report, inputs)
                for number in _numbers(document)
                if number["task"] == known_tasks.named(demand["task"])
                and number["metric"] == demand["metric"]
            ]
            need(bool(hits))
            pairs += [(demand, number) for number in hits]
    return pairs


def _is_of(about: Record, output: str, report: Record, inputs: Mapping[str, str]) -> bool:
    subject = about.get("adapter", about["base"])
    if subject["digest"] != output or "inside" in subject:
        return False
    if "adapter" not in about:
        return True
    named = report["values"].get("baseInput", {})
    if named.get("origin") != "measured":
        return False
    name, _, inside = str(named["value"]).partition("/")
    base = about["base"]
    return (base["digest"], base.get("inside", "")) == (inputs.get(name), inside)


def check_results(pairs: Sequence[tuple[Record, Record]]) -> None:
    is_open = False
    for demand, number in pairs:
        value, tokens = number["value"], number["templateTokens"]
        need(number["samples"] >= demand["samples-at-least"])
        need(demand.get("at-least", value) <= value <= demand.get("at-most", value))
        need(tokens <= demand.get("template-tokens", tokens))
        is_open = is_open or bool(tokens and "template-tokens" not in demand)
    if is_open:
        raise OpenError
