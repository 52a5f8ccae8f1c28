"""Published evidence of Intel's trust domains (the index of 2026): quotes, collateral, boot log.

`openssl` is the oracle for chains, signatures and revocations; `tests.second.td`, which shares no
code with `aicert`, appraises the same sets a second time.
"""

import json
import re
import subprocess
from base64 import urlsafe_b64decode
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from aicert.appraisal.evidence import azure_hcl, intel_collateral, tdx_guest, tdx_quote
from aicert.appraisal.evidence.accepted import Td
from aicert.appraisal.policy import Policy
from aicert.appraisal.result import AttestationResult
from aicert.cli.show import claims as show
from aicert.cli.show import event_log
from aicert.errors import EvidenceError, UndecidedError
from aicert.formats.certificate import PlatformReport
from aicert.trust.built_in import built_in
from aicert.trust.roots import intel_tdx, pinned
from tests.adversarial.forger import Scene
from tests.second import chain as second_chain
from tests.second import td as second_td
from tests.unit.aicert.appraisal.test_genuine_2026 import tdx as azure_machine
from tests.unit.genuine import needs_vectors, pem_ders, read

pytestmark = needs_vectors

AZURE = "azure-tdx/azure-tdx-1764662251380464271.yaml"
# A date within the 30 days of the collateral.
MARCH = datetime(2026, 3, 1, tzinfo=UTC)
# google/go-tdx-guest appended this to one of its quotes; this program refuses it.
APPENDED = b"\nextra bytes(only for testing purpose)\n"


def base64_of(name: str) -> bytes:
    match = re.search(rf"{name}: \|-\n((?:  .*\n)+)", read(AZURE).decode())
    assert match is not None
    return urlsafe_b64decode("".join(match[1].split()) + "==")


def azure_collateral() -> dict[str, str]:
    parts = re.findall(
        r"(\w+): \|-\n((?:  .*\n)+)", read("azure-tdx/azure-collateral.yaml").decode()
    )
    texts = {name: re.sub("^  ", "", text, flags=re.MULTILINE) for name, text in parts}
    return {name: text if "chain" in name else text.strip() for name, text in texts.items()}


def collateral_file() -> bytes:
    return json.dumps(azure_collateral()).encode()


def quote(name: str) -> bytes:
    if name == "azure-2025-12":
        return base64_of("tdx_quote_base64")
    return read(name).removesuffix(APPENDED)


QUOTES = (
    "azure-2025-12",
    "azure-tdx/td-quote.bin",
    "tdx/quote_v5_sample.dat",
    "tdx/tdx_prod_quote_SPR_E4.dat",
    "tdx/tdx_quote_debug.dat",
    "tdx/cos-113-tdx-quote.dat",
)
# The quotes whose kind of processor has collateral of 2026.
JUDGED = ("azure-2025-12", "tdx/quote_v5_sample.dat")


def accepting(*tds: Td) -> Policy:
    return replace(built_in("confidential"), tds=tds)


def as_it_is(name: str) -> Td:
    parsed = tdx_quote.parse(quote(name))
    return Td(name=name, mrtd=parsed.mrtd, rtmrs=parsed.rtmrs)


# Quotes.


@pytest.mark.parametrize("name", QUOTES)
def test_signatures_and_chain_of_each_quote_are_good(name: str) -> None:
    """Without collateral there is no verdict, and no earlier check failed."""
    with pytest.raises(UndecidedError, match="lacks Intel's collateral for FMSPC"):
        tdx_guest.verify(quote(name), None, built_in("confidential"), MARCH)


@pytest.mark.parametrize("name", QUOTES)
def test_a_flipped_bit_anywhere_in_what_is_signed_is_refused(name: str) -> None:
    data = quote(name)
    size = len(tdx_quote.parse(data).signed)
    # Body, signature, key, the enclave's report, its signature, and its data.
    for place in (*range(48, size, 97), *range(size + 4, size + 674, 41)):
        changed = data[:place] + bytes((data[place] ^ 1,)) + data[place + 1 :]
        with pytest.raises(EvidenceError) as refused:
            tdx_guest.verify(changed, None, built_in("confidential"), MARCH)
        assert "lacks Intel's collateral" not in refused.value.message, place


