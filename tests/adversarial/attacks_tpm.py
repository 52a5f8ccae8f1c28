"""Attacks on the quote and on the run key: what the holder of an AK could make a TPM sign."""

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

from tests.adversarial import tpm_forge
from tests.adversarial.attacks import Attack
from tests.adversarial.ca_forge import ec_key, rsa_key
from tests.adversarial.forger import Scene
from tests.adversarial.tpm_forge import SHA1, SHA256, name_of, selection, selections

Change = Callable[[Scene], object]


def signed_by(key: tpm_forge.AkKey, part: str) -> Change:
    return lambda s: s.put(f"{part}_signature", tpm_forge.sign(key, s.get(f"{part}_attest")))


def quote_signature(change: Callable[[bytes], bytes]) -> Change:
    return lambda s: s.edit("quote_signature", change)


def bit_flip(scene: Scene) -> None:
    """Flip a bit of the attestation; the signature stays that from before the flip."""
    attest = scene.get("quote_attest")
    scene.get("quote_signature")
    flipped = bytes([*attest[:-1], attest[-1] ^ 1])
    scene.parts["quote_attest"] = flipped


def ecdsa_by_rsa(scene: Scene) -> None:
    scene.put("quote_signature", tpm_forge.sign(ec_key("any"), scene.get("quote_attest")))


def with_sha1(scene: Scene) -> None:
    scene.put("quote_signature", tpm_forge.sign(scene.ak, scene.get("quote_attest"), hash_=SHA1))


def quoted(**changes: Any) -> Change:
    return lambda s: s.edit("quote", lambda quote: quote | changes)


def selected(*parts: bytes) -> Change:
    return lambda s: s.put("selections", selections(*parts))


def over(pcrs: Iterable[int]) -> Change:
    """Quote other registers, all zero but for those that the certificate shows."""
    # Consume the iterable once: the same row runs more than once.
    pcrs_ = tuple(pcrs)

    def change(scene: Scene) -> None:
        values = scene.get("pcrs")
        shown = b"".join(values.get(index, bytes(32)) for index in pcrs_)
        scene.put("selections", selections(selection(pcrs_)))
        scene.put("pcr_digest", hashlib.sha256(shown).digest())

    return change


def replayed(scene: Scene) -> None:
    """Show a quote that was made for another challenge."""
    scene.edit("extra_data", lambda extra: hashlib.sha256(extra).digest())


def other_run_key_bound(scene: Scene) -> None:
    name = name_of(tpm_forge.ecc_public(ec_key("other run key").public_key()))
    payload = hashlib.sha256(scene.get("payload")).digest()
    preimage = b"aicert quote v1\0" + scene.get("nonce") + name + payload
    scene.put("extra_data", hashlib.sha256(preimage).digest())


def other_statement_bound(scene: Scene) -> None:
    """Show the outputs of run A with the quote of run B.

    The statement is signed, but the quote binds another one.
    """
    name = name_of(scene.get("run_public"))
    payload = hashlib.sha256(b"another statement").digest()
    preimage = b"aicert quote v1\0" + scene.get("nonce") + name + payload
    scene.put("extra_data", hashlib.sha256(preimage).digest())


def asks(nonce: bytes) -> Change:
    return lambda s: setattr(s, "caller_nonce", nonce)


def swapped_pcrs(scene: Scene) -> None:
    """Inputs measured into the outputs' register, relabelled afterwards (CVE-2024-29039)."""
    pcrs = scene.get("pcrs")
    scene.edit_evidence(pcrs=pcrs | {8: pcrs[14], 14: pcrs[8]})


def relabelled_by_selection(scene: Scene) -> None:
    """Extend events into PCR 15, and select registers without 14.

    A verifier that pairs the shown values with 0 to 15 by their order takes PCR 15 for PCR 14, and
    the digest agrees.
    """
    shown = scene.get("pcrs")
    real = {index: shown[index] for index in range(14)} | {15: shown[14], 23: shown[15]}
    digest = hashlib.sha256(b"".join(real[index] for index in sorted(real))).digest()
    scene.put("selections", selections(selection(sorted(real))))
    scene.put("pcr_digest", digest)


def replaced_pcr(scene: Scene) -> None:
    scene.edit_evidence(pcrs=scene.get("pcrs") | {14: b"\x0e" * 32})


def certified(**changes: Any) -> Change:
    return lambda s: s.edit("certify", lambda certify: certify | changes)


def certified_as(name: bytes, qualified_name: bytes) -> bytes:
    return tpm_forge.certify_body(name, qualified_name)


