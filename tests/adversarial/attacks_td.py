"""Attacks on Intel's trust domains: the processor, the enclave, the collateral, the TD and its TPM.

`UNDECIDED` holds the rows in which a check stays open and none fails.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509 import load_der_x509_crl

from aicert.appraisal.evidence.accepted import Td
from tests.adversarial import chip_forge, td_forge
from tests.adversarial.attacks import MALFORMED, Attack
from tests.adversarial.attacks_chip import json_platform, second
from tests.adversarial.attacks_platform import LAST_YEAR
from tests.adversarial.ca_forge import ec_key, ecdsa, root, rsa_key, usage
from tests.adversarial.forger import Scene
from tests.adversarial.td_forge import ISSUED, NEXT, PCK_CA, ROOT

Change = Callable[[Scene], object]
OWN = ec_key("own maker")


def chain(make: Callable[[], tuple[bytes, ...]]) -> Change:
    return lambda scene: scene.put("pck_chain", make())


def processor(**options: Any) -> Change:
    """Put a processor certificate with other properties in the chain."""
    return chain(lambda: (td_forge.pck(**options), td_forge.pck_ca(), td_forge.certified_root()))


def says(**options: Any) -> Change:
    """Change what the processor's certificate states about the processor."""
    return processor(extension=td_forge.sgx_extension(**options))


def middle(**options: Any) -> Change:
    return chain(lambda: (td_forge.pck(), td_forge.pck_ca(**options), td_forge.certified_root()))


def td(**fields: Any) -> Change:
    """Let the enclave sign the quote of a TD with other properties."""
    return lambda scene: scene.edit("td", lambda given: given | fields)


def enclave(**fields: Any) -> Change:
    """Let the processor really have a quoting enclave with other properties."""
    return lambda scene: scene.edit("enclave", lambda given: given | fields)


def info(**fields: Any) -> Change:
    """Change the maker's TCB info; it is signed as changed."""
    return lambda scene: scene.edit("tcb_info", lambda given: given | fields)


def without(part: str, key: str) -> Change:
    def left(given: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in given.items() if name != key}

    return lambda scene: scene.edit(part, left)


def identity(**fields: Any) -> Change:
    return lambda scene: scene.edit("qe_identity", lambda given: given | fields)


def collateral(make: Callable[[], dict[str, str]]) -> Change:
    """Exchange parts of the collateral after the maker signed it."""
    return lambda scene: scene.edit("collateral", lambda given: given | make())


def policy(**fields: Any) -> Change:
    return lambda scene: scene.edit("policy", lambda given: replace(given, **fields))


def quote(change: Callable[[bytes], bytes]) -> Change:
    return lambda scene: scene.edit("td_quote", change)


def own_maker(scene: Scene) -> None:
    """Use a whole chain of the builder's own, with the maker's names."""
    own = root(ROOT, OWN)
    authority = td_forge.pck_ca(issuer_key=OWN)
    scene.put("pck_chain", (td_forge.pck(), authority, own))


def shallow_root(scene: Scene) -> None:
    """Use a root whose path length allows no CA below it."""
    shallow = root(ROOT, ec_key("intel root"), path_length=0)
    scene.put("pck_chain", (td_forge.pck(), td_forge.pck_ca(), shallow))
    policy(td_roots=(replace(td_forge.maker(), root=shallow),))(scene)


def debug_hidden(scene: Scene) -> None:
    """Clear the debug bit of a debugged TD's quote after the enclave signed it."""
    td(attributes=1 << 28 | 1)(scene)

    def cleared(data: bytes) -> bytes:
        return data[:168] + bytes((data[168] & 0xFE,)) + data[169:]

    scene.edit("td_quote", cleared)


def resigned(key: str = "tcb signer", **signer: Any) -> Change:
    """Sign the TCB info with another key, and send a chain that fits that key."""

    def change(scene: Scene) -> None:
        def exchanged(given: dict[str, str]) -> dict[str, str]:
            signature = td_forge.raw(ec_key(key), given["tcb_info"].encode()).hex()
            certificate = td_forge.signer(key=ec_key(key), **signer)
            issuers = td_forge.pems(certificate, td_forge.certified_root())
            return given | {"tcb_info_signature": signature, "tcb_info_issuer_chain": issuers}

        scene.edit("collateral", exchanged)

    return change