def test_bytes_that_somebody_appended_are_refused() -> None:
    with pytest.raises(EvidenceError, match="something follows the TD quote"):
        tdx_quote.parse(read("tdx/tdx_prod_quote_SPR_E4.dat"))


@pytest.mark.parametrize("name", JUDGED)
def test_quotes_of_the_kind_that_there_is_collateral_of_are_good(name: str) -> None:
    policy = accepting(as_it_is(name))
    td = tdx_guest.verify(quote(name), collateral_file(), policy, MARCH)
    detail = td.check_guest(policy, MARCH)
    assert detail.startswith(f"built as {name}, without debugging or migration; ")
    assert detail.count("UpToDate") == 3


@pytest.mark.parametrize("name", sorted({*QUOTES} - {*JUDGED}))
def test_collateral_of_another_kind_of_processor_gives_no_verdict(name: str) -> None:
    with pytest.raises(UndecidedError, match="for another kind of processor"):
        tdx_guest.verify(quote(name), collateral_file(), built_in("confidential"), MARCH)


@pytest.mark.parametrize(
    ("at", "words"),
    [
        (datetime(2026, 3, 21, tzinfo=UTC), "is expired: it is valid from 2026-02-18T10:4"),
        (datetime(2025, 12, 2, tzinfo=UTC), "is not yet valid"),
    ],
)
def test_collateral_is_of_its_time(at: datetime, words: str) -> None:
    with pytest.raises(UndecidedError, match=words):
        tdx_guest.verify(quote("azure-2025-12"), collateral_file(), built_in("confidential"), at)


def test_a_debugged_td_is_refused() -> None:
    """For its processor's collateral of that year, the signer's certificate is not published."""
    judged = tdx_guest.verify(quote(JUDGED[0]), collateral_file(), built_in("confidential"), MARCH)
    debugged = replace(judged, quote=tdx_quote.parse(quote("tdx/tdx_quote_debug.dat")))
    with pytest.raises(EvidenceError, match="may be debugged"):
        debugged.check_guest(built_in("confidential"), MARCH)


# Collateral alone.


def test_the_pinned_root_is_the_published_one() -> None:
    assert pem_ders(read("tdx/intel_sgx_root.pem")) == [pinned("intel-sgx-root.pem")]


PARTS = (
    ("sample_tcbInfo_response", "tcbInfo"),
    ("sample_tcbinfo_response_v5", "tcbInfo"),
    ("sample_qeIdentity_response", "enclaveIdentity"),
)


@pytest.mark.parametrize(("name", "key"), PARTS)
def test_published_answers_of_intels_service_are_signed_by_its_signer(name: str, key: str) -> None:
    """Older answers pass too: the signer's certificate of 2025 has the same key."""
    text = read(f"tdx/{name}").decode()
    signed = text[len(f'{{"{key}":') : text.rindex(',"signature"')]
    (signer, _) = pem_ders(azure_collateral()["tcb_info_issuer_chain"].encode())
    public = second_chain.load(signer).public_key()
    signature = bytes.fromhex(json.loads(text)["signature"])
    tdx_quote.verify_raw(public, signature, signed.encode(), "refused")  # type: ignore[arg-type]
    with pytest.raises(EvidenceError, match="refused"):
        tdx_quote.verify_raw(public, signature, signed.encode() + b" ", "refused")  # type: ignore[arg-type]


def test_newer_tcb_info_of_the_same_kind_gives_the_same() -> None:
    text = read("tdx/sample_tcbinfo_response_v5").decode()
    info = text[len('{"tcbInfo":') : text.rindex(',"signature"')]
    collateral = azure_collateral() | {
        "tcb_info": info, "tcb_info_signature": json.loads(text)["signature"],
    }  # fmt: skip
    policy = accepting(as_it_is(JUDGED[1]))
    at = datetime(2026, 2, 20, tzinfo=UTC)
    td = tdx_guest.verify(quote(JUDGED[1]), json.dumps(collateral).encode(), policy, at)
    assert "processor UpToDate" in td.check_guest(policy, at)