def run_key_with(attributes: int) -> Change:
    return lambda s: s.put(
        "run_public", tpm_forge.ecc_public(s.run_key.public_key(), attributes=attributes)
    )


def run_public(**options: Any) -> Change:
    return lambda s: s.put("run_public", tpm_forge.ecc_public(s.run_key.public_key(), **options))


def under(hierarchy: int) -> Change:
    def change(scene: Scene) -> None:
        name = name_of(scene.get("run_public"))
        qualified = tpm_forge.primary_qualified_name(name, hierarchy)
        certified(body=certified_as(name, qualified))(scene)

    return change


def under_a_storage_key(scene: Scene) -> None:
    name = name_of(scene.get("run_public"))
    parent = b"\x00\x0b" + hashlib.sha256(b"storage key").digest()
    qualified = b"\x00\x0b" + hashlib.sha256(parent + name).digest()
    certified(body=certified_as(name, qualified))(scene)


def another_key_certified(scene: Scene) -> None:
    name = name_of(tpm_forge.ecc_public(ec_key("other").public_key()))
    qualified = tpm_forge.primary_qualified_name(name)
    certified(body=certified_as(name, qualified))(scene)


def quote_as_certification(scene: Scene) -> None:
    certified(kind=tpm_forge.QUOTE)(scene)


def p384_run_key(scene: Scene) -> None:
    scene.run_key = ec_key("run key", "P-384")


def rsa_run_key(scene: Scene) -> None:
    scene.put("run_public", tpm_forge.rsa_public(rsa_key("run key").public_key()))


def consistently_named_with_sha384(scene: Scene) -> None:
    """Compute Name and QualifiedName correctly for a public area whose nameAlg is SHA-384."""
    run_public(name_hash=tpm_forge.SHA384)(scene)
    name = b"\x00\x0c" + hashlib.sha384(scene.get("run_public")).digest()
    preimage = tpm_forge.RH_NULL.to_bytes(4, "big") + name
    qualified = b"\x00\x0c" + hashlib.sha384(preimage).digest()
    certified(body=certified_as(name, qualified))(scene)


ALL = range(16)
ATTRIBUTES = tpm_forge.RUN_KEY_ATTRIBUTES
OTHER_AK = rsa_key("other ak")