def signed_by_the_processor(scene: Scene) -> None:
    """Sign TCB info with the processor's own key, and send that key's whole chain."""

    def exchanged(given: dict[str, str]) -> dict[str, str]:
        signature = td_forge.raw(ec_key("pck"), given["tcb_info"].encode()).hex()
        issuers = td_forge.pems(td_forge.pck(), td_forge.pck_ca(), td_forge.certified_root())
        return given | {"tcb_info_signature": signature, "tcb_info_issuer_chain": issuers}

    scene.edit("collateral", exchanged)


def own_signer(scene: Scene) -> None:
    def exchanged(given: dict[str, str]) -> dict[str, str]:
        signature = td_forge.raw(OWN, given["tcb_info"].encode()).hex()
        certificate = td_forge.signer(key=OWN, issuer_key=OWN)
        issuers = td_forge.pems(certificate, root(ROOT, OWN))
        return given | {"tcb_info_signature": signature, "tcb_info_issuer_chain": issuers}

    scene.edit("collateral", exchanged)


def edited(old: str, new: str) -> Change:
    """Change the TCB info after it was signed."""
    return lambda scene: scene.edit(
        "collateral", lambda given: given | {"tcb_info": given["tcb_info"].replace(old, new)}
    )


def lists(**crls: str) -> Change:
    return collateral(lambda: crls)


def root_list(*serials: int, key: str = "intel root", **options: Any) -> Change:
    return lists(root_ca_crl=td_forge.revoked(ROOT, ec_key(key), *serials, **options))


def pck_list(*serials: int, key: str = "pck ca", issuer: str = PCK_CA, **options: Any) -> Change:
    return lists(pck_crl=td_forge.revoked(issuer, ec_key(key), *serials, **options))


def endless(scene: Scene) -> None:
    """Leave out of a revocation list when the next one comes, which RFC 5280 requires."""
    crl = bytes.fromhex(td_forge.revoked(PCK_CA, ec_key("pck ca")))
    tbs = load_der_x509_crl(crl).tbs_certlist_bytes
    content = tbs[2 if tbs[1] < 0x80 else 3 :]
    left = td_forge.der(
        0x30, content.replace(b"\x17\x0d" + NEXT.strftime("%y%m%d%H%M%SZ").encode(), b"")
    )
    signature = b"\0" + ec_key("pck ca").sign(left, ecdsa(SHA256()))
    algorithm = td_forge.der(0x30, td_forge.der(6, td_forge.ECDSA))
    whole = td_forge.der(0x30, left, algorithm, td_forge.der(3, signature))
    lists(pck_crl=whole.hex())(scene)


def unknown_algorithm(scene: Scene) -> None:
    """Sign a revocation list with an unknown algorithm."""
    crl = bytes.fromhex(td_forge.revoked(PCK_CA, ec_key("pck ca")))
    lists(pck_crl=crl.replace(td_forge.ECDSA, td_forge.ECDSA[:-1] + b"\x7f").hex())(scene)


def retired(scene: Scene) -> None:
    last = (scene.at - timedelta(days=1)).date()
    policy(tds=(replace(td_forge.PARAVISOR, until=last),))(scene)


def of_another_vm(scene: Scene) -> None:
    scene.ak = rsa_key("other vm")


def runtime_exchanged(scene: Scene) -> None:
    """Pair another machine's quote with runtime data that names our AK."""
    other = chip_forge.runtime([second("HCLAkPub")])
    scene.put("report_data", chip_forge.report_data(other))


def levels(status: str) -> Change:
    def change(given: dict[str, Any]) -> dict[str, Any]:
        first, *rest = given["tcbLevels"]
        return given | {"tcbLevels": [first | {"tcbStatus": status}, *rest]}

    return lambda scene: scene.edit("tcb_info", change)


def fewer_components(given: dict[str, Any]) -> dict[str, Any]:
    first, *rest = given["tcbLevels"]
    tcb = first["tcb"] | {"sgxtcbcomponents": first["tcb"]["sgxtcbcomponents"][:15]}
    return given | {"tcbLevels": [first | {"tcb": tcb}, *rest]}


