"""Published evidence of NVIDIA's devices: reports of Hopper GPUs and of a switch, a driver's RIM.

`openssl` is the oracle for chains and signatures. No published RIM belongs to a driver or VBIOS
that a published report names, so only RIMs of a test CA show a comparison that is ok.
"""

import json
import subprocess
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from xml.dom import minidom

import pytest

from aicert.appraisal.evidence import nvidia_device, nvidia_ocsp, nvidia_rim, spdm_report
from aicert.appraisal.evidence.tdx_quote import pem_chain
from aicert.crypto.signatures import ecdsa_der
from aicert.errors import EvidenceError, UndecidedError
from tests.adversarial import nvidia_forge
from tests.second import gpu as second_gpu
from tests.unit.genuine import needs_vectors, pem_ders, read

pytestmark = needs_vectors
AT = datetime(2026, 10, 1, tzinfo=UTC)
RIM = "nvidia/NV_GPU_DRIVER_GH100_550.144.03.xml"
Sent = tuple[bytes, bytes, bytes]


def sent(name: str, index: int = 0) -> Sent:
    """Return report, chain and nonce of one published device."""
    one = json.loads(read(f"nvidia/{name}.json"))[index]
    return b64decode(one["evidence"]), b64decode(one["certificate"]), bytes.fromhex(one["nonce"])


def older(name: str = "hopperAttestationReport") -> Sent:
    report = bytes.fromhex(read(f"nvidia/{name}.txt").decode().strip())
    return report, read("nvidia/hopperCertChain.txt"), report[4:36]


ALL: dict[str, Callable[[], Sent]] = {
    "hopper": partial(sent, "hopper_evidence"),
    "held certificate": partial(sent, "hopper_evidence_cert_hold"),
    "switch": partial(sent, "switch_evidence_ls10"),
    **{f"one of four, {i}": partial(sent, "multi_gpu_hopper", i) for i in range(4)},
    "of 2023": older,
}


def chain_of(pem: bytes) -> tuple[bytes, ...]:
    return pem_chain(pem, "chain", nvidia_device.CHAIN)


def root() -> bytes:
    """Return the device root, which all sets share."""
    return chain_of(sent("hopper_evidence")[1])[-1]


def judged(given: Sent, at: datetime = AT) -> nvidia_device.Device:
    report, pem, nonce = given
    return nvidia_device.verify(report, chain_of(pem), root(), nonce, at)


@pytest.mark.parametrize("name", ALL)
def test_genuine_reports_are_verified(name: str) -> None:
    device = judged(ALL[name]())
    assert device.is_switch == (name == "switch")
    assert device.model == ("LS_10" if device.is_switch else "GH100")
    assert device.vbios.startswith("96.")
    assert len(device.report.measurements) == (31 if device.is_switch else 64)


def test_what_runs_is_named() -> None:
    devices = [judged(ALL[name]()) for name in ("hopper", "of 2023", "switch")]
    assert [(device.driver, device.vbios) for device in devices] == [
        ("590.12", "96.00.A5.00.01"),
        ("535.86.09", "96.00.5E.00.01"),
        ("", "96.10.55.00.01"),
    ]


@pytest.mark.parametrize("name", ["hopper", "switch", "of 2023"])
def test_openssl_agrees_on_chain_and_signature(name: str, tmp_path: Path) -> None:
    report, pem, _ = ALL[name]()
    paths: list[Path] = []
    for index, der in enumerate(pem_ders(pem)):
        paths.append(tmp_path / f"{index}.pem")
        subprocess.run(
            ["openssl", "x509", "-inform", "der", "-out", paths[-1]], input=der, check=True
        )
    (tmp_path / "between.pem").write_bytes(b"".join(path.read_bytes() for path in paths[1:4]))
    at, between = str(int(AT.timestamp())), str(tmp_path / "between.pem")
    command = ["openssl", "verify", "-CAfile", str(paths[4]), "-untrusted", between]
    subprocess.run([*command, "-attime", at, str(paths[0])], check=True)
    parsed = spdm_report.parse(report)
    half = [int.from_bytes(parsed.signature[i : i + 48]) for i in (0, 48)]
    (tmp_path / "signature").write_bytes(ecdsa_der(*half))
    (tmp_path / "signed").write_bytes(parsed.signed)
    key = subprocess.run(
        ["openssl", "x509", "-in", paths[0], "-noout", "-pubkey"], check=True, capture_output=True
    ).stdout
    (tmp_path / "key.pem").write_bytes(key)
    command = ["openssl", "dgst", "-sha384", "-verify", str(tmp_path / "key.pem")]
    command += ["-signature", str(tmp_path / "signature"), str(tmp_path / "signed")]
    subprocess.run(command, check=True)