ATTACKS = (
    Attack("AK substituted", "quote.signature", signed_by(OTHER_AK, "quote")),
    Attack("attestation changed after signing", "quote.signature", bit_flip),
    Attack("quote signed with SHA-1", "quote.signature", with_sha1),
    Attack("ECDSA signature for an RSA key", "quote.signature", ecdsa_by_rsa),
    Attack("no quote signature", "quote.signature", quote_signature(lambda _: b"")),
    Attack(
        "trailing bytes in the signature", "quote.signature", quote_signature(lambda s: s + b"\0")
    ),
    Attack(
        "signature of no scheme", "quote.signature", quote_signature(lambda s: b"\0\x10" + s[2:])
    ),
    Attack("wrong magic (CVE-2024-29038)", "quote.structure", quoted(magic=0xFF544348)),
    Attack("certification shown as a quote", "quote.structure", quoted(kind=tpm_forge.CERTIFY)),
    Attack("time attestation shown as a quote", "quote.structure", quoted(kind=0x8019)),
    Attack("trailing bytes in the quote", "quote.structure", quoted(trailing=b"\0")),
    Attack(
        "quote cut short", "quote.structure", lambda s: s.edit("quote_attest", lambda a: a[:-1])
    ),
    Attack("quote of nothing", "quote.structure", lambda s: s.put("quote_attest", b"")),
    Attack("quote larger than a TPM makes", "quote.structure", quoted(trailing=bytes(2048))),
    Attack("safe is neither yes nor no", "quote.structure", quoted(safe=2)),
    Attack("no selection", "quote.structure", selected()),
    Attack("empty selection", "quote.structure", selected(selection(()))),
    Attack("selection given twice", "quote.structure", selected(selection(ALL), selection(ALL))),
    Attack("second, empty selection", "quote.structure", selected(selection(ALL), selection(()))),
    Attack("SHA-1 bank", "quote.structure", selected(selection(ALL, SHA1))),
    Attack("SHA-384 bank", "quote.structure", selected(selection(ALL, 0x000C))),
    Attack(
        "SHA-1 bank beside ours",
        "quote.structure",
        selected(selection(ALL, SHA1), selection(ALL, SHA256)),
    ),
    Attack("inputs' register not quoted", "quote.structure", over(n for n in ALL if n != 14)),
    Attack("resettable register 16 quoted", "quote.structure", over(range(17))),
    Attack("resettable register 23 instead", "quote.structure", over((*range(14), 15, 23))),
    Attack(
        "another register relabelled by the selection (CVE-2024-29039)",
        "quote.structure",
        relabelled_by_selection,
    ),
    Attack("selection of nine octets", "quote.structure", selected(selection(ALL, octets=9))),
    Attack("more selections than banks", "quote.structure", selected(*[selection(ALL)] * 17)),
    Attack("quote replayed", "quote.nonce", replayed),
    Attack("answers another challenge", "quote.nonce", asks(b"\x55" * 32)),
    Attack(
        "quote binds the nonce alone", "quote.nonce", lambda s: s.put("extra_data", s.get("nonce"))
    ),
    Attack("quote binds nothing", "quote.nonce", lambda s: s.put("extra_data", b"")),
    Attack("extraData truncated", "quote.nonce", lambda s: s.edit("extra_data", lambda e: e[:20])),
    Attack("quote binds another run key", "quote.nonce", other_run_key_bound),
    Attack("outputs of one run, quote of another", "quote.nonce", other_statement_bound),
    Attack("registers relabelled", "quote.pcrs", swapped_pcrs),
    Attack("register value replaced", "quote.pcrs", replaced_pcr),
    Attack(
        "digest of no registers",
        "quote.pcrs",
        lambda s: s.put("pcr_digest", hashlib.sha256().digest()),
    ),
    Attack("empty register digest", "quote.pcrs", lambda s: s.put("pcr_digest", b"")),
    Attack("run key certified by another AK", "runkey.certified", signed_by(OTHER_AK, "certify")),
    Attack("run key of another boot (reset)", "runkey.certified", certified(reset=8)),
    Attack("run key of another boot (restart)", "runkey.certified", certified(restart=1)),
    Attack("run key of other firmware", "runkey.certified", certified(firmware=1)),
    Attack(
        "run key certified under another AK's name",
        "runkey.certified",
        certified(signer=b"\0\x0b" + b"\1" * 32),
    ),
    Attack("run key certified for another nonce", "runkey.certified", certified(extra=b"\1" * 32)),
    Attack("run key certified for no nonce", "runkey.certified", certified(extra=b"")),
    Attack("quote shown as the certification", "runkey.certified", quote_as_certification),
    Attack("certification with wrong magic", "runkey.certified", certified(magic=0)),
    Attack("certification with trailing bytes", "runkey.certified", certified(trailing=b"\0")),
    Attack("another key was certified", "runkey.certified", another_key_certified),
    Attack(
        "run key under the endorsement hierarchy",
        "runkey.certified",
        under(tpm_forge.RH_ENDORSEMENT),
    ),
    Attack("run key under the owner hierarchy", "runkey.certified", under(tpm_forge.RH_OWNER)),
    Attack("run key under a storage key", "runkey.certified", under_a_storage_key),
    Attack("run key duplicable", "runkey.certified", run_key_with(ATTRIBUTES & ~0x12)),
    Attack("run key imported", "runkey.certified", run_key_with(ATTRIBUTES & ~0x20)),
    Attack("run key restricted", "runkey.certified", run_key_with(ATTRIBUTES | 1 << 16)),
    Attack("run key may decrypt", "runkey.certified", run_key_with(ATTRIBUTES | 1 << 17)),
    Attack("run key outlives a reset", "runkey.certified", run_key_with(ATTRIBUTES & ~0x4)),
    Attack("run key with a reserved attribute", "runkey.certified", run_key_with(ATTRIBUTES | 1)),
    Attack("run key with a policy", "runkey.certified", run_public(policy=bytes(32))),
    Attack("run key with any scheme", "runkey.certified", run_public(scheme=b"\x00\x10")),
    Attack("run key named with SHA-384", "runkey.certified", run_public(name_hash=0x000C)),
    Attack(
        "run key rightly named with SHA-384", "runkey.certified", consistently_named_with_sha384
    ),
    Attack("run key named with SHA-1", "runkey.certified", run_public(name_hash=SHA1)),
    Attack(
        "run key's point on no curve",
        "runkey.certified",
        lambda s: s.edit("run_public", lambda p: p[:-1] + bytes([p[-1] ^ 1])),
    ),
    Attack("run key with trailing bytes", "runkey.certified", run_public(trailing=b"\0")),
    Attack("run key on P-384", "runkey.certified", p384_run_key),
    Attack("RSA run key", "runkey.certified", rsa_run_key),
)