COMPONENTS, PCE = td_forge.COMPONENTS, td_forge.PCE_SVN
OLD = (2, *COMPONENTS[1:], PCE)
CHIP, GUEST, BINDING = "platform.chip", "platform.guest", "platform.binding"
ROWS: tuple[tuple[str, str, Change], ...] = (
    ("processor certified under the builder's own root", CHIP, own_maker),
    ("processor certified by another CA of that name", CHIP, processor(issuer_key=OWN)),
    ("processor certified by another CA that names the maker's key", CHIP, processor(
        issuer_key=OWN, authority=ec_key("pck ca"))),
    ("processor certified by the root itself", CHIP, processor(
        issuer=ROOT, issuer_key=ec_key("intel root"))),
    ("processor's certificate alone", CHIP, chain(lambda: (td_forge.pck(),))),
    ("processor's chain without its root", CHIP, chain(
        lambda: (td_forge.pck(), td_forge.pck_ca()))),
    ("processor's certificate is a CA's", CHIP, processor(ca=True, key_usage=usage(cert=True))),
    ("processor's certificate expired", CHIP, processor(end=LAST_YEAR)),
    ("processor's certificate that names no processor", CHIP, processor(extension=None)),
    ("processor's certificate with a negative version", CHIP, says(
        components=(-1, *COMPONENTS[1:], PCE))),
    ("processor's certificate with one version too few", CHIP, says(components=COMPONENTS)),
    ("processor's certificate that names its kind twice", CHIP, says(twice=True)),
    ("processor's extension cut short", CHIP, processor(
        extension=td_forge.sgx_extension()[:-1])),
    ("processor's extension of endless length", CHIP, processor(extension=b"\x30\x80\0\0")),
    ("processor's extension that is no list", CHIP, processor(extension=b"\x04\2\0\0")),
    ("processor's key on another curve", CHIP, processor(key=ec_key("pck", "P-384"))),
    ("CA of processors that is none", CHIP, middle(ca=False)),
    ("CA of processors that may not sign", CHIP, middle(key_usage=usage())),
    ("CA of processors below one too many", CHIP, shallow_root),
    ("CA of processors that is revoked", CHIP, root_list(77)),
    ("processor that is revoked", CHIP, pck_list(4711)),
    ("enclave's report signed by another processor", CHIP, enclave(key=ec_key("another pck"))),
    ("enclave's report that names another key", CHIP, enclave(names=bytes(64))),
    ("enclave's report with more than the name of the key", CHIP, lambda s: s.edit(
        "enclave", lambda e: e | {"auth_data": b"", "names": b"\1" * 64})),
    ("quote's key that is no point", CHIP, enclave(point=bytes(63) + b"\1")),
    ("quote signed by another enclave's key", CHIP, quote(
        lambda q: q[:636] + bytes(63) + b"\1" + q[700:])),
    ("debugging of a TD hidden after signing", CHIP, debug_hidden),
    ("the builder's own quoting enclave", CHIP, enclave(signer=bytes(32))),
    ("another of the maker's enclaves", CHIP, enclave(product=1)),
    ("quoting enclave that is debugged", CHIP, enclave(
        attributes=bytes.fromhex("1700000000000000e700000000000000"))),
    ("quoting enclave with other properties", CHIP, enclave(misc=b"\1\0\0\0")),
    ("TCB info changed after signing", CHIP, edited("OutOfDate", "UpToDate")),
    ("TCB info signed by another key", CHIP, collateral(lambda: {
        "tcb_info_signature": "11" * 64})),
    ("TCB info signed by somebody with the signer's name", CHIP, own_signer),
    ("TCB info signed by the processor", CHIP, signed_by_the_processor),
    ("TCB info signed by another of the maker's keys", CHIP, resigned(subject="Other Signing")),
    ("TCB info signed by a CA of the maker's", CHIP, resigned(
        ca=True, key_usage=usage(cert=True))),
    ("TCB info signed by an expired key", CHIP, resigned(end=LAST_YEAR)),
    ("TCB info signed by a revoked key", CHIP, resigned(serial=2)),
    ("TCB info's signature of odd digits", CHIP, collateral(lambda: {
        "tcb_info_signature": "1" * 127})),
    ("TCB info of fifteen components", CHIP, lambda s: s.edit("tcb_info", fewer_components)),
    ("TCB info without its kind of processor", CHIP, without("tcb_info", "fmspc")),
    ("TCB info with a kind that is no number", CHIP, info(fmspc="no hex digits")),
    ("TCB info that says no date", CHIP, info(issueDate="yesterday")),
    ("TCB info that is no JSON", CHIP, lambda s: s.edit("collateral", lambda c: c | {
        "tcb_info": "{", "tcb_info_signature": td_forge.raw(ec_key("tcb signer"), b"{").hex()})),
    ("QE identity for other data", CHIP, identity(mrsigner="11" * 32)),
    ("list of revoked processors by another CA", CHIP, pck_list(key="own maker")),
    ("list of revoked processors of another name", CHIP, pck_list(issuer=ROOT)),
    ("list of revoked CAs by another root", CHIP, root_list(key="own maker")),
    ("list of revoked processors that is none", CHIP, lists(pck_crl="30030201")),
    ("list of revoked processors that is no hexadecimal", CHIP, lists(pck_crl="x")),
    ("list of revoked processors with spaces", CHIP, lambda s: s.edit(
        "collateral", lambda c: c | {"pck_crl": c["pck_crl"].replace("30", "30 ", 1)})),
    ("collateral is no JSON", CHIP, lambda s: s.put("collateral_file", b"no JSON")),
    ("collateral with an unknown key", CHIP, lists(note="x")),
    ("collateral without revocations", CHIP, without("collateral", "pck_crl")),
    ("collateral whose chain is no PEM", CHIP, lists(qe_identity_issuer_chain="x")),
    ("collateral whose chain has text between", CHIP, lambda s: s.edit(
        "collateral", lambda c: c | {"tcb_info_issuer_chain": c["tcb_info_issuer_chain"].replace(
            "-----END CERTIFICATE-----\n", "-----END CERTIFICATE-----\nnote\n", 1)})),
    ("collateral whose chain is no base64", CHIP, lists(
        tcb_info_issuer_chain="-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n")),
    ("TD quote of a few bytes", CHIP, quote(lambda q: q[:40])),
    ("TD quote cut short in its body", CHIP, quote(lambda q: q[:600])),
    ("TD quote cut short in its signature", CHIP, quote(lambda q: q[:-1])),
    ("something after the TD quote", CHIP, quote(lambda q: q + b"\0x")),
    ("TD quote with a body of another size", CHIP, td(version=5, body_kind=2, body_size=600)),
    ("enclave's data too long", CHIP, enclave(auth_data=bytes(257))),
    ("TD that is debugged", GUEST, td(attributes=1 << 28 | 1)),
    ("TD whose performance is watched", GUEST, td(attributes=1 << 28 | 1 << 5)),
    ("TD that may be migrated", GUEST, td(attributes=1 << 28 | 1 << 29)),
    ("TD with the builder's own paravisor", GUEST, td(mrtd=b"\x66" * 48)),
    ("TD with something extended below its paravisor", GUEST, td(
        rtmrs=(bytes(48), bytes(48), bytes(48), b"\1" * 48))),
    ("TD whose paravisor is retired", GUEST, retired),
    ("TDX module that the maker did not sign", GUEST, td(module_signer=b"\1" * 48)),
    ("TDX module with other attributes", GUEST, td(module_attributes=b"\1" + bytes(7))),
    ("old TDX module", GUEST, td(tcb_svn=bytes((5, 1, 3)) + bytes(13))),
    ("TDX module below every level", GUEST, td(tcb_svn=bytes((1, 1, 3)) + bytes(13))),
    ("old TDX module of the first kind", GUEST, td(tcb_svn=bytes((4, 0, 3)) + bytes(13))),
    ("old microcode of a TD's processor", GUEST, says(components=OLD)),
    ("old PCE of a TD's processor", GUEST, says(components=(*COMPONENTS, PCE - 1))),
    ("microcode below every level", GUEST, says(components=(1, *COMPONENTS[1:], PCE))),
    ("late microcode below every level", GUEST, td(tcb_svn=bytes((7, 1, 1)) + bytes(13))),
    ("processor whose firmware is revoked", GUEST, levels("Revoked")),
    ("old quoting enclave", GUEST, enclave(svn=3)),
    ("quoting enclave below every level", GUEST, enclave(svn=2)),
    ("collateral of an evaluation that is too old", GUEST, info(
        tcbEvaluationDataNumber=td_forge.EVALUATION - 1)),
    ("QE identity of an evaluation that is too old", GUEST, identity(
        tcbEvaluationDataNumber=td_forge.EVALUATION - 1)),
    ("AK certificate of another machine than the TD", BINDING, of_another_vm),
    ("runtime data of a TD exchanged", BINDING, runtime_exchanged),
    ("more in the TD's report data than the digest", BINDING, lambda s: s.edit(
        "report_data", lambda data: data[:32] + b"\1" * 32)),
    ("TD quote too large", MALFORMED, json_platform(
        lambda given: given.update(quote="AAAA" * 2731))),
    ("collateral too large", MALFORMED, json_platform(
        lambda given: given.update(collateral="AAAA" * 87382))),
)  # fmt: skip
BARE: tuple[tuple[str, str, Change], ...] = (
    ("bare TD of another system", GUEST, td(rtmrs=(*td_forge.RTMRS[:2], b"\1" * 48, bytes(48)))),
    ("bare TD of other firmware", GUEST, td(mrtd=b"\1" * 48)),
    ("bare TD that names another key", BINDING, lambda s: s.put(
        "td_report_data", td_forge.bound(s.get("nonce"), rsa_key("other vm")))),
    ("bare TD that answers another challenge", BINDING, lambda s: s.put(
        "td_report_data", td_forge.bound(bytes(32), s.ak))),
    ("bare TD with a quote beside its quote", MALFORMED, json_platform(
        lambda given: given.update(quote=given["report"]))),
    ("bare TD with a chip certificate", MALFORMED, json_platform(
        lambda given: given.update(chipCertificate=given["report"]))),
)  # fmt: skip

