"""One fuzz target per parser of hostile bytes: it returns, or raises AicertError, and nothing else.

A target also checks the parser's promise about accepted bytes: that there is one form
(`emit(parse(data)) == data`), or that writing and reading again gives the same value.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

from aicert.appraisal.evidence import (
    amd_vcek,
    azure_hcl,
    evaluations,
    intel_collateral,
    nvidia,
    nvidia_device,
    nvidia_ocsp,
    nvidia_rim,
    snp_report,
    spdm_report,
    tdx_quote,
    trusted_time,
)
from aicert.cli.show import event_log
from aicert.crypto import signatures
from aicert.files.tensors import read_header
from aicert.formats import (
    certificate,
    evaluated_tasks,
    evaluation,
    gguf,
    image_lock,
    lockfile,
    run_report,
    statement,
    strict_json,
    tpm,
)
from aicert.formats import listing as listings
from aicert.formats.dsse import Envelope
from aicert.formats.evaluated_tasks import TaskResults
from aicert.lease import (
    blob,
    bundle,
    courier,
    custody,
    enrolment,
    licence,
    orders,
    receipts,
    serving,
    terms,
)
from aicert.model_signature import reader
from aicert.trust import policy_file
from enclave_runner.axolotl.known_keys import axolotl_keys
from enclave_runner.inputs import model_json
from tests.adversarial import nvidia_forge, td_forge
from tests.adversarial.ca_forge import AT
from tests.adversarial.chip_forge import makers
from tests.adversarial.time_forge import Token
from tests.fuzz import audit_targets, log_targets, row_targets

Target = Callable[[bytes], None]


class BrokenPromiseError(Exception):
    """The parser accepted an input but breaks a promise about it."""


def _same(one: object, other: object) -> None:
    if one != other:
        raise BrokenPromiseError(f"{one!r:.200} is not {other!r:.200}")


def _json(data: bytes) -> None:
    value = strict_json.loads(data, what="document", max_bytes=1 << 20)
    again = strict_json.dumps(value)
    _same(strict_json.loads(again, what="document", max_bytes=1 << 24), value)


def _quote(data: bytes) -> None:
    tpm.selected_pcrs(tpm.parse_quote(data))


def _certify(data: bytes) -> None:
    tpm.parse_certification(data)


def _counter(data: bytes) -> None:
    tpm.parse_counter(data, "the receipt")


def _signature(data: bytes) -> None:
    str(tpm.parse_signature(data))


def _public(data: bytes) -> None:
    public = tpm.parse_public(data)
    _same(len(public.name) > 2, True)
    if public.type == tpm.ALG_ECC:
        signatures.ec_key(public)


def _event_log(data: bytes) -> None:
    log = event_log.parse(data)
    for bank in log.banks:
        values = event_log.replay(log, bank)
        for fact in event_log.explain(log, bank, values):
            text = fact.text or ""
            _same(text.isprintable() and len(text) <= event_log.MAX_TEXT, True)
        event_log.secure_boot(log, bank, values)


def _certificate(data: bytes) -> None:
    read = certificate.parse(data)
    _same(certificate.parse(certificate.emit(read)), read)


def _dsse(data: bytes) -> None:
    fields = strict_json.Fields(
        strict_json.loads(data, what="envelope", max_bytes=certificate.MAX_BYTES), "envelope"
    )
    envelope = Envelope.from_json(fields)
    _same(Envelope.from_json(strict_json.Fields(envelope.to_json(), "envelope")), envelope)


def _statement(data: bytes) -> None:
    read = statement.parse(data)
    _same(statement.parse(statement.emit(read)), read)


def _report(data: bytes) -> None:
    read = run_report.parse(data)
    _same(run_report.parse(run_report.emit(read)), read)


def _evaluation(data: bytes) -> None:
    for trainer in ("axolotl-evaluate", "lm-eval"):
        if (b'"tasks"' in data) == (trainer == "lm-eval"):
            read = evaluated_tasks.read(trainer, data)
            written = (
                evaluated_tasks.emit(read)
                if isinstance(read, TaskResults)
                else evaluation.emit(read)
            )
            _same(written, data)
            _same(len({one.task for one in evaluations.measures(read)}) > 0, True)


def _lockfile(data: bytes) -> None:
    _same(lockfile.emit(lockfile.parse(data)), data)
    lockfile.pcr14(data)


def _image_lock(data: bytes) -> None:
    image_lock.parse(data)


def _blob(data: bytes) -> None:
    _same(blob.emit(blob.parse(data)), data)


def _heartbeat(data: bytes) -> None:
    _same(receipts.emit_heartbeat(receipts.parse_heartbeat(data)), data)


def _receipt(data: bytes) -> None:
    _same(receipts.emit(receipts.parse(data)), data)


def _header(data: bytes) -> None:
    read = bundle.parse(data)
    _same(bundle.emit(read), data)
    _same(len(read.model.hex), 64)


def _courier(data: bytes) -> None:
    kinds = courier.ASKS if b'"heartbeat"' in data else courier.TELLS
    _same(courier.emit(courier.parse(data, kinds)), data)


def _custody(data: bytes) -> None:
    _same(custody.emit(custody.parse(data)), data)


def _enrolment(data: bytes) -> None:
    read = enrolment.parse(data)
    _same(enrolment.emit(read), data)
    enrolment.names(read)


def _order(data: bytes) -> None:
    _same(orders.emit_order(orders.parse_order(data)), data)


def _signed_order(data: bytes) -> None:
    _same(orders.emit(orders.parse(data)), data)


def _serving(data: bytes) -> None:
    _same(serving.emit(serving.parse(data)), data)


def _serving_statement(data: bytes) -> None:
    _same(serving.emit_statement(serving.parse_statement(data)), data)


def _storage_key(data: bytes) -> None:
    _same(blob.storage_key(data).key_size, 2048)


def _terms(data: bytes) -> None:
    _same(terms.emit(terms.parse(data)), data)


def _licence(data: bytes) -> None:
    read = licence.parse(data)
    _same(licence.emit(read), data)
    licence.policy_digest(read.bounds, dict.fromkeys(licence.LICENCE_PCRS, bytes(32)))


def _listing(data: bytes) -> None:
    _same(listings.listing(listings.parse_listing(data)), data)


def _manifest(data: bytes) -> None:
    read = reader.read_manifest(data)
    # Digests to compare with files on a disk: none has another length.
    _same({len(value) for value in read.files.values()} <= {0, 64, 128}, True)
    _same(bool(read.files), True)


def _bundle(data: bytes) -> None:
    reader.parse(data)


def _policy(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "policy.toml")
        path.write_bytes(data)
        policy_file.load_policy(str(path))


def _model_json(data: bytes) -> None:
    """Clean a model's JSON file, which must then be clean; the first byte chooses its kind."""
    kinds = sorted(model_json.KINDS)
    kind, text = kinds[data[0] % len(kinds)] if data else kinds[0], data[1:]
    beside = frozenset(("vocab.txt", "model.safetensors"))
    types = axolotl_keys().model_types
    copy = model_json.clean(kind, text, "m/x.json", beside, types).data
    if copy and model_json.clean(kind, copy, "m/x.json", beside, types).data is not None:
        raise BrokenPromiseError("a copy is not clean")


