"""The specification's limits and lists equal the code's, in both directions."""

import ast
import importlib
import inspect
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from aicert.appraisal.result import CHECKS
from aicert.crypto import x509
from aicert.errors import AicertError, EvidenceError
from aicert.formats import image_lock, lockfile, run_report, strict_json, uncovered_names
from aicert.formats.digest import Digest
from aicert.formats.run_report_facts import MAX_TEXTS
from aicert.model_signature import reader
from enclave_runner.axolotl import loss
from enclave_runner.axolotl.measuring.__main__ import FEWEST_ROWS
from enclave_runner.axolotl.measuring.template_tokens import PIECE
from tests.second.limits import SPEC, limits
from tests.unit import spec_limits_of_leases

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(page.name for page in SPEC.glob("*.md"))


def _longest_number() -> int:
    """Return how many characters of a number that is not an integer are read."""
    length = 3
    while True:
        try:
            strict_json.loads(b"0." + b"1" * (length - 1), what="number", max_bytes=1 << 20)
        except EvidenceError:
            return length
        length += 1


def _longest_text() -> int:
    """Return how long a text may be that is read without a limit of its own."""
    most = inspect.signature(strict_json.Fields.text).parameters["max_length"].default
    assert isinstance(most, int)
    strict_json.string("x" * most, "item")
    with pytest.raises(EvidenceError):
        strict_json.string("x" * (most + 1), "item")
    return most


def _largest_loss() -> int:
    """Return the largest loss of one token: in the runner, and in its child, which needs torch."""
    source = (ROOT / "enclave_runner/axolotl/measuring/model.py").read_text()
    of_child = re.search(r"^MOST = ([0-9.]+)$", source, re.MULTILINE)
    assert of_child is not None
    assert float(of_child[1]) == loss.MOST_LOSS
    return int(loss.MOST_LOSS)


def _most(accepts: Callable[[int], bool]) -> int:
    """Return the greatest accepted size, up to a thousand."""
    accepted = [size for size in range(1, 1000) if accepts(size)]
    assert accepted == list(range(accepted[0], accepted[-1] + 1))
    return accepted[-1]


def _takes(emit: Callable[[], object]) -> bool:
    try:
        emit()
    except AicertError:
        return False
    return True


def _image_lock(
    name: str = "n", verity: str = "v", part: str = "p", package: str = "k", version: str = "1"
) -> bytes:
    """Return an image lock of one package, as it is written."""
    digest = Digest("sha256", "00" * 32)
    packages = (image_lock.Package(part=part, name=package, version=version, digest=digest),)
    pcrs = dict.fromkeys(image_lock.PCRS, bytes(32))
    return image_lock.emit(
        name=name, disk=digest, pcrs=pcrs, verity={verity: digest}, packages=packages
    )


def _longest_image_name() -> int:
    """Return the length of the longest name; every name of an image lock has this limit."""

    def longest(key: str) -> int:
        return _most(lambda size: _takes(lambda: _image_lock(**{key: "a" * size})))

    (most,) = {longest(key) for key in ("name", "verity", "part", "package")}
    return most


def _longest_version() -> int:
    return _most(lambda size: _takes(lambda: _image_lock(version="1" * size)))


def _longest_serial() -> int:
    """Return the longest serial number in octets, with the zero that keeps it positive."""

    def certificate(size: int) -> bytes:
        # Two SEQUENCEs with two-octet lengths, version 3, and the head of an INTEGER.
        head = b"\x30\x82\0\0\x30\x82\0\0\xa0\x03\x02\x01\x02"
        return head + b"\x02" + bytes((size,)) + bytes(size)

    return _most(
        lambda size: size < 128 and _takes(lambda: x509.serial_number(certificate(size), "it"))
    )


def _longest_shard() -> int:
    """Return how many digits the start, and the end, of a signed part of a file may have."""
    first = _most(lambda size: _takes(lambda: reader._shard(f"a:{'1' * size}:2", "00" * 32)))
    last = _most(lambda size: _takes(lambda: reader._shard(f"a:1:{'1' * size}", "00" * 32)))
    assert first == last
    return last