ATTACKS = (
    *(Attack(name, check, change, "azure td") for name, check, change in ROWS),
    *(Attack(name, check, change, "bare td") for name, check, change in BARE),
)

# Name, the first check that stays open (None: passed), and the change.
UNDECIDED: tuple[tuple[str, str | None, Change], ...] = (
    ("TD without a quote", CHIP, lambda s: s.put("td_quote", None)),
    ("TD without collateral", CHIP, lambda s: s.put("collateral_file", None)),
    ("policy names no maker of processors with TDX", CHIP, policy(td_roots=())),
    ("policy names no TD", GUEST, policy(tds=())),
    ("collateral that is expired", CHIP, info(nextUpdate="2026-10-31T00:00:00Z")),
    ("collateral of the future", CHIP, identity(issueDate="2026-11-02T00:00:00Z")),
    ("collateral of another kind of processor", CHIP, info(fmspc="00" * 6)),
    ("collateral of an unknown version", CHIP, info(version=4)),
    ("collateral of another kind of machine", CHIP, info(id="SGX")),
    ("collateral of another CA's processors", CHIP, lists(pck_crl_issuer_chain=td_forge.pems(
        td_forge.pck_ca(serial=78), td_forge.certified_root()))),
    ("list of revoked CAs that is expired", CHIP, root_list(end=ISSUED + timedelta(days=1))),
    ("list of revoked processors without an end", CHIP, endless),
    ("list of revoked processors with an unknown extension", CHIP, pck_list(critical=True)),
    ("list of revoked processors by an unknown algorithm", CHIP, unknown_algorithm),
    ("TDX module that the maker does not speak of", GUEST, td(
        tcb_svn=bytes((7, 2, 3)) + bytes(13))),
    ("TD with unknown attributes", GUEST, td(attributes=1 << 40)),
    ("TD bound to a service TD", GUEST, td(version=5, body_kind=3, service_td=b"\1" * 48)),
    ("TD quote of an unknown version", CHIP, td(version=6)),
    ("TD quote of an enclave", CHIP, td(tee=0)),
    ("TD quote with an unknown key", CHIP, td(key_kind=3)),
    ("TD quote by another maker's enclave", CHIP, td(vendor="00" * 16)),
    ("TD quote with an unknown body", CHIP, td(version=5, body_kind=4)),
    ("TD quote with unknown certification data", CHIP, enclave(outer=7)),
    ("TD quote whose processor is encrypted", CHIP, enclave(inner=3)),
    ("TD quote of version 5", None, td(version=5)),
    ("TD quote of version 5 and a longer body", None, td(version=5, body_kind=3)),
    ("TD quote padded to the size of its buffer", None, quote(lambda q: q.ljust(8000, b"\0"))),
    ("TD quote whose chain ends with a line", None, enclave(end=b"")),
    ("TDX module of the first kind", None, td(tcb_svn=bytes((5, 0, 3)) + bytes(13))),
    ("TCB info that names one module", None, lambda s: (
        without("tcb_info", "tdxModuleIdentities")(s),
        td(tcb_svn=bytes((5, 0, 3)) + bytes(13))(s))),
    ("TD accepted until today", None, lambda s: policy(
        tds=(replace(td_forge.PARAVISOR, until=s.at.date()),))(s)),
    ("old firmware that the policy accepts", None, lambda s: (
        says(components=OLD)(s),
        policy(td_roots=(replace(td_forge.maker(), statuses=frozenset(
            ("UpToDate", "OutOfDate"))),))(s))),
    ("other TDs accepted too", None, policy(
        tds=(Td(name="another", mrtd=bytes(48)), td_forge.PARAVISOR))),
    ("collateral on its last second", None, info(nextUpdate="2026-11-01T00:00:00Z")),
)  # fmt: skip
