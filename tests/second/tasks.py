"""The second verifier on results of lm-eval: version 2, from docs/spec/lm-eval.md alone."""

from collections.abc import Mapping
from typing import Any

from tests.second import forms, known_tasks
from tests.second.chain import need
from tests.second.limits import limits

Record = Mapping[str, Any]
LIMITS = limits("lm-eval.md")
LABEL = forms.like("[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
FILTER = forms.like("[a-z0-9][a-z0-9_.-]{0,63}")
# The metrics of each output type; whether they are shares of the samples.
METRICS = {
    "multiple_choice": {"acc": True, "acc_norm": True, "acc_bytes": True},
    "loglikelihood": {"acc": True, "perplexity": False},
    "loglikelihood_rolling": dict.fromkeys(
        ("word_perplexity", "byte_perplexity", "bits_per_byte"), False
    ),
    "generate_until": {"exact_match": True},
}


def _number(value: Any) -> bool:
    return type(value) is float and value >= 0


PLACE = {"name": forms.like(forms.NAME), "split": forms.text(64)}
METRIC: Any = {"name": LABEL, "filter": FILTER, "value": _number, "stderr?": _number}
TASK: Any = {
    "name": LABEL,
    "digest": forms.like(f"(sha256|dirHash):{forms.HEX}"),
    "kind": lambda value: value in METRICS,
    "rows": PLACE,
    "examples?": PLACE,
    "fewShot": forms.count(0),
    "samples": forms.count(1),
    "metrics": [METRIC, 1, LIMITS["metrics of a task"]],
}


def form(shared: Mapping[str, Any]) -> Any:
    """Return the form of version 2. `shared`: the form of the keys that version 1 has too."""
    return {
        **shared,
        "version": 2,
        "tasks": [TASK, 1, LIMITS["tasks"]],
        "limit?": forms.count(1),
        "seed": forms.count(0),
        "batchSize": forms.count(1),
        "chatTemplate": lambda value: type(value) is bool,
    }


def check(document: Record) -> None:
    rows = {(one["name"], one["split"]): one for one in document["data"]}
    names = [task["name"] for task in document["tasks"]]
    need(len(set(names)) == len(names))
    need(document["batchSize"] <= LIMITS["rows of a batch"])
    read = set()
    for task in document["tasks"]:
        places = [_place(task[key]) for key in ("rows", "examples") if key in task]
        read |= set(places)
        need(places[0] in rows)
        own = rows[places[0]]["rows"]
        need(task["samples"] == min(document.get("limit", own), own))
        need(task["fewShot"] <= LIMITS["few-shot examples"])
        keys = [(one["name"], one["filter"]) for one in task["metrics"]]
        need(keys == sorted(set(keys)))
        for metric in task["metrics"]:
            need(metric["name"] in METRICS[task["kind"]])
            share = METRICS[task["kind"]][metric["name"]]
            need(not share or metric["value"] <= 1)
            need(("stderr" in metric) == (share and task["samples"] > 1))
            need(metric.get("stderr", 0) <= 1)
        need(known_tasks.is_possible(document, task, rows[places[0]]))
    need(read == set(rows))


def _place(value: Record) -> tuple[str, str]:
    return value["name"], value["split"]


def numbers(document: Record) -> list[Record]:
    """Return the metrics of the results, each as a policy can demand it."""
    return [
        {
            "task": task["digest"],
            "metric": _key(metric),
            "value": metric["value"],
            "samples": task["samples"],
            "templateTokens": 0,
        }
        for task in document["tasks"]
        for metric in task["metrics"]
    ]


def _key(metric: Record) -> str:
    return metric["name"] if metric["filter"] == "none" else f"{metric['name']},{metric['filter']}"