def _safetensors(data: bytes) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        header = read_header(file.fileno(), len(data))
    # An element has at least four bits, and no two share any.
    _same(header.elements <= 2 * len(data), True)


def _gguf(data: bytes) -> None:
    read = gguf.parse(data, len(data))
    # Every byte is the header's, a tensor's, or a padding's.
    at = min([len(data), *(tensor.begin for tensor in read.tensors)])
    paddings = dict(read.paddings)
    for tensor in read.tensors:
        _same(at, tensor.begin)
        at = paddings.get(tensor.end, tensor.end)
    _same(at, len(data))


def _chip(data: bytes) -> None:
    chip = amd_vcek.certify_chip(data, makers(), AT)
    _same((len(chip.chip_id or b""), len(chip.tcb)), (amd_vcek.CHIP_ID_BYTES, 8))
    amd_vcek.tcb_text(chip.tcb)


def _platform_report(data: bytes) -> None:
    read = azure_hcl.parse(data)
    _same(len(read.hardware), snp_report.SIZE)
    snp_report.check_guest(snp_report.parse(read.hardware))


def _td_quote(data: bytes) -> None:
    """Parse a quote: the signed part and its fields must be slices of the input."""
    quote = tdx_quote.parse(data)
    _same(data.startswith(quote.signed) and quote.mrtd in quote.signed, True)
    _same([len(one) for one in quote.rtmrs], [48] * 4)
    intel_collateral.certify(quote.certificates, (td_forge.maker(),), AT)


