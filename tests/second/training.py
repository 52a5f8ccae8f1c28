"""The second verifier's checks of what version 2 of the run report adds (run-report.md).

Written from docs/spec/ alone; shares no code with `aicert`.
"""

from typing import Any

from tests.second import known_tasks
from tests.second.chain import need
from tests.second.forms import Lock


def check_records(report: Any, lock: Lock) -> None:
    kinds = {name: digest.partition(":")[0] for name, _, _, digest in lock.inputs}
    kinds.pop("config")
    selections = []
    for one in report["records"]["value"]:
        if one["name"] in kinds or lock.trainer != "lm-eval" or not known_tasks.is_of_image(one):
            need(one["name"] in kinds)
            need(one["rows"] > 0 and one["bytes"] >= 3 * one["rows"])
            need((kinds[one["name"]] == "sha256") == (one["files"] == []))
        selections.append(tuple(sorted((key, str(one[key])) for key in one)))
    need(len(set(selections)) == len(selections))
    for text in report["removed"]["value"]:
        need(text.split(": ")[0].split("/")[0] in kinds)


def is_measured(report: Any) -> bool:
    """Whether the loss was measured or is not needed. A contradiction is an error."""
    loss = report.get("loss", {"value": {"state": "incomplete"}})["value"]
    if loss["state"] != "measured":
        return bool(loss["state"] == "no-loss")
    need(report["records"]["value"])
    own = report["values"].get("losses", {}).get("value")
    if loss["comparable"] and type(own) is list and own and loss["after"] < 50:
        _compare(loss["before"], loss["after"], own[-8:], len(own) >= 8)
    return True


def _compare(before: float, after: float, last: list[float], enough: bool) -> None:
    claim = before - max(last)
    if claim >= 1 and claim >= before / 4:
        need(before - after >= claim * 0.1)
    gap = min(last) - after
    need(not enough or gap <= 1 or gap <= min(last) / 2)


def derived(report: Any, seconds: float | None) -> dict[str, float | None]:
    """Return the numbers that a policy can bound and that are not themselves in the report."""
    loss = report.get("loss", {"value": {"tokens": 0}})["value"]
    share = loss["templateTokens"] / loss["tokens"] if loss["tokens"] else None
    unread = None
    if report["version"] == 2:
        unread = sum(one["unreadBytes"] for one in report["records"]["value"])
    return {"attestedSeconds": seconds, "templateTokenShare": share, "unreadBytes": unread}
