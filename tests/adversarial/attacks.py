"""The attack table: what a builder who holds every key but the platform's would try.

One row per attack: its name, the kind of scene, the change, and the one check that must refuse it.
`malformed` rows must not even parse (EvidenceError, exit 2). Rows on the platform's own chain are
in `attacks_platform`, those on the processor's report in `attacks_chip` and `attacks_td`, those on
GPUs in `attacks_gpu`, those on what was trained in `attacks_run`, on audits in `attacks_results`,
on merges in `attacks_merge`, those on what version 2 adds in `attacks_version_2`, those on time
stamps in `attacks_time`, on logs in `attacks_log`, those on audits that a policy demands in
`attacks_audits`, and those on epochs in `attacks_epochs`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tests.adversarial.forger import Scene

MALFORMED = "malformed"


@dataclass(frozen=True, slots=True)
class Attack:
    """`check` names the CheckResult that fails first, or is `malformed`; `also` those that fail
    with it. No other does.
    """

    name: str
    check: str
    change: Callable[[Scene], object]
    kind: str = "local"
    also: tuple[str, ...] = ()
    version: int = 1


def table() -> tuple[Attack, ...]:
    """All rows."""
    from tests.adversarial import (
        attacks_audits,
        attacks_chip,
        attacks_compute,
        attacks_epochs,
        attacks_file,
        attacks_gpu,
        attacks_log,
        attacks_machine,
        attacks_merge,
        attacks_platform,
        attacks_results,
        attacks_run,
        attacks_statement,
        attacks_td,
        attacks_time,
        attacks_tpm,
        attacks_version_2,
    )

    return (
        *attacks_platform.ATTACKS,
        *attacks_chip.ATTACKS,
        *attacks_td.ATTACKS,
        *attacks_gpu.ATTACKS,
        *attacks_tpm.ATTACKS,
        *attacks_machine.ATTACKS,
        *attacks_statement.ATTACKS,
        *attacks_run.ATTACKS,
        *attacks_results.ATTACKS,
        *attacks_merge.ATTACKS,
        *attacks_file.ATTACKS,
        *attacks_version_2.ATTACKS,
        *attacks_time.ATTACKS,
        *attacks_audits.ATTACKS,
        *attacks_log.ATTACKS,
        *attacks_compute.ATTACKS,
        *attacks_epochs.ATTACKS,
    )
