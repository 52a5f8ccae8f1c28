"""What the command line asks of the certify tasks in this process."""

from dataclasses import dataclass, field

from rules.runs.verdict import Verdict


@dataclass
class Request:
    """What the command line asks of the certify tasks in this process."""

    nonce: bytes | None = None
    run: str = ""
    accept: bool = False
    keep: bool = False
    # Runs to repeat even if nothing has changed.
    again: frozenset[str] = frozenset()
    # Runs named on the command line.
    named: frozenset[str] = frozenset()
    is_certifying: bool = False
    # Verdicts of this process by run; parallel runs are other processes.
    verdicts: dict[str, Verdict] = field(default_factory=dict)

    def nonce_for(self, run: str) -> bytes | None:
        """Return the nonce for the requested run; runs that it builds on get none."""
        return self.nonce if run == self.run else None


request = Request()
