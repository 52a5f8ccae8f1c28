"""What the verifier says of every attack, in words: `python -m tests.adversarial.words` writes it.

`words.txt` is what a person reads when something is refused, for review in a diff: each check whose
result differs from that of the unchanged scene, with its hint. Unchanged scenes are shown whole.
"""

from collections.abc import Iterator
from pathlib import Path

from aicert.errors import EvidenceError
from aicert.result import AttestationResult, CheckResult
from tests.adversarial.attacks import MALFORMED, Attack, table
from tests.adversarial.forger import Scene

FILE = Path(__file__).with_name("words.txt")
KINDS = ("local", "qemu", "cloud", "confidential")


def words() -> str:
    """The whole text."""
    usual = {kind: Scene(kind).appraise() for kind in KINDS}
    lines: list[str] = []
    for kind, result in usual.items():
        lines += [f"= {kind}, unchanged", *_result(result)]
    for attack in table():
        lines += [f"= {attack.name}", *_attack(attack, usual[attack.kind])]
    return "".join(line + "\n" for line in lines)


def _result(result: AttestationResult) -> Iterator[str]:
    for check in result.checks:
        yield from _check(check)
    yield from (f"trusts: {text}" for text in result.trusts)
    yield from (f"omits: {text}" for text in result.omits)


def _attack(attack: Attack, usual: AttestationResult) -> Iterator[str]:
    scene = Scene(attack.kind)
    attack.change(scene)
    try:
        result = scene.appraise()
    except EvidenceError as error:
        yield from _text(f"{MALFORMED}: {error.message}", error.hint)
        return
    kept: dict[str, list[str]] = {}
    for check, before in zip(result.checks, usual.checks, strict=True):
        if check.verdict == "not-checked" and check.detail.startswith("not checked: "):
            kept.setdefault(check.detail, []).append(check.id)
        elif check != before:
            yield from _check(check)
    # One line for all checks that the same refusal keeps from being made.
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
