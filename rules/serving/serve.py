"""`./doit serve`: one lease, from power-on to its last receipt."""

import shlex
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from aicert.errors import AicertError, ConfigError, EvidenceError, ToolError
from aicert.files.bounded import read_bounded
from aicert.formats.certificate import MAX_BYTES as MAX_CERTIFICATE
from aicert.formats.digest import is_hex, of_bytes
from aicert.lease import bundle as bundles
from aicert.lease import orders
from aicert.lease import terms as lease_terms
from aicert.lease.terms import TPM_ALONE, Terms
from rules.host.signals import termination_raises
from rules.machines.machine import Machine
from rules.project.config import Project
from rules.project.leases import Lease
from rules.project.results import certificate_path
from rules.serving import lease_state as kept_places
from rules.serving import power
from rules.serving.broker_client import Desk, RefusedHereError
from rules.serving.courier import (
    AS_LICENSED,
    DEADLINE,
    Carrier,
    EndedError,
    Files,
    NotIssuedError,
    OverTimeError,
)
from rules.serving.lease_state import LeaseFolder
from rules.serving.power import Powered
from rules.serving.screen import Screen

CHALLENGE_DIGITS: Final = 64
# Why serving ended, where neither an order nor the licence did it.
TIME_LIMIT: Final = "time-limit"
# What the machine's word for its end means to a person who did not ask for it.
_ENDS: Final = {
    DEADLINE: "its licence ran out",
    orders.REVOKE: "the custodian ended the lease",
    orders.STOP: "the grant's budget is used up, or its time is over",
}
Start = Callable[
    [Path, LeaseFolder, Path, Machine, Callable[[str], None]], AbstractContextManager[Powered]
]


def serve(
    project: Project,
    lease: Lease,
    *,
    token: Path | None,
    nonce: str,
    screen: Screen | None = None,
    start: Start | None = None,
) -> int:
    """Serve until serving ends or somebody presses Ctrl-C. Returns 0 if it ended by order or by
    licence. `start` starts the machine; otherwise its driver does.
    """
    bundle, terms = read_bundle(project, lease)
    shown = screen or Screen(lease.name, terms.tick_tokens)
    with kept_places.opened(project.root, lease.name) as kept:
        # A token enrols one machine, and another token has another ledger of receipts.
        if lease.machine.driver.cloud or kept.has_another_token(token):
            _retire(project.root, lease, kept, shown)
        custodian = _custodian(project.root, lease, kept, terms, token=token, nonce=nonce)
        with termination_raises(), shown:
            powered = (start or _starter(lease))(
                project.root, kept, bundle, lease.machine, shown.step
            )
            reason = _served(powered, kept, bundle, terms, custodian, shown)
            shown.step(f"ended: {reason}")
    return 0 if reason.partition(":")[0] in AS_LICENSED else 1


def _starter(lease: Lease) -> Start:
    if not lease.machine.driver.cloud:
        return power.powered
    # Not loaded where nothing is to do there.
    from rules.serving import cloud

    return cloud.powered


def _retire(root: Path, lease: Lease, kept: LeaseFolder, shown: Screen) -> None:
    """The last call's machine is gone, with its TPM, or it enrols again, with a new token. Hand in
    what it signed, in order, and put it away. Raises AicertError, and puts nothing away, if the
    broker cannot be reached.
    """
    if kept.enrolment is None:
        return
    if kept.unsent and lease.broker is not None:
        broker_root = None if lease.broker_root is None else root / lease.broker_root
        desk = Desk(lease.broker, kept.token(None), broker_root)
        for receipt in kept.unsent:
            try:
                desk.receipt(receipt)
            except RefusedHereError as error:
                # Those after it follow from it. All of them stay in the file that is put away.
                shown.note(f"the broker refused a receipt of the last machine: {error.message}")
                break
            kept.sent_one()
    kept.put_away()


