"""Show people the facts of a run report: rows, loss, texts, what was removed."""

from typing import TYPE_CHECKING

from aicert.formats.run_report_facts import Facts
from aicert.text import MARGIN, counted, safe

if TYPE_CHECKING:
    from aicert.appraisal.evidence.ceiling import Compute

# How many lines of one kind are shown: a run has a few selections of rows, texts and removed
# things.
SHOWN = 6


def fact_lines(facts: Facts | None) -> list[str]:
    """Return what the report says about rows, loss, texts and removed things: some lines
    of each.
    """
    shown: dict[str, list[str]] = {}
    for word, line in fact_items(facts):
        shown.setdefault(word, []).append(line)
    lines = []
    for word, items in shown.items():
        lines += [f"{word if not n else '':<10}{safe(one)}" for n, one in enumerate(items[:SHOWN])]
        if len(items) > SHOWN:
            lines.append(f"{MARGIN}and {len(items) - SHOWN} more")
    return lines


def fact_items(facts: Facts | None) -> list[tuple[str, str]]:
    """Return the lines about facts, each with the word under which it stands; not escaped."""
    if facts is None:
        return []
    shown = []
    for item in facts.records:
        unread = f", {item.unread_bytes} bytes of its files in no row" if item.unread_bytes else ""
        what = f"{item.name} {item.split}: {item.rows} rows{unread}"
        shown.append(("rows", f"{what}  {item.digest}"))
    loss = facts.loss
    if loss is not None and loss.before is not None and loss.after is not None:
        numbers = f"{loss.before:.4g} before, {loss.after:.4g} after"
        shown.append(("loss", f"{numbers}, per token of {loss.rows} rows (measured)"))
    elif loss is not None:
        shown.append(("loss", f"not measured: {loss.reason}"))
    if loss is not None and loss.template_share is not None:
        share = f"{loss.template_share:.1%} of {loss.tokens} tokens come from templates"
        shown.append(("text", f"{share}, not from rows (measured)"))
    shown += [("text", f"{name}  {digest}") for name, digest in facts.texts]
    shown += [("removed", text) for text in facts.removed]
    return shown


def compute_items(compute: "Compute | None") -> list[tuple[str, str]]:
    """Return how much a run computed, each number with its origin; not escaped."""
    if compute is None:
        return []
    facts = compute.facts
    counts = [
        counted(number, unit) if number is not None else f"{unit}s not counted"
        for number, unit in (
            (facts.processors, "processor"),
            (facts.accelerators, "accelerator"),
        )
    ]
    if facts.weight_inputs is not None:
        counts.append(f"weights of inputs: {', '.join(facts.weight_inputs) or 'none'}")
    most = ""
    if compute.ceiling is not None:
        # Checks decide whether these caps still held when the run ended.
        most = f"at most {compute.ceiling:.4g} FLOP, by caps of {compute.caps.reviewed}"
    own = f"{facts.flops:.4g} FLOP" if facts.flops is not None else "no FLOP counted"
    return [
        ("measured", ", ".join(counts)),
        ("derived", most or f"no ceiling: {compute.unknown}"),
        ("self-reported", own),
    ]


def compute_lines(compute: "Compute | None") -> list[str]:
    """Return `compute_items` as lines for a terminal."""
    return [
        f"{'compute' if not n else '':<10}{safe(line)} ({origin})"
        for n, (origin, line) in enumerate(compute_items(compute))
    ]


def epoch_items(compute: "Compute | None") -> list[tuple[str, str]]:
    """Return how often a run took its rows, each number with its origin; not escaped."""
    if compute is None:
        return []
    rows, own = compute.facts.counted, compute.facts.epochs
    shown = []
    if rows is not None:
        many = f"{rows.epochs:.6g} of {counted(rows.of, 'row')}, in {counted(rows.steps, 'step')}"
        shown.append(("in-trainer", f"at least {many}"))
    if own is not None:
        shown.append(("self-reported", f"{own:.6g}"))
    return shown


def epoch_lines(compute: "Compute | None") -> list[str]:
    """Return `epoch_items` as lines for a terminal."""
    return [
        f"{'epochs' if not n else '':<10}{line} ({origin})"
        for n, (origin, line) in enumerate(epoch_items(compute))
    ]


def epochs_json(compute: "Compute | None") -> dict[str, object] | None:
    """Return the epochs for JSON; None if nothing is known."""
    if compute is None:
        return None
    rows, own = compute.facts.counted, compute.facts.epochs
    names = ("epochs", "rows", "of", "steps")
    counts = None if rows is None else {name: getattr(rows, name) for name in names}
    return {"inTrainer": counts, "selfReported": own}


def compute_json(compute: "Compute | None") -> dict[str, object] | None:
    """Return the compute for JSON; None if the machine counted nothing."""
    if compute is None:
        return None
    facts, caps = compute.facts, compute.caps
    return {
        "processors": facts.processors,
        "accelerators": facts.accelerators,
        "weightInputs": None if facts.weight_inputs is None else list(facts.weight_inputs),
        "ceiling": compute.ceiling,
        "caps": {
            "processor": caps.processor,
            "accelerator": caps.accelerator,
            "reviewed": str(caps.reviewed),
        },
        "selfReported": facts.flops,
    }