@pytest.mark.parametrize("name", ["tcb_info", "qe_identity"])
def test_a_changed_word_of_intels_is_refused(name: str) -> None:
    collateral = azure_collateral()
    collateral[name] = (
        collateral[name].replace("OutOfDate", "UpToDate ").replace('isvsvn":4', 'isvsvn":0')
    )
    with pytest.raises(EvidenceError, match=f"{name} is not signed by Intel"):
        tdx_guest.verify(
            quote(JUDGED[0]), json.dumps(collateral).encode(), built_in("confidential"), MARCH
        )


# A whole machine of Azure.


def machine(**platform: Any) -> AttestationResult:
    """Appraise a genuine report, quote and AK certificate under the built-in policy."""
    scene = Scene("azure td")
    scene.at = MARCH
    scene.edit("policy", lambda policy: replace(built_in("confidential"), accepted=policy.accepted))
    scene.put("chain", (azure_machine()[0],))
    given = PlatformReport(
        report=base64_of("hcl_report_base64"),
        quote=quote("azure-2025-12"),
        collateral=collateral_file(),
    )
    scene.put("platform", replace(given, **platform))
    return scene.appraise()


def test_a_whole_machine_with_collateral_is_confidential() -> None:
    result = machine()
    verdicts = {c.id: c.verdict for c in result.checks if c.id.startswith("platform.")}
    assert verdicts.pop("platform.gpu") == "not-applicable"
    assert set(verdicts.values()) == {"ok"}, result.failed
    assert result.tier == "confidential"
    assert "azure-paravisor-tdx-2025-12" in result.check("platform.guest").detail
    # Only that machine could have signed a quote for us.
    assert result.failed[0].id == "quote.signature"


def test_the_report_of_another_machine_is_refused() -> None:
    result = machine(report=read("azure-tdx/hcl-report.bin"))
    assert result.failed[0].id == "platform.binding"


def test_the_other_machine_is_bound_by_its_own_quote() -> None:
    parsed = tdx_quote.parse(quote("azure-tdx/td-quote.bin"))
    runtime = azure_hcl.parse(read("azure-tdx/hcl-report.bin")).runtime
    assert parsed.report_data == azure_hcl.report_data(runtime)
    document = json.loads(read("azure-tdx/evidence-v1.json"))
    assert urlsafe_b64decode(document["td_quote"] + "==") == quote("azure-tdx/td-quote.bin")


# A bare TD and its boot log.


def test_a_boot_log_replays_to_the_registers_of_its_quote() -> None:
    """The log covers RTMR 0 to 2; its events number them 1 to 3, and 0 is MRTD.

    Filler takes the rest of the buffer.
    """
    parsed = tdx_quote.parse(quote("tdx/cos-113-tdx-quote.dat"))
    log = event_log.parse(read("tdx/ccel_data.dat"))
    values = event_log.replay(log, "sha384")
    assert tuple(values[register] for register in (1, 2, 3)) == parsed.rtmrs[:3]
    assert parsed.report_data == read("tdx/nonce.dat")
    scene = Scene("bare td")
    scene.put("td_quote", quote("tdx/cos-113-tdx-quote.dat"))
    certificate = scene.get("certificate")
    evidence = replace(certificate.evidence, event_log=read("tdx/ccel_data.dat"))
    boot = show.boot(replace(certificate, evidence=evidence))
    assert boot is not None
    assert {event["rtmr"] for event in boot["events"]} == {0, 1, 2}  # type: ignore[attr-defined]


# Oracles.


def openssl(*words: str, data: bytes = b"") -> str:
    done = subprocess.run(["openssl", *words], input=data, capture_output=True, check=False)
    return (done.stdout + done.stderr).decode()