def test_how_genuine_gpus_protect_what_they_send() -> None:
    """Four GPUs of one machine use switches; those of 2023 stand alone."""
    modes = [judged(ALL[name]()).mode for name in ALL if name != "switch"]
    assert modes == [2, 0, 2, 2, 2, 2, 0]
    four = [judged(sent("multi_gpu_hopper", index)) for index in range(4)]
    assert {len(one) for device in four for one in device.switches} == {8}
    assert all(device.switches & four[0].switches for device in four)
    (own,) = judged(ALL["switch"]()).switches
    serial = judged(ALL["switch"]()).path[1].serial_number
    # The switch's own certificate has the identity that it reports, in the same octet order.
    assert serial.to_bytes(9)[1:] == own


@pytest.mark.parametrize("name", ["held certificate", "hopper", "switch"])
def test_without_an_answer_about_revocation_nothing_is_known(name: str) -> None:
    """One certificate is on hold, which the evidence alone does not show."""
    device = judged(ALL[name]())
    for certificate, issuer in pairwise(device.path[1:]):
        with pytest.raises(UndecidedError, match="no answer for"):
            nvidia_ocsp.check(certificate, issuer, (), AT)


def test_a_report_with_a_wrong_signature_is_refused() -> None:
    with pytest.raises(EvidenceError, match="not signed by the device's key"):
        judged(older("hopperAttestationReportInvalidSignature"))


def test_the_report_of_another_device_is_refused() -> None:
    first, second = sent("multi_gpu_hopper", 0), sent("multi_gpu_hopper", 1)
    with pytest.raises(EvidenceError, match="not signed by the device's key"):
        judged((first[0], second[1], first[2]))


def test_another_nonce_is_refused() -> None:
    report, pem, nonce = sent("hopper_evidence")
    with pytest.raises(EvidenceError, match="answers a different nonce"):
        judged((report, pem, nonce[::-1]))


def test_another_root_and_a_short_chain_are_refused() -> None:
    report, pem, nonce = sent("hopper_evidence")
    chain = chain_of(pem)
    for given, root_ in ((chain, chain[3]), (chain[1:], chain[-1]), (chain[::-1], chain[-1])):
        with pytest.raises(EvidenceError, match="does not chain to the accepted root"):
            nvidia_device.verify(report, given, root_, nonce, AT)


def test_before_its_certificates_nothing_is_verified() -> None:
    with pytest.raises(EvidenceError, match="is valid from 2022"):
        judged(sent("hopper_evidence"), datetime(2021, 12, 1, tzinfo=UTC))


@pytest.mark.parametrize("name", ["hopper", "switch"])
def test_no_octet_of_a_report_can_change(name: str) -> None:
    report, pem, nonce = ALL[name]()
    chain, root_ = chain_of(pem), root()
    for place in range(0, len(report), 61):
        changed = bytearray(report)
        changed[place] ^= 1
        with pytest.raises(EvidenceError):
            nvidia_device.verify(bytes(changed), chain, root_, nonce, AT)
    for odd in (report[:-1], report + b"\0", b"", report[:37]):
        with pytest.raises(EvidenceError):
            nvidia_device.verify(odd, chain, root_, nonce, AT)


def test_an_unknown_version_is_undecided() -> None:
    report, pem, nonce = sent("hopper_evidence")
    with pytest.raises(UndecidedError, match="SPDM version 0x12 is not known"):
        judged((b"\x12" + report[1:], pem, nonce))


# Reference measurements.


def rim_root() -> bytes:
    return pem_ders(read("nvidia/rim_root.crt"))[0]


