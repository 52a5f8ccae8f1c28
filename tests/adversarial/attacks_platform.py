"""Attacks on the AK's certificate chain and on the tier that follows from its root."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from cryptography import x509

from aicert.trust.built_in import built_in
from tests.adversarial import ca_forge
from tests.adversarial.attacks import Attack
from tests.adversarial.ca_forge import EKU_AK, EKU_EK, ec_key, issue, root, rsa_key, usage
from tests.adversarial.forger import AZURE_LIKE, Scene


def ak(scene: Scene, **options: Any) -> bytes:
    """Issue an AK certificate like the scene's own, except for `options`."""
    return issue(AZURE_LIKE, options.pop("key", scene.ak), **(scene.get("ak_options") | options))


def chained(**options: Any) -> Any:
    return lambda scene: scene.put("ak_options", scene.get("ak_options") | options)


def self_signed(scene: Scene) -> None:
    der = issue(AZURE_LIKE, scene.ak, issuer=AZURE_LIKE, issuer_key=scene.ak, purposes=(EKU_AK,))
    scene.put("chain", (der,))


def own_ca(scene: Scene) -> None:
    """Send a CA of the same name along with the chain, as in the prior art's forgery."""
    key = ec_key("attacker's CA")
    der = ak(scene, issuer_key=key)
    scene.put("chain", (der, root(scene.ca_name, key, driver=scene.driver)))


def own_ca_without_root(scene: Scene) -> None:
    scene.put("chain", (ak(scene, issuer_key=ec_key("attacker's CA")),))


def intermediate(scene: Scene, **options: Any) -> tuple[bytes, bytes]:
    """Return a leaf and an intermediate; `options` are properties of the intermediate."""
    key = ec_key("intermediate")
    defaults: dict[str, Any] = {
        "issuer": scene.ca_name,
        "issuer_key": scene.ca_key,
        "ca": True,
        "path_length": 0,
        "key_usage": usage(cert=True),
        "driver": scene.driver,
    }
    middle = issue("intermediate", key, **(defaults | options))
    return ak(scene, issuer="intermediate", issuer_key=key), middle


def with_intermediate(**options: Any) -> Any:
    return lambda scene: scene.put("chain", intermediate(scene, **options))


def reordered(scene: Scene) -> None:
    scene.put("chain", tuple(reversed(intermediate(scene))))


def over_long(scene: Scene) -> None:
    leaf, middle = intermediate(scene)
    scene.put("chain", (leaf, middle, middle, middle, middle))


def stranger_appended(scene: Scene) -> None:
    key = ec_key("stranger")
    scene.put("chain", (*scene.get("chain"), root("stranger", key)))


def two_levels_below(scene: Scene, **options: Any) -> None:
    _, middle = intermediate(scene, **options)
    key = ec_key("second intermediate")
    second = issue(
        "second",
        key,
        issuer="intermediate",
        issuer_key=ec_key("intermediate"),
        ca=True,
        key_usage=usage(cert=True),
    )
    scene.put("chain", (ak(scene, issuer="second", issuer_key=key), second, middle))


def leaf_issues(scene: Scene) -> None:
    """Certify another key with the key of a certified AK."""
    holder = ec_key("certified key")
    middle = ak(scene, key=holder)
    scene.put("chain", (ak(scene, issuer=AZURE_LIKE, issuer_key=holder), middle))


def der_then_pem(scene: Scene) -> None:
    (der,) = scene.get("chain")
    other = root("other", ec_key("other"))
    scene.put("chain", (der + ca_forge.pem(other),))


def der_then_der(scene: Scene) -> None:
    (der,) = scene.get("chain")
    scene.put("chain", (der + der,))


def odd_padding(scene: Scene) -> None:
    (der,) = scene.get("chain")
    scene.put("chain", (der + b"\x00" * 10 + b"\xff",))


def cut_short(scene: Scene) -> None:
    (der,) = scene.get("chain")
    scene.put("chain", (der[:-1],))


def only_root(scene: Scene) -> None:
    scene.put("chain", (scene.get("root"),))


def root_twice(scene: Scene) -> None:
    root_der = scene.get("root")
    scene.edit("chain", lambda chain: (*chain, root_der.ljust(4096, b"\0"), root_der))


def rsa_ca(scene: Scene) -> None:
    """Use a root with an RSA key and an AK certificate signed with SHA-1."""
    key = rsa_key("rsa ca")
    scene.put("root", root(scene.ca_name, key, driver=scene.driver))
    scene.put("chain", (ca_forge.with_sha1(ak(scene, issuer_key=key), key),))


