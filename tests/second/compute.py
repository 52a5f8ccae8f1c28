"""The second verifier's view of a run's compute (compute.md).

Written from docs/spec/ alone; shares no code with `aicert`. `run` is an Appraisal.
"""

from datetime import date
from typing import Any

from tests.second import audits
from tests.second.chain import OpenError, need
from tests.second.checks import NotAskedError


def check(run: Any) -> None:
    """Decide the check policy.compute."""
    demand = run.asked.policy.get("compute")
    if demand is None:
        raise NotAskedError
    if not _is_derived(run):
        run._kind("axolotl")
    if not _is_reviewed(run):
        raise OpenError
    inputs = _weights if demand.get("lineage") == "sum" else _changed
    before = _makers(run, inputs, set())
    runs = [run, *before]
    ceilings = [_ceiling(one) for one in runs]
    if None in ceilings:
        raise OpenError
    need(sum(one for one in ceilings if one is not None) <= demand["at-most"])


def check_own_count(run: Any) -> None:
    """Require that the trainer's own count is at most the ceiling (part of outputs.trained)."""
    most, own = _ceiling(run), run.statement.report["values"].get("flops", {}).get("value")
    if most is not None and type(own) in (int, float) and _is_reviewed(run):
        need(own <= most)


def _measured(run: Any, key: str) -> Any:
    """Return a measured value of the report; None if code of an input may have run, because then
    nothing counts as measured.
    """
    one = run.statement.report["values"].get(key, {})
    return one.get("value") if one.get("origin") == "measured" and not run.lock.code else None


def _ceiling(run: Any) -> float | None:
    processors, accelerators = (
        _measured(run, f"{unit}Count") for unit in ("processor", "accelerator")
    )
    if run.seconds is None or type(processors) is not int or type(accelerators) is not int:
        return None
    if processors < 1 or accelerators < 0:
        return None
    caps = run.asked.policy.get("compute", {})
    speed = processors * caps.get("processor", 1e13) + accelerators * caps.get("accelerator", 2e16)
    return float(run.seconds * 1.2 * speed)


def _is_reviewed(run: Any) -> bool:
    reviewed = run.asked.policy.get("compute", {}).get("reviewed", "2026-11-28")
    then = run.existed or run.asked.at
    return bool((then.date() - date.fromisoformat(reviewed)).days <= 365)


def _makers(run: Any, inputs: Any, met: set[str]) -> list[Any]:
    """Return the runs that made these inputs of the run, and of those runs, each certificate
    once.
    """
    runs = []
    for name in inputs(run):
        older = _maker(run, name)
        if older.document["envelope"]["payload"] not in met:
            met.add(older.document["envelope"]["payload"])
            runs += [older, *_makers(older, inputs, met)]
    return runs


def _weights(run: Any) -> list[str]:
    """Return the inputs whose weights the run's trainer read."""
    names = _measured(run, "weightInputs")
    if not isinstance(names, str):
        raise OpenError
    return names.split(", ") if names else []


def _is_derived(run: Any) -> bool:
    return bool(run.lock and run.lock.trainer in audits.DERIVED)


def _changed(run: Any) -> list[str]:
    """Return the inputs that were merged, quantised or converted; nothing for other runs."""
    if not _is_derived(run):
        return []
    values = run.statement.report["values"]
    keys = [key for key in values if key[:12] == "adapterInput" or key[:10] == "modelInput"]
    if not keys:
        raise OpenError
    return [str(values[key]["value"]).split("/")[0] for key in keys]


def _maker(run: Any, name: str) -> Any:
    sources = {name: (source, digest) for name, source, _, digest in run.lock.inputs}
    source, digest = sources.get(name, ("", ""))
    older = run.before.get((*source[4:].split("/", 1), digest))
    if older is None:
        raise OpenError
    return older
