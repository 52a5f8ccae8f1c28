"""The verifier's messages for every scene: `python -m tests.adversarial.words` writes them.

`words.txt` is what a person reads when something is refused, left open or odd, for review in a
diff: each check whose result differs from that of the unchanged scene, with its hint. Unchanged
scenes are shown whole.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

from aicert.appraisal.result import AttestationResult, CheckResult
from aicert.errors import EvidenceError
from tests.adversarial.attacks import MALFORMED, Attack, table
from tests.adversarial.forger import Scene
from tests.adversarial.honest import HONEST, Honest

FILE = Path(__file__).with_name("words.txt")
# Kinds of scenes, and versions.
SCENES = (
    ("local", 1),
    ("qemu", 1),
    ("cloud", 1),
    ("confidential", 1),
    ("azure td", 1),
    ("bare td", 1),
    ("gpu", 1),
    ("local", 2),
    ("cloud", 2),
)


@cache
def usual(kind: str, version: int) -> AttestationResult:
    """Appraise the unchanged scene."""
    return Scene(kind, version).appraise()


def judged(scene: Scene) -> AttestationResult | EvidenceError:
    """Appraise a scene; a malformed one returns its error."""
    try:
        return scene.appraise()
    except EvidenceError as error:
        return error


def unchanged(kind: str, version: int) -> str:
    """Return the whole result of the unchanged scene, as text."""
    return _joined(title(kind, version), _result(Scene(kind, version).appraise()))


def title(kind: str, version: int) -> str:
    """Return the title above an unchanged scene."""
    return f"{kind}{', version 2' if version > 1 else ''}, unchanged"


def changed(row: Attack | Honest, outcome: AttestationResult | EvidenceError) -> str:
    """Return as text where a changed scene's result differs."""
    return _joined(row.name, _changed(outcome, usual(row.kind, row.version)))


def rows() -> tuple[Attack | Honest, ...]:
    """Return every changed scene."""
    return (*table(), *HONEST)


def words() -> str:
    """Return the whole text."""
    sections = [unchanged(kind, version) for kind, version in SCENES]
    for row in rows():
        scene = Scene(row.kind, row.version)
        row.change(scene)
        sections.append(changed(row, judged(scene)))
    return "".join(sections)


@cache
def reviewed() -> Mapping[str, str]:
    """Return the sections of the reviewed file, by their titles."""
    _, *parts = re.split("^= ", FILE.read_text(encoding="ascii"), flags=re.MULTILINE)
    return {part.partition("\n")[0]: f"= {part}" for part in parts}


def _joined(name: str, lines: Iterable[str]) -> str:
    return "".join(line + "\n" for line in (f"= {name}", *lines))


def _result(result: AttestationResult) -> Iterator[str]:
    for check in result.checks:
        yield from _check(check)
    yield from (f"trusts: {text}" for text in result.trusts)
    yield from (f"omits: {text}" for text in result.omits)


def _changed(
    outcome: AttestationResult | EvidenceError, before: AttestationResult
) -> Iterator[str]:
    if isinstance(outcome, EvidenceError):
        yield from _text(f"{MALFORMED}: {outcome.message}", outcome.hint)
        return
    kept: dict[str, list[str]] = {}
    for check, usually in zip(outcome.checks, before.checks, strict=True):
        if check.verdict == "not-checked" and check.detail.startswith("not checked: "):
            kept.setdefault(check.detail, []).append(check.id)
        elif check != usually:
            yield from _check(check)
    # One line for all checks that the same refusal leaves unmade.
    for reason, names in kept.items():
        yield f"{reason}: {' '.join(names)}"


def _check(check: CheckResult) -> Iterator[str]:
    yield from _text(f"{check.verdict} {check.id}: {check.detail}", check.hint)


def _text(text: str, hint: str | None) -> Iterator[str]:
    first, *more = text.split("\n")
    yield ascii(first)[1:-1]
    yield from ("    " + ascii(line)[1:-1] for line in more)
    if hint is not None:
        yield f"    hint: {hint}"


if __name__ == "__main__":
    FILE.write_text(words(), encoding="ascii")