def serial_zero(scene: Scene) -> None:
    (der,) = scene.get("chain")
    scene.put("chain", (ca_forge.with_serial(der, scene.ca_key, 0),))


def negative_serial(scene: Scene) -> None:
    (der,) = scene.get("chain")
    scene.put("chain", (ca_forge.with_serial(der, scene.ca_key, 0x80),))


def algorithm_outside(scene: Scene) -> None:
    """Name ECDSA with SHA-384 outside the signed part, where the part inside names SHA-256."""
    (der,) = scene.get("chain")
    ecdsa = bytes.fromhex("2a8648ce3d0403")
    scene.put("chain", (ca_forge.with_other_algorithm(der, ecdsa + b"\2", ecdsa + b"\3"),))


def unused_bits(scene: Scene) -> None:
    (der,) = scene.get("chain")
    size = len(x509.load_der_x509_certificate(der).signature)
    scene.put("chain", (der[: -size - 1] + b"\1" + der[-size:],))


def pinned(*intermediates: bytes) -> Any:
    """Pin these intermediates under the verifier's root."""

    def change(policy: Any) -> Any:
        root_ = replace(policy.roots[0], intermediates=intermediates)
        return replace(policy, roots=(root_,))

    return lambda scene: scene.edit("policy", change)


def own_intermediate(scene: Scene) -> None:
    """Use a CA with the name and key identifier of a pinned one, but a key of its own."""
    _, middle = intermediate(scene)
    pinned(middle)(scene)
    key = ec_key("attacker's CA")
    pinned_key = ec_key("intermediate")
    scene.put("chain", (ak(scene, issuer="intermediate", issuer_key=key, authority=pinned_key),))


def pinned_two_levels_below(scene: Scene) -> None:
    """Leave out two pinned intermediates; their path lengths hold in the completed chain too."""
    two_levels_below(scene)
    leaf, second, middle = scene.get("chain")
    scene.put("chain", (leaf,))
    pinned(second, middle)(scene)


def with_ek_purpose(**options: Any) -> Any:
    """Use a root whose CAs bear the purpose of endorsement keys, as Google's do."""

    def change(policy: Any) -> Any:
        root_ = replace(policy.roots[0], eku=EKU_EK, needs_eku=False)
        return replace(policy, roots=(root_,))

    def changed(scene: Scene) -> None:
        scene.edit("policy", change)
        chained(**options)(scene)

    return changed


def default_policy(scene: Scene) -> None:
    scene.put("policy", built_in("default"))


def other_subject(scene: Scene) -> None:
    def narrowed(policy: Any) -> Any:
        only = replace(policy.roots[0], subjects=(".ConfidentialVM.Azure.windows.net",))
        return replace(policy, roots=(only,))

    scene.edit("policy", narrowed)


def wants_more(scene: Scene) -> None:
    scene.edit("policy", lambda policy: replace(policy, tier="vtpm"))


def wants_confidential(scene: Scene) -> None:
    scene.edit("policy", lambda policy: replace(policy, tier="confidential"))


def expired(scene: Scene) -> None:
    scene.at = datetime(2040, 1, 1, tzinfo=UTC)


def not_yet_valid(scene: Scene) -> None:
    scene.at = datetime(2020, 1, 1, tzinfo=UTC)


UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")


def odd_name(oid: str, names: str) -> Any:
    """Add an extension with a general name that no library has a class for (RFC 5280, 4.2.1.6)."""
    value = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), bytes.fromhex(names))
    return chained(issuer_key=ec_key("anybody"), extra=((value, False),))


CONSTRAINTS = x509.NameConstraints(
    permitted_subtrees=[x509.DNSName("vm.example")], excluded_subtrees=None
)
LAST_YEAR = datetime(2026, 6, 1, tzinfo=UTC)