def _td_collateral(data: bytes) -> None:
    chain = (td_forge.pck(), td_forge.pck_ca(), td_forge.certified_root())
    processor = intel_collateral.certify(chain, (td_forge.maker(),), AT)
    signed = intel_collateral.verify(data, processor, AT)
    _same(signed.evaluation >= 0, True)


def _sgx_extension(data: bytes) -> None:
    """Put the extension into a processor's certificate, and certify that."""
    chain = (td_forge.pck(extension=data), td_forge.pck_ca(), td_forge.certified_root())
    processor = intel_collateral.certify(chain, (td_forge.maker(),), AT)
    _same(len(processor.components), intel_collateral.COMPONENTS)


def _gpu_report(data: bytes) -> None:
    """Parse a report: the signed part comes from the input; then verify a device that signed it."""
    report = spdm_report.parse(data)
    _same(data, report.signed + report.signature)
    _same({len(one) for one in report.measurements}, {48})
    signed = report.signed + nvidia_forge.signed(report.signed, nvidia_forge.DEVICE_KEY)
    chain, root = nvidia_forge.chain(), nvidia_forge.ca_root()
    device = nvidia_device.verify(signed, chain, root, report.nonce, AT)
    _same(device.mode in (0, 1, 2), True)
    if nvidia_device.IDENTITY in report.fields:
        _same(device.switches == {one for one in device.switches if len(one) == 8}, True)


def _gpu_rim(data: bytes) -> None:
    """Parse a RIM without its signature check: its canonical text must stay canonical."""
    element = nvidia_rim.parse(data)
    text = "".join(nvidia_rim.canonical(element, {})).encode()
    _same("".join(nvidia_rim.canonical(nvidia_rim.parse(text), {})).encode(), text)
    nvidia_rim.load(data, nvidia_forge.ca_root(), AT)


def _gpu_answer(data: bytes) -> None:
    answer = nvidia_ocsp.read(data)
    _same(answer.signed in data and answer.signature in data, True)
    _same(answer.status in (nvidia_ocsp.GOOD, nvidia_ocsp.REVOKED, nvidia_ocsp.UNKNOWN), True)


def _gpu_collateral(data: bytes) -> None:
    nvidia.read_collateral(data, nvidia_forge.maker(), AT)


def _runtime(data: bytes) -> None:
    modulus, exponent = azure_hcl.attestation_key(data)
    _same(min(modulus, exponent) >= 0, True)


def _time_stamp(data: bytes) -> None:
    stamped, by = trusted_time.verify(data, [Token().authority()])
    _same(by.name, Token().authority().name)
    # Both bounds are valid times.
    _same(stamped.time - stamped.accuracy <= stamped.time + stamped.accuracy, True)
    entry = trusted_time.encode_not_before(bytes(32), data)
    _same(trusted_time.decode_not_before(entry), (bytes(32), "rfc3161:", data))


TARGETS: dict[str, Target] = {
    **audit_targets.TARGETS,
    **log_targets.TARGETS,
    "blob": _blob,
    "bundle": _bundle,
    "certificate": _certificate,
    "certify": _certify,
    "chip": _chip,
    "counter": _counter,
    "dsse": _dsse,
    "evaluation": _evaluation,
    "event-log": _event_log,
    "courier": _courier,
    "custody": _custody,
    "enrolment": _enrolment,
    "header": _header,
    "gpu-answer": _gpu_answer,
    "gpu-collateral": _gpu_collateral,
    "gpu-report": _gpu_report,
    "gpu-rim": _gpu_rim,
    "heartbeat": _heartbeat,
    "image-lock": _image_lock,
    "json": _json,
    "licence": _licence,
    "listing": _listing,
    "lockfile": _lockfile,
    "platform-report": _platform_report,
    "manifest": _manifest,
    "model-json": _model_json,
    "policy": _policy,
    "public": _public,
    "quote": _quote,
    "order": _order,
    "receipt": _receipt,
    "report": _report,
    **row_targets.TARGETS,
    "runtime": _runtime,
    "gguf": _gguf,
    "safetensors": _safetensors,
    "sgx-extension": _sgx_extension,
    "signature": _signature,
    "statement": _statement,
    "serving": _serving,
    "serving-statement": _serving_statement,
    "signed-order": _signed_order,
    "storage-key": _storage_key,
    "td-collateral": _td_collateral,
    "td-quote": _td_quote,
    "terms": _terms,
    "time-stamp": _time_stamp,
}
