"""Parse a certificate once for all export formats. Nothing here is verified.

A certificate does not say which input is a base model and which is data; `kind_of` infers it from
the source's form or the input's name, and exports mark it as inferred.
"""

import re
from collections.abc import Callable, Mapping
from typing import Literal

from aicert.appraisal.checks import kinds
from aicert.appraisal.result import MODELS
from aicert.crypto.signatures import ec_key
from aicert.formats import certificate as certificates
from aicert.formats import lockfile as lockfiles
from aicert.formats import run_report, tpm
from aicert.formats import statement as statements
from aicert.formats.certificate import Certificate
from aicert.formats.digest import Digest, of_bytes
from aicert.formats.lockfile import CONFIG_INPUT, RUN_SCHEME, LockedInput, Lockfile
from aicert.formats.run_report import RunReport, Value
from aicert.formats.statement import Statement
from aicert.frozen import dataclass
from aicert.model_signature import writer

Kind = Literal["model", "data", "config"]
# The suffix of the run report's names for the versions of the training packages.
VERSION_SUFFIX = "Version"
# Report values that describe the quality or size of a model; others describe the machine.
METRICS = (
    "steps", "tokens", "flops", "epochs", "countedEpochs",
    "weightParameters", "trainableParameters",
)  # fmt: skip
_HUB = re.compile(
    r"hf:(datasets/)?([A-Za-z0-9][\w.-]*)/([A-Za-z0-9][\w.-]*)(?:@([\w.-]+))?", re.ASCII
)
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSource:
    """A repository on the Hugging Face hub, as the builder names it.

    `commit` is None if it is not pinned.
    """

    folder: Literal["", "datasets/"]
    organisation: str
    name: str
    commit: str | None

    @property
    def full_name(self) -> str:
        """`ORG/NAME`, as cards name it."""
        return f"{self.organisation}/{self.name}"

    @property
    def purl(self) -> str:
        """The package URL: https://github.com/package-url/purl-spec, type `huggingface`.

        The type is meant for models; its path on the hub works for data sets too.
        """
        version = "" if self.commit is None else f"@{self.commit}"
        return f"pkg:huggingface/{self.folder}{self.full_name}{version}"

    @property
    def supplier_url(self) -> str:
        """The organisation's page."""
        return f"https://huggingface.co/{self.organisation}"


def hub_source(item: LockedInput) -> HubSource | None:
    """Return the hub repository that an input comes from; None for other sources."""
    match = _HUB.fullmatch(item.uri)
    if match is None:
        return None
    revision = match[4] or ""
    return HubSource(
        folder="datasets/" if match[1] else "",
        organisation=match[2],
        name=match[3],
        commit=revision if _COMMIT.fullmatch(revision) else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A parsed certificate. `digest` is its core digest (docs/spec/certificate.md)."""

    certificate: Certificate
    digest: Digest
    statement: Statement
    report: RunReport
    lockfile: Lockfile

    @property
    def lockfile_digest(self) -> Digest:
        """The lockfile's identity."""
        return of_bytes(self.certificate.lockfile)

    @property
    def kind(self) -> kinds.Kind | None:
        """The kind of run that the lockfile names; None if its trainer is not known."""
        return kinds.KINDS.get(self.lockfile.trainer)

    @property
    def has_model(self) -> bool:
        """Whether such a run makes a model. What an unknown trainer makes is not called one."""
        return self.kind in MODELS

    @property
    def log(self) -> Mapping[str, Value]:
        """The run report's values."""
        return self.report.values

    @property
    def run_key(self) -> tpm.Public:
        """The run key's public area."""
        return tpm.parse_public(self.certificate.evidence.run_key)

    def packages(self) -> dict[str, str]:
        """Package → version, for the packages that the runner looked up."""
        return {
            key.removesuffix(VERSION_SUFFIX): str(value.data)
            for key, value in sorted(self.report.values.items())
            if key.endswith(VERSION_SUFFIX) and value.origin == "measured"
        }

    def run_key_pem(self) -> bytes:
        """The run key in PEM. Its signatures prove nothing without the quote in the certificate."""
        return writer.public_pem(ec_key(self.run_key))


def read(data: bytes, parse_lockfile: Callable[[bytes], Lockfile] = lockfiles.parse) -> Facts:
    """Parse a certificate file. Raises EvidenceError or LockError.

    `parse_lockfile`: for a caller that may have parsed the same bytes already.
    """
    certificate = certificates.parse(data)
    statement = statements.parse(certificate.envelope.payload)
    return Facts(
        certificate=certificate,
        digest=certificates.core_digest(certificate),
        statement=statement,
        report=run_report.parse(statement.report),
        lockfile=parse_lockfile(certificate.lockfile),
    )


def kind_of(item: LockedInput) -> Kind:
    """Infer from source and name whether an input is the config, a model or data."""
    if item.name == CONFIG_INPUT:
        return "config"
    if item.uri.startswith("hf:"):
        return "data" if item.uri.startswith("hf:datasets/") else "model"
    is_model = item.name.rpartition("-")[2] in ("model", "base", "adapter")
    return "model" if is_model or item.uri.startswith(RUN_SCHEME) else "data"
