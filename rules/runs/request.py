"""What a command line asks of the certify tasks of this process."""

from dataclasses import dataclass, field

from rules.runs.verdict import Verdict


@dataclass
class Request:
    """What the command line asks of this process's certify tasks."""

    nonce: bytes | None = None
    run: str = ""
    accept: bool = False
    keep: bool = False
    # Runs that are to be made although nothing of them changed.
    again: frozenset[str] = frozenset()
    # Runs that the command line names.
    named: frozenset[str] = frozenset()
    is_certifying: bool = False
    # Of what this process put in place, by run; runs that go in parallel are other processes.
    verdicts: dict[str, Verdict] = field(default_factory=dict)

    def nonce_for(self, run: str) -> bytes | None:
        """The nonce, for the run that it was asked of and none that this one builds on."""
        return self.nonce if run == self.run else None


request = Request()
