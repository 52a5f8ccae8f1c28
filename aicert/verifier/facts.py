"""What people are shown of the facts in a run report: rows, loss, texts, what was removed."""

from aicert.formats.run_report_facts import Facts
from aicert.text import MARGIN, safe

# Selections of rows, texts, what was removed: a run has a few of each.
SHOWN = 6


def fact_lines(facts: Facts | None) -> list[str]:
    """What the report says of rows, loss, texts and what was removed: some lines of each."""
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
    """What people are shown, each line with the word that it stands under; not escaped."""
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