TIME = "aicert.appraisal.evidence"
# Page -> row -> the constants that hold this limit, or a function that measures it.
ROWS: dict[str, dict[str, tuple[str, ...] | Callable[[], int]]] = {
    "certificate.md": {
        "certificate file": ("aicert.formats.certificate.MAX_BYTES",),
        "levels of JSON": ("aicert.formats.strict_json.MAX_DEPTH",),
        "strings, brackets, braces and commas of JSON": ("aicert.formats.strict_json.MAX_TOKENS",),
        "JSON with `\\u` or characters beyond ASCII": ("aicert.formats.strict_json.MAX_NON_ASCII",),
        "greatest integer of JSON, and \u22121 times the least": ("aicert.formats.fields.MAX_INT",),
        "characters of another number": _longest_number,
        "characters of a text without a limit of its own": _longest_text,
        "each of `attest`, `signature`, `public`": ("aicert.formats.certificate.MAX_TPM_BYTES",),
        "certificates of `akChain`": ("aicert.formats.certificate.MAX_CHAIN",),
        "X.509 certificate": (
            "aicert.formats.certificate.MAX_CERT_BYTES",
            "aicert.formats.gpu.MAX_CERT_BYTES",
            "aicert.crypto.x509.MAX_CERTIFICATE",
        ),
        "`report` and `quote` of `platform`": ("aicert.formats.certificate.MAX_REPORT",),
        "`collateral` of `platform`": ("aicert.formats.certificate.MAX_COLLATERAL",),
        "`eventLog`": ("aicert.formats.certificate.MAX_EVENT_LOG",),
        "`timestamps`": ("aicert.formats.certificate.MAX_TIMESTAMPS",),
        "characters of one of `timestamps`": ("aicert.formats.certificate.MAX_TIMESTAMP_CHARS",),
        "`lockfile`": ("aicert.formats.certificate.MAX_LOCKFILE_CHARS",),
        "`imageLock`": ("aicert.formats.certificate.MAX_IMAGE_LOCK_CHARS",),
        "statement": ("aicert.formats.dsse.MAX_PAYLOAD", "aicert.formats.statement.MAX_BYTES"),
        "`sig`": ("aicert.formats.dsse.MAX_SIGNATURE",),
        "characters of `keyid`": ("aicert.formats.dsse.MAX_KEYID",),
        "entries of `subject`": ("aicert.formats.statement.MAX_FILES",),
        "characters of a `name` with a digest": ("aicert.formats.statement.MAX_NAME",),
        "characters of `builder.id`": ("aicert.formats.statement.MAX_BUILDER_ID",),
        "`builderDependencies`": ("aicert.formats.statement.MAX_BUILDER_FACTS",),
        "ancestors that are appraised": ("aicert.appraisal.checks.lineage.MAX_ANCESTORS",),
    },
    "run-report.md": {
        "run report": ("aicert.formats.run_report.MAX_BYTES",),
        "`values`, and `overrides`": ("aicert.formats.run_report.MAX_VALUES",),
        "numbers of a `value`, and `unchangedWeights`": ("aicert.formats.run_report.MAX_ITEMS",),
        "`records`": ("aicert.formats.run_report_facts.MAX_RECORDS",),
        "`files` of all `records`": ("aicert.formats.run_report_facts.MAX_RECORD_FILES",),
        "characters of a `split`": ("aicert.formats.run_report_facts.MAX_SPLIT",),
        "`texts`": ("aicert.formats.run_report_facts.MAX_TEXTS",),
        "characters of a text's name": ("aicert.formats.run_report_facts.MAX_TEXT_NAME",),
        "`removed`": ("aicert.formats.run_report_facts.MAX_REMOVED",),
        "characters of a `reason`": ("aicert.formats.run_report_facts.MAX_REASON",),
    },
    "lockfile.md": {
        "lockfile": ("aicert.formats.lockfile.MAX_BYTES",),
        "inputs": ("aicert.formats.lockfile.MAX_INPUTS",),
        "characters of a name of a run, input, output or trainer": (
            "aicert.formats.lockfile.MAX_NAME",
        ),
        "`ranks`": ("aicert.formats.lockfile.MAX_RANKS",),
        "`audits`": ("aicert.formats.lockfile.MAX_AUDITS",),
        "characters of a value": ("aicert.formats.lockfile.MAX_VALUE",),
        "patterns of `only`, and of `except`": ("aicert.formats.lockfile.MAX_PATTERNS",),
        "files of a directory": ("aicert.formats.paths.MAX_FILES",),
        "listing of a directory": ("aicert.formats.listing.MAX_LISTING",),
        "bytes of a path": ("aicert.formats.paths.MAX_PATH_BYTES",),
        "bytes of a name in a path": ("aicert.formats.paths.MAX_NAME_BYTES",),
        "folders in one another": ("aicert.formats.paths.MAX_DEPTH",),
        "characters of a path's folded form, for each of the path": (
            "aicert.formats.paths.MAX_GROWTH",
        ),
    },
    "measurement.md": {
        "TPM structure": ("aicert.formats.binary.MAX_STRUCTURE",),
        "name, and extraData": ("aicert.formats.tpm.MAX_NAME",),
        "`pcrDigest`, and `authPolicy`": ("aicert.formats.tpm.MAX_DIGEST",),
        "r, and s, of an ECDSA signature": ("aicert.formats.tpm.MAX_ECDSA",),
        "RSA signature, and modulus": ("aicert.formats.tpm.MAX_RSA",),
        "selections that are read, of which one is accepted": (
            "aicert.formats.tpm.MAX_SELECTIONS",
        ),
    },
    "records.md": {
        "rows": ("aicert.records.reader.MAX_ROWS",),
        "line": ("aicert.records.grammar.MAX_LINE",),
        "commas and opening brackets of a line": ("aicert.records.grammar.MAX_PARTS",),
        "columns and fields": ("aicert.records.schema.MAX_NODES",),
        "levels of lists and objects": ("aicert.records.schema.MAX_DEPTH",),
        "characters of a name": ("aicert.records.schema.MAX_NAME",),
        "characters of all names": ("aicert.records.schema.MAX_NAMES",),
        "schema": ("aicert.records.schema.MAX_BYTES",),
        "greatest `int`": ("aicert.records.grammar.MAX_INT",),
        "characters of a number in a source": ("aicert.records.jsonrows.MAX_NUMBER",),
        "files of one split": ("aicert.records.convert.MAX_FILES",),
        "what any packed file may unpack to": ("aicert.records.packing.ALWAYS_ALLOWED",),
        "beyond that, times its packed size": ("aicert.records.packing.MAX_RATIO",),
        "window of zstd": ("aicert.records.packing._ZSTD_MAX_WINDOW",),
        "footer of Parquet": ("aicert.records.parquet_layout.MAX_FOOTER",),
        "page of Parquet": ("aicert.records.parquet_layout.MAX_PAGE",),
        "header of a page of Parquet": ("aicert.records.parquet_layout._MAX_PAGE_HEADER",),
    },
    "data.md": {
        "splits of a config": ("aicert.formats.run_report_facts.MAX_RECORDS",),
        "characters of a split's name": (
            "enclave_runner.axolotl.selections._MAX_SPLIT",
            "aicert.formats.run_report_facts.MAX_SPLIT",
        ),
        "files of all splits": ("aicert.formats.run_report_facts.MAX_RECORD_FILES",),
        "the paths of these files as JSON": ("enclave_runner.axolotl.selections._MAX_PATHS",),
    },
    "loss.md": {
        "rows that are drawn": ("enclave_runner.axolotl.loss_sample.MOST_ROWS",),
        "bytes of these rows": ("enclave_runner.axolotl.loss_sample.MOST_BYTES",),
        "rows that are measured": ("enclave_runner.axolotl.measuring.__main__.MOST_ROWS",),
        "nats of a token's loss": _largest_loss,
    },
    "audit.md": {
        "config": ("aicert.audits.config.MAX_BYTES",),
        "checks of a config": ("aicert.audits.config.MAX_CHECKS",),
        "characters of a column's name": ("aicert.audits.config.MAX_COLUMN",),
        "characters of a URL": ("aicert.audits.domains.MAX_URL",),
        "characters of a host": ("aicert.audits.domains.MAX_HOST",),
        "characters of a host's label": ("aicert.audits.domains.MAX_LABEL",),
        "hosts of a column": ("aicert.audits.domain_table.MAX_HOSTS",),
        "`largest`": ("aicert.audits.domain_table.SHOWN",),
        "list of domains or digests": ("aicert.audits.lists.MAX_BYTES",),
        "entries, or fingerprints, of a list": ("aicert.audits.lists.MAX_ENTRIES",),
        "leaves of a tree": ("aicert.audits.merkle.MAX_LEAVES",),
        "results": ("aicert.audits.results.MAX_BYTES",),
        "`texts`": ("aicert.audits.results.MAX_BESIDE",),
        "splits of all inputs": ("aicert.audits.results.MAX_DATA",),
        "proof": ("aicert.audits.proofs.MAX_BYTES",),
        "fingerprints of a text": ("aicert.audits.proofs.MAX_FINGERPRINTS",),
    },
    "evaluation.md": {"results": ("aicert.formats.evaluation.MAX_BYTES",)},
    "lm-eval.md": {
        "tasks": ("aicert.formats.evaluated_tasks.MAX_TASKS",),
        "file of a task": ("enclave_runner.axolotl.strict_yaml.MAX_BYTES",),
        "metrics of a task": ("aicert.formats.evaluated_tasks.MAX_METRICS",),
        "few-shot examples": ("aicert.formats.evaluated_tasks.MOST_SHOTS",),
        "rows of a batch": ("aicert.formats.evaluated_tasks.MOST_IN_BATCH",),
    },
    "gpu.md": {
        "`devices`": ("aicert.formats.gpu.MAX_DEVICES",),
        "`report` of a device": (
            "aicert.formats.gpu.MAX_REPORT",
            "aicert.appraisal.evidence.spdm_report.MAX_REPORT",
        ),
        "certificates of a device": ("aicert.formats.gpu.MAX_CHAIN",),
        "`collateral` of `gpus`": ("aicert.formats.gpu.MAX_COLLATERAL",),
        "fields of a report": ("aicert.appraisal.evidence.spdm_report.MAX_FIELDS",),
        "`rims`": ("aicert.appraisal.evidence.nvidia.MAX_RIMS",),
        "one of `rims`": ("aicert.appraisal.evidence.nvidia_rim.MAX_RIM",),
        "certificates of a RIM's signer, up to the root": (
            "aicert.appraisal.evidence.nvidia_rim.MAX_CERTIFICATES",
        ),
        "elements of it": ("aicert.appraisal.evidence.nvidia_rim.MAX_ELEMENTS",),
        "elements in one another": ("aicert.appraisal.evidence.nvidia_rim.MAX_DEPTH",),
        "`alternatives`": ("aicert.appraisal.evidence.nvidia_rim.MAX_ALTERNATIVES",),
        "`ocsp`": ("aicert.appraisal.evidence.nvidia.MAX_ANSWERS",),
        "one of `ocsp`": ("aicert.appraisal.evidence.nvidia_ocsp.MAX_ANSWER",),
        "certificates of it": ("aicert.appraisal.evidence.nvidia_ocsp.MAX_CERTIFICATES",),
    },
    "guard.md": {
        "policy of a guard": ("aicert.guard.policy.MAX_POLICY",),
        "signers of a policy": ("aicert.guard.policy.MAX_SIGNERS",),
        "model card": ("aicert.guard.card._MAX_CARD", "aicert.cli.exports.MAX_CARD"),
    },
    **spec_limits_of_leases.ROWS,
    "log-folder.md": {
        "key of a log, public": ("aicert.log.tiles.MAX_KEY",),
        "key of a log or a witness, private": ("aicert.log.keys.MAX_BYTES",),
        "bundle of entries": ("aicert.log.tiles.MAX_BUNDLE",),
        "logs of a witness": ("aicert.log.witness.MAX_LOGS",),
        "what a witness has seen": ("aicert.log.witness.MAX_STATE",),
        "requests to a witness": ("aicert.log.witness_client.MAX_TRIES",),
        "answer of a witness": ("aicert.sources.log_server.MAX_ANSWER",),
        "certificates of `--certificates`": ("aicert.cli.log.search.MAX_CERTIFICATES",),
        "their bytes, in one search": ("aicert.cli.log.search.MAX_CERTIFICATE_BYTES",),
        "entries that `find` prints (as JSON: all)": ("aicert.cli.log.search.MAX_SHOWN",),
        "entries of a page": ("aicert.log.page.MAX_ENTRIES",),
        "inputs or outputs of an entry on a page": ("aicert.log.page.MAX_ITEMS",),
        "runs in the drawing": ("aicert.log.lineage.MAX_NODES",),
        "lines in the drawing": ("aicert.log.lineage.MAX_EDGES",),
        "columns that these lines pass, together": ("aicert.log.lineage.MAX_LANES",),
    },
    "model-signature.md": {
        "bundle": ("aicert.model_signature.reader.MAX_BYTES",),
        "certificates of a bundle": ("aicert.model_signature.reader.MAX_CERTIFICATES",),
        "each of these certificates": ("aicert.model_signature.reader.MAX_CERTIFICATE",),
        "`sig`": ("aicert.model_signature.reader.MAX_SIGNATURE",),
        "characters of `hint`": ("aicert.model_signature.reader.MAX_HINT",),
        "`ignore_paths`": ("aicert.model_signature.reader.MAX_IGNORED",),
        "digits of `START`, and of `END`": _longest_shard,
    },
    "models.md": {
        "JSON of a model": (
            "enclave_runner.inputs.model_json.MAX_JSON",
            "enclave_runner.inputs.pickles._MAX_INDEX",
        ),
        "chat template": ("enclave_runner.inputs.model_json.MAX_TEMPLATE",),
        "header of a safetensors file": ("aicert.formats.safetensors.MAX_HEADER",),
        "one entry of that header": ("aicert.formats.safetensors._MAX_ENTRY",),
        "tensors of a file": ("aicert.formats.safetensors.MAX_TENSORS",),
        "one file of a model's code": ("enclave_runner.inputs.model_files.MAX_CODE",),
        "files of a model's code": ("enclave_runner.inputs.model_files.MAX_CODE_FILES",),
        "dimensions of a tensor": ("aicert.formats.safetensors.MAX_RANK",),
    },
    "convert.md": {
        "header of a GGUF file": ("aicert.formats.gguf.MAX_HEADER",),
        "keys of that header": ("aicert.formats.gguf.MAX_KEYS",),
        "values of its arrays, together": ("aicert.formats.gguf.MAX_ITEMS",),
        "bytes of one of its texts": ("aicert.formats.gguf.MAX_TEXT",),
        "bytes of a key": ("aicert.formats.gguf._MAX_KEY",),
        "bytes of a tensor's name": ("aicert.formats.gguf._MAX_NAME",),
        "tensors of a GGUF file": ("aicert.formats.gguf.MAX_TENSORS",),
        "dimensions of a tensor there": ("aicert.formats.gguf._MAX_RANK",),
    },
    "image.md": {
        "image lock": ("aicert.formats.image_lock.MAX_BYTES",),
        "packages of an image lock": ("aicert.formats.image_lock.MAX_PACKAGES",),
        "file systems of an image lock": ("aicert.formats.image_lock.MAX_VERITY",),
        "characters of a name in an image lock": _longest_image_name,
        "characters of a package's version": _longest_version,
        "`limits.json` of an input volume": ("aicert.formats.machine_io.MAX_LIMITS",),
        "line that names a file of an output volume": ("aicert.formats.machine_io.MAX_FILE_LINE",),
        "line of an event": ("aicert.formats.machine_io.MAX_EVENT",),
    },
    "confidential.md": {
        "runtime data": ("aicert.appraisal.evidence.azure_hcl.MAX_RUNTIME",),
        "`keys` of the runtime data": ("aicert.appraisal.evidence.azure_hcl.MAX_KEYS",),
        "characters of `n`, and of `e`": ("aicert.appraisal.evidence.azure_hcl.MAX_NUMBER",),
    },
    "tdx.md": {
        "TD quote": ("aicert.appraisal.evidence.tdx_quote.MAX_QUOTE",),
        "the enclave's data": ("aicert.appraisal.evidence.tdx_quote._MAX_AUTH_DATA",),
        "certificates of a chain": ("aicert.appraisal.evidence.tdx_quote._MAX_CERTIFICATES",),
        "collateral": ("aicert.appraisal.evidence.intel_collateral.MAX_COLLATERAL",),
        "characters of a string of it": ("aicert.appraisal.evidence.intel_collateral.MAX_TEXT",),
        "`tcbLevels`": ("aicert.appraisal.evidence.intel_collateral.MAX_LEVELS",),
        "`tdxModuleIdentities`": ("aicert.appraisal.evidence.intel_collateral.MAX_MODULES",),
    },
    "compute.md": {
        "days from `reviewed` to the run": ("aicert.appraisal.evidence.ceiling.REVIEW_DAYS",)
    },
    "time.md": {
        "token": (f"{TIME}.time_token.MAX_TOKEN",),
        "certificates of a token": (f"{TIME}.time_token.MAX_CERTIFICATES",),
        "CAs between signer and root": (f"{TIME}.trusted_time.MAX_INTERMEDIATES",),
        "signed attributes, and extensions": (f"{TIME}.time_token.MAX_ATTRIBUTES",),
        "seconds of `accuracy`": (f"{TIME}.time_token.MAX_ACCURACY",),
    },
    "log.md": {
        "proof": ("aicert.tlog.proofs.MAX_PROOF",),
        "note": ("aicert.tlog.notes.MAX_NOTE",),
        "signatures of a note": ("aicert.tlog.notes.MAX_SIGNATURES",),
        "bytes of a key's name": ("aicert.tlog.notes.MAX_KEY_NAME",),
        "hashes of a path": ("aicert.tlog.proofs.MAX_PATH",),
        "index of an entry, and size of a log": ("aicert.tlog.encoding.MAX_SIZE",),
        "entry": ("aicert.tlog.entry.MAX_BYTES",),
    },
    "policy.md": {
        "policy file": ("aicert.trust.policy_table.MAX_POLICY",),
        "policies that extend one another": ("aicert.trust.policy_file.MAX_EXTENDS",),
        "dots of a line": ("aicert.trust.policy_file.MAX_DOTS",),
        "file of a root": ("aicert.trust.roots.MAX_PEM",),
        "certificates of `akChain` that are judged": ("aicert.appraisal.ak_chain.MAX_CHAIN",),
        "intermediates between AK and root, pinned ones included": (
            "aicert.appraisal.ak_chain.MAX_INTERMEDIATES",
        ),
        "bits of an RSA key": ("aicert.crypto.x509.MAX_RSA_BITS",),
        "octets of a serial number": _longest_serial,
        "octets that describe a machine of Google's": (
            "aicert.appraisal.evidence.google_instance.MAX_BYTES",
        ),
        "certificates of a lineage that are read": ("aicert.verifier.verify.MAX_LINEAGE",),
        "their bytes, all together": ("aicert.verifier.verify.MAX_LINEAGE_BYTES",),
    },
}
# Constants whose limits no document mentions.
INTERNAL = {
    "aicert.appraisal.checks.demands.MAX_DAYS": "more than Python has: its years end with 9999",
    "aicert.audits.proofs._MAX_PATH": "follows from the leaves of a tree",
    "aicert.audits.proofs._MAX_PATH_TEXT": "follows from the leaves of a tree",
    "aicert.formats.machine_io.MAX_NONCE": "how much is read to see that it is a nonce and no more",
    "aicert.lease.custody.MAX_PEM": "how much is read of a key that we wrote ourselves",
    "aicert.leasing.accounts.MAX_LINE": "a receipt and its line feed",
    "aicert.leasing.hardware_keys._MAX_PUBLIC": "longer than the one form of a P-256 key",
    "aicert.records.canonical.MAX_EXACT": "a fact about doubles",
    "aicert.records.convert.MAX_REQUEST": "between two processes of the runner",
    "aicert.records.outcome.MAX_FACTS": "between two processes of the runner",
    "aicert.records.outcome.MAX_REASON": "between two processes of the runner",
    "aicert.records.packing._ZSTD_MAX_BLOCK": "zstd's own (RFC 8878, 3.1.1.2.4)",
    "aicert.records.thrift.MAX_DEPTH": "deeper than Parquet's own structures",
    "enclave_runner.serving.load._MAX_SPKI": "longer than the one form of a P-256 key",
}
LIMITED = (
    "aicert/appraisal",
    "aicert/audits",
    "aicert/crypto",
    "aicert/files",
    "aicert/formats",
    "aicert/guard",
    "aicert/lease",
    "aicert/leasing",
    "aicert/log",
    "aicert/model_signature",
    "aicert/records",
    "aicert/serving",
    "aicert/trust",
    "aicert/verifier",
    "enclave_runner/inputs",
    "enclave_runner/serving",
)
_NAMED = re.compile("_?([A-Z]+_)*MAX(_[A-Z]+)+|ALWAYS_ALLOWED")


