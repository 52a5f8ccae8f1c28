"""Decide whether an audit holds: whether its counts are within the bounds of its own config."""

from collections.abc import Iterator, Sequence

from aicert.audits.config import AuditConfig
from aicert.audits.results import Results
from aicert.text import safe


def beyond(config: AuditConfig, results: Results, texts: Sequence[str] = ()) -> list[str]:
    """Describe each count that is beyond its bound; the list is empty if the audit holds.

    `results` must come from this config: they have the same checks in the same order. `texts`: the
    names of all texts beside the rows, including those that the audit could not read.
    """
    over = [
        f"{what}: {number}, and {key} of its config is {most}"
        for what, key, number, most in _bounded(config, results, texts)
        if number > most
    ]
    return [*_without_entries(results), *over]


def _without_entries(results: Results) -> Iterator[str]:
    """Lists that nothing is compared with: no bound allows one, as 0 matches would say nothing."""
    for fact in results.checks:
        if fact.list is not None and fact.list.unusable == fact.list.entries:
            yield f"check {fact.name}: its list has no entry that can match"


def _bounded(
    config: AuditConfig, results: Results, texts: Sequence[str]
) -> Iterator[tuple[str, str, int, int]]:
    """Yield each count over all rows: what was counted, the bound's key, the count, the bound."""
    for place, (check, fact) in enumerate(zip(config.checks, results.checks, strict=True)):
        counts = [each.checks[place] for each in results.data]
        name = f"check {check.name}"
        matches = sum(each.matches for each in counts)
        in_texts = sum(number for _, number in results.matches(fact))
        missing = sum(each.missing for each in counts)
        unparsable = sum(each.unparsable for each in counts)
        what = "rows that match" if check.column else "rows and texts that match"
        yield f"{name}: {what}", "at-most", matches + in_texts, check.at_most
        yield f"{name}: rows without the column", "missing", missing, check.missing
        yield f"{name}: rows that cannot be read", "unparsable", unparsable, check.unparsable
        if fact.list is not None:
            what = f"{name}: entries of the list that cannot match"
            yield what, "unusable", fact.list.unusable, check.unusable
    unread = sum(each.unread_bytes for each in results.data)
    yield "bytes in no row", "unread-bytes", unread, config.unread_bytes
    read = {text.name for text in results.texts}
    left = [name for name in texts if name not in read]
    # A check of a column reads no text beside the rows.
    if left and any(check.column is None for check in config.checks):
        what = f"texts beside the rows that it cannot read, the first {safe(left[0])}"
        yield what, "unread-texts", len(left), config.unread_texts