def test_openssl_agrees_on_the_rims_chain_and_signature(tmp_path: Path) -> None:
    """The signed bytes are those that the second verifier canonicalizes."""
    top = second_gpu.Element(minidom.parseString(read(RIM)).documentElement, {})  # noqa: S318 - a file of ours
    signature = top.only("Signature", second_gpu.DSIG)
    data = signature.only("KeyInfo", second_gpu.DSIG).only("X509Data", second_gpu.DSIG)
    chain = data.all("X509Certificate", second_gpu.DSIG)
    for index, one in enumerate(chain):
        body = "".join(one.text().split())
        lines = [body[at : at + 64] for at in range(0, len(body), 64)]
        text = ["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""]
        (tmp_path / f"{index}.pem").write_text("\n".join(text))
    paths = [str(tmp_path / f"{index}.pem") for index in range(len(chain))]
    between = [word for path in paths[1:-1] for word in ("-untrusted", path)]
    command = ["openssl", "verify", "-CAfile", paths[-1], *between]
    subprocess.run([*command, "-attime", str(int(AT.timestamp())), paths[0]], check=True)
    value = b64decode("".join(signature.only("SignatureValue", second_gpu.DSIG).text().split()))
    half = [int.from_bytes(value[at : at + 48]) for at in (0, 48)]
    (tmp_path / "signature").write_bytes(ecdsa_der(*half))
    signed = signature.only("SignedInfo", second_gpu.DSIG).canonical()
    (tmp_path / "signed").write_text(signed)
    key = subprocess.run(
        ["openssl", "x509", "-in", paths[0], "-noout", "-pubkey"], check=True, capture_output=True
    ).stdout
    (tmp_path / "key.pem").write_bytes(key)
    command = ["openssl", "dgst", "-sha384", "-verify", str(tmp_path / "key.pem")]
    command += ["-signature", str(tmp_path / "signature"), str(tmp_path / "signed")]
    subprocess.run(command, check=True)


def test_two_readers_agree_on_a_genuine_rim() -> None:
    mine = nvidia_rim.load(read(RIM), rim_root(), AT)
    other = second_gpu.Rim(read(RIM), rim_root(), AT)
    assert (mine.product, mine.version) == (other.product, other.version)
    assert mine.allowed == other.allowed


def test_a_genuine_rim_is_read() -> None:
    rim = nvidia_rim.load(read(RIM), rim_root(), AT)
    assert (rim.product, rim.version) == ("GH100", "550.144.03")
    assert {7, 35} <= set(rim.allowed)
    assert all(len(one) == 96 for digests in rim.allowed.values() for one in digests)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("incorrect_signature_driver_rim", "is not signed by its certificate"),
        ("incorrect_cert_chain_driver_rim", "do not chain to the accepted root|was not issued by"),
    ],
)
def test_what_is_published_as_wrong_is_refused(name: str, words: str) -> None:
    with pytest.raises(EvidenceError, match=words):
        nvidia_rim.load(read(f"nvidia/{name}.xml"), rim_root(), AT)


def changes(data: bytes) -> Iterator[bytes]:
    """Yield copies of the RIM, each with a change of content."""
    yield data.replace(b'version="1.0"', b'version="1.1"', 1)
    yield data.replace(b'active="False"', b'active="True"', 1)
    yield data.replace(b'colloquialVersion="550.144.03"', b'colloquialVersion="550.144.04"')
    yield data.replace(b"</ns0:Payload>", b"<ns0:Resource/></ns0:Payload>")
    yield data.replace(b"    </ns0:Payload>", b"</ns0:Payload>")
    yield data.replace(b'xmlns:ns2="http://www.w3.org/2001/04/xmlenc#sha384"', b'xmlns:ns2="urn:x"')
    yield data.replace(b"BqNofy", b"BqNofz")


def test_no_change_of_a_rim_is_passed_over() -> None:
    data = read(RIM)
    for changed in changes(data):
        assert changed != data
        with pytest.raises(EvidenceError):
            nvidia_rim.load(changed, rim_root(), AT)


def test_what_says_the_same_is_the_same() -> None:
    """Quotes, the order of attributes, and the form of an empty element carry no meaning."""
    data = read(RIM)
    same = data.replace(b'corpus="false" name="GH100"', b"name='GH100'   corpus=\"false\"")
    same = same.replace(
        b'role="softwareCreator tagCreator"/>', b'role="softwareCreator tagCreator"></ns0:Entity>'
    )
    assert same != data
    assert nvidia_rim.load(same, rim_root(), AT) == nvidia_rim.load(data, rim_root(), AT)


@pytest.mark.parametrize(
    "odd",
    [
        b'<!DOCTYPE a [<!ENTITY e "x">]>',
        b"<!-- -->",
        b"<?a b?>",
        b"<![CDATA[x]]>",
        b"&amp;",
        b"\r\n",
    ],
)
def test_what_makes_xml_hard_to_sign_is_not_read(odd: bytes) -> None:
    with pytest.raises(UndecidedError, match="which is not read"):
        nvidia_rim.load(read(RIM).replace(b"\n", odd, 1), rim_root(), AT)