def constants() -> set[str]:
    """Return every limit that a module of a limited room defines, by its dotted name."""
    limits = set()
    for room in LIMITED:
        for path in sorted((ROOT / room).rglob("*.py")):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            for node in ast.parse(path.read_text()).body:
                targets = node.targets if isinstance(node, ast.Assign) else []
                if isinstance(node, ast.AnnAssign):
                    targets = [node.target]
                names = [one.id for one in targets if isinstance(one, ast.Name)]
                limits |= {f"{module}.{name}" for name in names if _NAMED.fullmatch(name)}
    return limits


def value_of(dotted: str) -> int:
    module, _, name = dotted.rpartition(".")
    value = getattr(importlib.import_module(module), name)
    assert isinstance(value, int)
    return value


@pytest.mark.parametrize("page", PAGES)
def test_a_page_states_the_limits_of_the_code(page: str) -> None:
    stated = limits(page)
    rows = ROWS.get(page, {})
    assert stated.keys() == rows.keys()
    for row, held in rows.items():
        values = {held()} if callable(held) else {value_of(name) for name in held}
        assert values == {stated[row]}, row


def test_every_limit_of_the_code_is_on_a_page() -> None:
    every = [held for rows in ROWS.values() for held in rows.values() if not callable(held)]
    assert constants() - {name for held in every for name in held} == INTERNAL.keys()