def _served(
    powered: AbstractContextManager[Powered],
    kept: LeaseFolder,
    bundle: Path,
    terms: Terms,
    custodian: Desk | Files,
    shown: Screen,
) -> str:
    """Serve, and return why it ended."""
    with powered as machine:
        carrier = Carrier(machine.link, kept, terms, custodian, shown, machine.until)
        try:
            shown.serving(machine.url(carrier.serve()))
            reason = carrier.carry()
            return f"{reason}: {_ENDS[reason]}" if reason in _ENDS else reason
        except KeyboardInterrupt:
            reason = carrier.finish()
            # `asked` says so itself.
            return f"{reason}: as you asked" if reason in _ENDS else reason
        except OverTimeError as error:
            shown.note(error.message)
            return f"{TIME_LIMIT}: {carrier.finish()}"
        except NotIssuedError as error:
            error.hint = (error.hint or "").replace("BUNDLE", shlex.quote(str(bundle)))
            carrier.finish()
            raise
        except EndedError as error:
            raise _never_served(error, kept.folder.name, machine) from None
        except AicertError as error:
            # The machine's console is deleted with its folder.
            error.message = f"{error.message}\n{machine.last_lines()}".rstrip()
            raise
        except SystemExit:
            shown.step(f"ended: {carrier.finish()}")
            raise


def _never_served(error: EndedError, name: str, machine: Powered) -> AicertError:
    """Return the error for a machine that ended before it served."""
    if error.reason not in _ENDS:
        return ToolError(f"{error.message}\n{machine.last_lines()}".rstrip())
    return ToolError(
        f"the machine ended before it served: {error.reason}: {_ENDS[error.reason]}",
        hint=f"ask the custodian for a new grant, then ./doit serve {name} --token FILE",
    )


def read_bundle(project: Project, lease: Lease) -> tuple[Path, Terms]:
    """Return the bundle's folder and its terms. Raises ConfigError if it is not for the lease's
    model.
    """
    bundle = project.root / lease.bundle
    if not (bundle / bundles.TERMS).is_file():
        raise ConfigError(
            f"lease {lease.name}: there is no bundle at {lease.bundle!a}", hint=_packing(lease)
        )
    terms = lease_terms.parse(read_bounded(bundle / bundles.TERMS, lease_terms.MAX_BYTES, "terms"))
    if lease.run is not None:
        path = certificate_path(project.root, lease.run)
        digest = of_bytes(read_bounded(path, MAX_CERTIFICATE, "certificate"))
        if digest != terms.certificate:
            raise EvidenceError(
                f"lease {lease.name}: the bundle is not for the certificate {path.name} of "
                f"run {lease.run}",
                hint=_packing(lease),
            )
    is_offline = terms.key == TPM_ALONE
    if is_offline != (lease.broker is None):
        raise ConfigError(
            f"lease {lease.name}: its terms require "
            + ("no broker, but aicert.toml names one" if is_offline else "a broker"),
            hint=f"delete `broker` of [leases.{lease.name}] in aicert.toml"
            if is_offline
            else f'broker = "https://CUSTODIAN:8444" in [leases.{lease.name}] of aicert.toml',
        )
    return bundle, terms


def _packing(lease: Lease) -> str | None:
    if lease.run is None:
        return None
    offline = " --offline" if lease.broker is None else ""
    return (
        f"aicert lease pack certificates/{lease.run}/certificate.json "
        f"outputs/{lease.run}/{lease.output} -o {lease.bundle} --policy POLICY{offline}"
    )


def _custodian(
    root: Path, lease: Lease, kept: LeaseFolder, terms: Terms, *, token: Path | None, nonce: str
) -> Desk | Files:
    if lease.broker is not None:
        if nonce:
            raise ConfigError(
                "--nonce is for leases without a broker: a broker sends its own",
                hint=f"./doit serve {lease.name}",
            )
        broker_root = None if lease.broker_root is None else root / lease.broker_root
        return Desk(lease.broker, kept.token(token), broker_root)
    if token is not None:
        raise ConfigError(
            f"lease {lease.name} has no broker, and so no token", hint=f"./doit serve {lease.name}"
        )
    challenge = _challenge(nonce) if nonce else None
    if lease.licence is None:
        raise ConfigError(f"lease {lease.name} has neither a broker nor a licence folder")
    return Files(folder=root / lease.licence, nonce=challenge)


def _challenge(text: str) -> bytes:
    if not is_hex(text, CHALLENGE_DIGITS):
        raise ConfigError(
            f"--nonce must be {CHALLENGE_DIGITS} hexadecimal digits",
            hint="the custodian makes one: openssl rand -hex 32",
        )
    return bytes.fromhex(text)