def test_a_rim_has_limits() -> None:
    with pytest.raises(EvidenceError, match="more than 262144"):
        nvidia_rim.load(bytes((1 << 18) + 1), rim_root(), AT)
    for deep in (b"<a>" * 17, b"<a>" + b"<b/>" * 1024):
        with pytest.raises(EvidenceError, match="too many elements"):
            nvidia_rim.load(deep, rim_root(), AT)
    for broken in (b"", b"<a>", b"<a></b>", b"\xff"):
        with pytest.raises(EvidenceError, match="not well-formed"):
            nvidia_rim.load(broken, rim_root(), AT)


# Compared with a RIM of a test CA.


def rim_of(version: str, wanted: nvidia_forge.Measurements) -> nvidia_rim.Rim:
    return nvidia_rim.load(nvidia_forge.rim(version, wanted), nvidia_forge.ca_root(), AT)


Measurements = dict[int, tuple[bool, list[bytes]]]


def hopper() -> tuple[nvidia_device.Device, Measurements, Measurements]:
    """Return a genuine GPU, with reference values of its driver and VBIOS that match it."""
    device = judged(sent("hopper_evidence"))
    values = device.report.measurements
    driver: Measurements = {7: (True, [bytes(48), values[7]]), 9: (False, [bytes(48)])}
    vbios: Measurements = {9: (True, [values[9]]), 35: (True, [b"\1" * 48])}
    return device, driver, vbios


def test_measurements_that_are_allowed() -> None:
    device, driver, vbios = hopper()
    # Its video decoder is off, so measurement 35 does not count.
    assert device.report.fields[nvidia_device.NVDEC] == nvidia_device.DISABLED
    rims = rim_of(device.driver, driver), rim_of(device.vbios, vbios)
    assert nvidia_rim.compare(device, *rims) == 2


def test_a_measurement_that_is_not_allowed_is_refused() -> None:
    device, driver, vbios = hopper()
    driver[7] = (True, [b"\2" * 48])
    with pytest.raises(
        EvidenceError, match=r"measurements \[7\] are not among those that NVIDIA published"
    ):
        nvidia_rim.compare(device, rim_of(device.driver, driver), rim_of(device.vbios, vbios))


def test_a_measurement_that_the_report_lacks_is_refused() -> None:
    device, driver, vbios = hopper()
    driver[64] = (True, [bytes(48)])
    with pytest.raises(EvidenceError, match=r"measurements \[64\] are not among those"):
        nvidia_rim.compare(device, rim_of(device.driver, driver), rim_of(device.vbios, vbios))


def test_where_the_decoder_is_on_it_counts() -> None:
    device, driver, vbios = hopper()
    fields = dict(device.report.fields) | {nvidia_device.NVDEC: nvidia_device.ENABLED}
    on = replace(device, report=replace(device.report, fields=fields))
    with pytest.raises(EvidenceError, match=r"measurements \[35\] are not among those"):
        nvidia_rim.compare(on, rim_of(device.driver, driver), rim_of(device.vbios, vbios))


def test_a_rim_of_another_version_says_nothing() -> None:
    device, driver, vbios = hopper()
    with pytest.raises(
        UndecidedError, match=r"the RIM is for driver 1\.2, the device runs 590\.12"
    ):
        nvidia_rim.compare(device, rim_of("1.2", driver), rim_of(device.vbios, vbios))
    with pytest.raises(UndecidedError, match="the RIM is for driver 550"):
        nvidia_rim.compare(
            device, nvidia_rim.load(read(RIM), rim_root(), AT), rim_of(device.vbios, vbios)
        )


def test_two_rims_may_not_speak_of_one_measurement() -> None:
    device, driver, vbios = hopper()
    vbios[7] = driver[7]
    with pytest.raises(EvidenceError, match="two RIMs give the same measurement"):
        nvidia_rim.compare(device, rim_of(device.driver, driver), rim_of(device.vbios, vbios))


def test_no_measurement_is_no_match() -> None:
    device, _, _ = hopper()
    nothing: Measurements = {0: (False, [bytes(48)])}
    with pytest.raises(EvidenceError, match=r"measurements \[\] are not among those"):
        nvidia_rim.compare(device, rim_of(device.driver, nothing), rim_of(device.vbios, {}))


@pytest.mark.parametrize(
    "wanted",
    [
        {0: (True, [])},
        {0: (True, [b"short"])},
        {1000: (True, [bytes(48)])},
        {0: (True, [bytes(48)] * 65)},
    ],
)
def test_a_malformed_measurement_is_refused(wanted: Measurements) -> None:
    with pytest.raises(EvidenceError, match="the RIM"):
        rim_of("1", wanted)