def test_a_number_of_a_table_is_read_with_its_unit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.second.limits.SPEC", tmp_path)
    table = "| limit | at most |\n| --- | --- |\n"
    (tmp_path / "page.md").write_text(
        f"{table}| a | 16 MiB |\n| b | 2\u2076\u00b3 \u2212 1 |\n\n{table}| c | 1,024 bytes |\n"
    )
    assert limits("page.md") == {"a": 1 << 24, "b": 2**63 - 1, "c": 1024}
    (tmp_path / "page.md").write_text(f"{table}| a | 1 |\n| a | 2 |\n")
    with pytest.raises(ValueError, match="limits a twice"):
        limits("page.md")


def cells(page: str, heading: str) -> list[str]:
    """Return the first cells of the table below `heading`."""
    section = (SPEC / page).read_text().split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]


def test_the_checks_of_the_page_are_those_of_the_code() -> None:
    named = [
        name
        for cell in cells("certificate.md", "Checks")
        for name in re.findall("`([a-z]+\\.[a-z0-9*-]+)`", cell)
    ]
    boot = [check for check in CHECKS if check.startswith("boot.")]
    at = named.index("boot.*")
    assert sorted([*named[:at], *boot, *named[at + 1 :]]) == sorted(CHECKS)
    in_order = [name for name in CHECKS if name in named]
    assert [name for name in named if name != "boot.*"] == in_order