ATTACKS = (
    Attack("AK certificate self-signed", "platform.chain", self_signed),
    Attack("own CA of the same name, sent along", "platform.chain", own_ca, "cloud"),
    Attack("own CA of the same name, not sent", "platform.chain", own_ca_without_root, "cloud"),
    Attack("AK certificate without key purpose", "platform.chain", chained(purposes=()), "cloud"),
    Attack("EK certificate as AK", "platform.chain", chained(purposes=(EKU_EK,)), "cloud"),
    Attack("any key purpose as AK", "platform.chain", chained(purposes=("2.5.29.37.0",)), "cloud"),
    Attack("AK certificate is a CA's", "platform.chain", chained(ca=True)),
    Attack("AK may sign certificates", "platform.chain", chained(key_usage=usage(cert=True))),
    Attack("AK not for signatures", "platform.chain", chained(key_usage=usage(sign=False))),
    Attack("chain reordered", "platform.chain", reordered),
    Attack("chain over-long", "platform.chain", over_long),
    Attack("stranger's CA appended", "platform.chain", stranger_appended),
    Attack("root sent along twice", "platform.chain", root_twice),
    Attack("chain is only the root", "platform.chain", only_root),
    Attack("DER and PEM read two ways", "platform.chain", der_then_pem),
    Attack("two DER certificates in one", "platform.chain", der_then_der),
    Attack("padding that is no NV padding", "platform.chain", odd_padding),
    Attack("AK certificate cut short", "platform.chain", cut_short),
    Attack("AK certificate expired", "platform.chain", chained(end=LAST_YEAR)),
    Attack(
        "AK certificate of the future",
        "platform.chain",
        chained(start=ca_forge.UNTIL, end=datetime(2037, 1, 1, tzinfo=UTC)),
    ),
    Attack("root expired at the stated time", "platform.chain", expired),
    Attack("judged before anything was valid", "platform.chain", not_yet_valid),
    Attack("intermediate expired", "platform.chain", with_intermediate(end=LAST_YEAR)),
    Attack("AK certificate signed with SHA-1", "platform.chain", rsa_ca),
    Attack(
        "AK of 1024 bits",
        "platform.chain",
        lambda s: s.put("chain", (ak(s, key=rsa_key("weak", 1024)),)),
    ),
    Attack(
        "intermediate is no CA", "platform.chain", with_intermediate(ca=False, path_length=None)
    ),
    Attack("intermediate without constraints", "platform.chain", with_intermediate(ca=None)),
    Attack("intermediate may not sign", "platform.chain", with_intermediate(key_usage=usage())),
    Attack(
        "intermediate for other keys only", "platform.chain", with_intermediate(purposes=(EKU_EK,))
    ),
    Attack("more intermediates than allowed", "platform.chain", two_levels_below),
    Attack("a certified key certifies another", "platform.chain", leaf_issues),
    Attack("unknown critical extension", "platform.chain", chained(extra=((UNKNOWN, True),))),
    Attack(
        "critical name constraints",
        "platform.chain",
        with_intermediate(extra=((CONSTRAINTS, True),)),
    ),
    Attack("another issuer key named", "platform.chain", chained(authority=ec_key("elsewhere"))),
    Attack("X.400 address as name", "platform.chain", odd_name("2.5.29.17", "3004a3020500")),
    Attack("EDI party as name", "platform.chain", odd_name("2.5.29.17", "3004a5020500")),
    Attack(
        "X.400 address of a revocation list",
        "platform.chain",
        odd_name("2.5.29.31", "300c300aa008a006a304a3020500"),
    ),
    Attack("AK certificate with another algorithm outside", "platform.chain", algorithm_outside),
    Attack("AK certificate with unused bits", "platform.chain", unused_bits),
    Attack("own CA with a pinned one's name", "platform.chain", own_intermediate, "cloud"),
    Attack("pinned CA below one too many", "platform.chain", pinned_two_levels_below, "cloud"),
    Attack(
        "EK certificate under a root of EKs and AKs",
        "platform.chain",
        with_ek_purpose(purposes=(EKU_EK,), key_usage=usage(sign=False)),
        "cloud",
    ),
    Attack(
        "EK certificate that does not say its usage",
        "platform.chain",
        with_ek_purpose(purposes=(EKU_EK,), key_usage=None),
        "cloud",
    ),
    Attack(
        "AK purpose under a root with another",
        "platform.chain",
        with_ek_purpose(),
        "cloud",
    ),
    Attack("serial number zero", "platform.chain", serial_zero),
    Attack("negative serial number", "platform.chain", negative_serial),
    Attack("subject of another service", "platform.chain", other_subject, "cloud"),
    Attack("simulated AK under a cloud root", "platform.chain", chained(driver="qemu"), "cloud"),
    Attack(
        "simulated CA under a cloud root",
        "platform.chain",
        with_intermediate(driver="qemu"),
        "cloud",
    ),
    Attack("software AK under the qemu root", "platform.chain", chained(driver="local"), "qemu"),
    Attack("unmarked AK under a simulated root", "platform.chain", chained(driver=None)),
    Attack("software evidence, default policy", "platform.chain", default_policy),
    Attack("measured-vm evidence, default policy", "platform.chain", default_policy, "qemu"),
    Attack("software root where vtpm is wanted", "platform.tier", wants_more),
    Attack("measured-vm root where vtpm is wanted", "platform.tier", wants_more, "qemu"),
    Attack("vtpm root where confidential is wanted", "platform.tier", wants_confidential, "cloud"),
)