@pytest.mark.parametrize("name", QUOTES)
def test_openssl_agrees_on_chains_and_signatures(name: str, tmp_path: Path) -> None:
    parsed = tdx_quote.parse(quote(name))
    for number, der in enumerate(parsed.certificates):
        (tmp_path / f"{number}.der").write_bytes(der)
        pem = openssl("x509", "-inform", "DER", data=der)
        assert pem.startswith("-----BEGIN")
        (tmp_path / f"{number}.pem").write_text(pem)
    leaf, middle, root = (str(tmp_path / f"{number}.pem") for number in range(3))
    at = str(int(MARCH.timestamp()))
    checked = openssl("verify", "-attime", at, "-CAfile", root, "-untrusted", middle, leaf)
    assert checked == f"{leaf}: OK\n"
    assert parsed.certificates[2] == pinned("intel-sgx-root.pem")
    # The processor's key over the enclave's report.
    (tmp_path / "pub.pem").write_text(openssl("x509", "-in", leaf, "-noout", "-pubkey"))
    assert verified(tmp_path, parsed.qe_signature, parsed.qe.signed)
    assert not verified(tmp_path, parsed.qe_signature, parsed.qe.signed[:-1] + b"\1")
    # The enclave's key (SubjectPublicKeyInfo of P-256) over the TD.
    head = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")
    public = openssl("pkey", "-pubin", "-inform", "DER", data=head + parsed.attestation_key)
    (tmp_path / "pub.pem").write_text(public)
    assert verified(tmp_path, parsed.signature, parsed.signed)
    assert not verified(tmp_path, parsed.signature, parsed.signed[:-1] + b"\1")


def verified(folder: Path, signature: bytes, data: bytes) -> bool:
    def integer(number: bytes) -> bytes:
        value = number.lstrip(b"\0")
        value = b"\0" + value if value[0] > 127 else value
        return bytes((2, len(value))) + value

    numbers = integer(signature[:32]) + integer(signature[32:])
    (folder / "signature").write_bytes(bytes((0x30, len(numbers))) + numbers)
    (folder / "data").write_bytes(data)
    answer = openssl(
        "dgst", "-sha256", "-verify", str(folder / "pub.pem"), "-signature",
        str(folder / "signature"), str(folder / "data"),
    )  # fmt: skip
    return answer == "Verified OK\n"


def test_openssl_agrees_on_revocations(tmp_path: Path) -> None:
    collateral = azure_collateral()
    for name, subject in (("root_ca_crl", "Root CA"), ("pck_crl", "PCK Platform CA")):
        der = bytes.fromhex(collateral[name])
        chain = pem_ders(collateral["pck_crl_issuer_chain"].encode())
        issuer = tmp_path / f"{name}.pem"
        number = 1 if name == "root_ca_crl" else 0
        issuer.write_text(openssl("x509", "-inform", "DER", data=chain[number]))
        checked = openssl("crl", "-inform", "DER", "-CAfile", str(issuer), "-noout", data=der)
        assert "verify OK" in checked
        assert subject in openssl("crl", "-inform", "DER", "-noout", "-issuer", data=der)


@pytest.mark.parametrize("name", JUDGED)
def test_a_second_reading_agrees(name: str) -> None:
    makers = [{"root": pinned("intel-sgx-root.pem"), "statuses": ["UpToDate"],
               "minimum-evaluation": 18}]  # fmt: skip
    second = second_td.Quote(quote(name))
    second.check_chip(collateral_file(), makers, MARCH)
    second.check_guest(makers[0])
    td = as_it_is(name)
    assert (second.body[136:184], tuple(second.rtmrs)) == (td.mrtd, td.rtmrs)


@pytest.mark.parametrize("name", QUOTES)
def test_a_second_reading_reads_the_same(name: str) -> None:
    one, other = tdx_quote.parse(quote(name)), second_td.Quote(quote(name))
    assert (one.signed, one.signature, one.attestation_key) == (
        other.signed, other.signature, other.key,
    )  # fmt: skip
    assert (one.tcb_svn, list(one.certificates)) == (other.svn, other.chain)
    platform = intel_collateral.certify(
        one.certificates, (intel_tdx(frozenset(("UpToDate",)), 0),), MARCH
    )
    other.path = second_td.path(other.chain, MARCH)
    other._read_processor()
    assert [*platform.components, platform.pce_svn] == other.tcb
    assert (platform.fmspc, platform.pce_id) == tuple(part.hex() for part in other.kind)


def test_a_quote_has_a_greatest_size() -> None:
    padded = quote(QUOTES[0]).ljust(tdx_quote.MAX_QUOTE, b"\0")
    assert tdx_quote.parse(padded) == tdx_quote.parse(quote(QUOTES[0]))
    with pytest.raises(EvidenceError, match="more than 8192"):
        tdx_quote.parse(padded + b"\0")
