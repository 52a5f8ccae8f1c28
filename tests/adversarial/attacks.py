"""The attack table: what a builder who holds every key but the platform's would try.

One row per attack: its name, the kind of scene, the change, and the one check that must refuse it.
The parser must refuse `malformed` rows (EvidenceError, exit 2). Other modules hold the rows on one
subject each: `attacks_platform` the platform's certificate chain, `attacks_chip` and `attacks_td`
the processor's report, `attacks_gpu` GPUs, `attacks_run` what was trained, `attacks_results`
audits, `attacks_merge` merges, `attacks_quantise` quantisations, `attacks_convert` conversions,
`attacks_version_2` what version 2 adds, `attacks_time` time stamps, `attacks_log` logs,
`attacks_audits` and `attacks_evaluations` what a policy demands of audits and evaluations, and
`attacks_epochs` epochs.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tests.adversarial.forger import Scene

MALFORMED = "malformed"


@dataclass(frozen=True, slots=True)
class Attack:
    """One row of the attack table.

    `check` names the CheckResult that fails first, or is `malformed`; `also` names the checks that
    fail with it. No other check may fail.
    """

    name: str
    check: str
    change: Callable[[Scene], object]
    kind: str = "local"
    also: tuple[str, ...] = ()
    version: int = 1


def table() -> tuple[Attack, ...]:
    """Return all rows."""
    from tests.adversarial import (
        attacks_audits,
        attacks_chip,
        attacks_compute,
        attacks_convert,
        attacks_epochs,
        attacks_evaluations,
        attacks_file,
        attacks_gpu,
        attacks_log,
        attacks_machine,
        attacks_merge,
        attacks_platform,
        attacks_quantise,
        attacks_results,
        attacks_run,
        attacks_statement,
        attacks_tasks,
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
        *attacks_quantise.ATTACKS,
        *attacks_convert.ATTACKS,
        *attacks_file.ATTACKS,
        *attacks_version_2.ATTACKS,
        *attacks_time.ATTACKS,
        *attacks_audits.ATTACKS,
        *attacks_evaluations.ATTACKS,
        *attacks_tasks.ATTACKS,
        *attacks_log.ATTACKS,
        *attacks_compute.ATTACKS,
        *attacks_epochs.ATTACKS,
    )
