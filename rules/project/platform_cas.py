"""CAs of simulated platforms: this checkout's own, other people's next to certificates, and those
that this checkout trusts.

Whoever has a CA's key can make any certificate under it. So another checkout's CA is trusted by its
fingerprint, which its owner told you, in `.aicert/trusted/HEX.pem`. That is local state and never
in git. A CA that comes with the repository (`certificates/RUN/ca.pem`) is only a claim, and nothing
trusts it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from aicert.crypto.simulated import DRIVERS, simulated_driver
from aicert.crypto.x509 import load
from aicert.errors import AicertError, ConfigError
from aicert.files.bounded import read_bounded
from aicert.formats.certificate import Certificate
from aicert.formats.digest import of_bytes
from aicert.trust.roots import MAX_PEM, pem_to_der
from rules.host.work import write_whole
from rules.project.results import CERTIFICATES, certificate_path

OWN: Final = Path(".aicert") / "ca"
TRUSTED: Final = Path(".aicert") / "trusted"
# Next to a certificate: the CA of the simulated platform that vouches for it.
BESIDE: Final = "ca.pem"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformCa:
    """A CA for simulated platforms of one driver. `fingerprint`: SHA-256 of its DER, in hex."""

    path: Path
    driver: str
    fingerprint: str
    certificate: x509.Certificate

    @property
    def pem(self) -> bytes:
        """Only the certificate, without the text that a PEM file may have around it."""
        return self.certificate.public_bytes(Encoding.PEM)

    def has_issued(self, certificate: Certificate) -> bool:
        """Whether this CA vouches for the attestation key of `certificate`."""
        try:
            key = x509.load_der_x509_certificate(certificate.evidence.ak_chain[-1])
            key.verify_directly_issued_by(self.certificate)
        except (ValueError, TypeError, IndexError, InvalidSignature):
            return False
        return True


def read(path: Path) -> PlatformCa:
    """Return the CA in a PEM file. Raises ConfigError if it is not for a simulated platform."""
    try:
        der = pem_to_der(read_bounded(path, MAX_PEM, "CA"), str(path))
        certificate = load(der, str(path))
    except ConfigError:
        raise
    except AicertError as error:
        raise ConfigError(error.message, hint=error.hint) from None
    driver = simulated_driver(certificate)
    if driver not in DRIVERS:
        raise ConfigError(
            f"{path} is not the CA of a simulated platform",
            hint="a root of real platforms goes into a policy file (docs/spec/policy.md)",
        )
    return PlatformCa(
        path=path, driver=driver, fingerprint=of_bytes(der).hex, certificate=certificate
    )


def own(root: Path, driver: str) -> PlatformCa | None:
    """Return this checkout's own CA, which its first run creates; None before that."""
    path = root / OWN / f"{driver}.pem"
    return read(path) if path.is_file() else None


def trusted(root: Path) -> list[PlatformCa]:
    """Return the CAs that somebody here chose to trust. `./doit trust` names each file after its
    fingerprint, so a file with another name is an error.
    """
    cas = [read(path) for path in sorted((root / TRUSTED).glob("*.pem"))]
    for ca in cas:
        if ca.path.stem != ca.fingerprint:
            raise ConfigError(
                f"{ca.path.relative_to(root)} contains another CA: sha256:{ca.fingerprint}",
                hint=f"rm {ca.path.relative_to(root)}",
            )
    return cas


def accepted(root: Path, driver: str) -> list[PlatformCa]:
    """This checkout's own CA, if there is one, and the trusted ones, each once."""
    mine = own(root, driver)
    cas = [] if mine is None else [mine]
    return cas + [
        ca
        for ca in trusted(root)
        if ca.driver == driver and (mine is None or ca.fingerprint != mine.fingerprint)
    ]


def beside(root: Path, run: str) -> PlatformCa | None:
    """Return the CA next to a run's certificate; None if none can be read."""
    path = certificate_path(root, run).with_name(BESIDE)
    try:
        return read(path) if path.is_file() else None
    except ConfigError:
        return None


def all_beside(root: Path) -> dict[str, PlatformCa]:
    """Return the CA next to each certificate here, by run."""
    runs = sorted(path.parent.name for path in (root / CERTIFICATES).glob(f"*/{BESIDE}"))
    by_run = {run: beside(root, run) for run in runs}
    return {run: ca for run, ca in by_run.items() if ca is not None}


def trust(root: Path, ca: PlatformCa) -> None:
    """Accept certificates under `ca` in this checkout from now on."""
    path = root / TRUSTED / f"{ca.fingerprint}.pem"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, ca.pem)


def distrust(root: Path, fingerprint: str) -> None:
    """Stop accepting certificates under the CA with that fingerprint. Raises ConfigError if it was
    not trusted.
    """
    path = root / TRUSTED / f"{fingerprint}.pem"
    if not path.is_file():
        raise ConfigError(f"no CA sha256:{fingerprint} is trusted here", hint="./doit trust")
    path.unlink()