def test_the_names_that_may_stand_beside_a_model_are_those_of_the_code() -> None:
    lines = (SPEC / "certificate.md").read_text().splitlines()
    row = next(line for line in lines if line.startswith("| `subject.files`"))
    listed = row.split("beside them only", 1)[1].split(", `LICENSE`", 1)[0]
    assert set(re.findall("`([^`]+)`", listed)) == uncovered_names.FILES
    licence = re.search(
        "`LICENSE`, `LICENSE-` and up to ([0-9]+) of `([^`]+)`, these two also with "
        r"`\.([a-z]+)` or `\.([a-z]+)`, at the top, and the folders (.+?), which are not read",
        row,
    )
    assert licence is not None
    most, letters, *suffixes, folders = licence.groups()
    assert uncovered_names._LICENSE.pattern == (
        rf"LICENSE(?:-[{letters}]{{1,{most}}})?(?:\.{suffixes[0]}|\.{suffixes[1]})?"
    )
    assert tuple(re.findall("`([^`]+)`", folders)) == uncovered_names.FOLDERS


# Page -> what its sentences state about the code's constants.
SENTENCES = {
    "aicert-toml.md": (f"Names match `{lockfile.NAME.pattern}`",),
    "lockfile.md": (f"match `{lockfile.NAME.pattern}`",),
    "loss.md": (
        f"when {FEWEST_ROWS} are, until the time is used up: {loss.SECONDS / 2:g} s or",
        f"s or {100 * loss.PART / 2:g} % of the training's time",
        f"in pieces of {PIECE} characters and more",
        f"More than {MAX_TEXTS} are folded",
    ),
    "run-report.md": (f"`{run_report._KEY.pattern}`",),
}


@pytest.mark.parametrize("page", SENTENCES)
def test_a_sentence_with_a_number_has_the_codes(page: str) -> None:
    text = " ".join((SPEC / page).read_text().split())
    assert [sentence for sentence in SENTENCES[page] if sentence not in text] == []
