"""A Sigstore instance simulated on this computer, for sigstore's real client.

It has Fulcio (`/api/v2/signingCert`) and Rekor v1 (`/api/v1/log/entries`) over HTTP on 127.0.0.1, a
log of certificates, and an OpenID provider reduced to its token, whose signature nobody here
verifies. Certificates contain a signed timestamp of their log (RFC 6962). The log of signatures has
one entry, so its Merkle proof is empty.
"""

import base64
import datetime
import hashlib
import json
import struct
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

HOUR = datetime.timedelta(hours=1)
SINCE = {"start": "2020-01-01T00:00:00Z"}
ISSUER_OID = ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
SCT_OID = ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
SHA256 = hashes.SHA256()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def der(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def key_id(key: ec.EllipticCurvePrivateKey) -> bytes:
    return hashlib.sha256(der(key)).digest()


def usage(*, sign: bool) -> x509.KeyUsage:
    names = (
        "digital_signature",
        "key_cert_sign",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    wanted = "digital_signature" if sign else "key_cert_sign"
    return x509.KeyUsage(**{name: name == wanted for name in names})  # fmt: skip


class Instance:
    """The services, until `stop`; `trust_config` and `trusted_root` are files for clients."""

    def __init__(self, folder: Path, *, identity: str, issuer: str) -> None:
        self.identity, self.issuer = identity, issuer
        # This is set here and not when tests are collected, because a token lasts an hour.
        self.now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
        self.ca, self.ct_log, self.log = (ec.generate_private_key(ec.SECP256R1()) for _ in "123")
        self.root = self._root()
        self._server = HTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._stopped = False
        self.trusted_root, self.trust_config = folder / "root.json", folder / "config.json"
        self.trusted_root.write_text(json.dumps(self._trusted_root()))
        self.trust_config.write_text(json.dumps(self._trust_config()))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        if not self._stopped:
            self._stopped = True
            self._server.shutdown()
            self._server.server_close()

    @property
    def token(self) -> str:
        """Return an identity token: whose identity it is, for which audience, and until when."""
        now = int(self.now.timestamp())
        claims = {"iss": self.issuer, "sub": self.identity, "aud": "sigstore", "iat": now - 60}
        parts = ({"alg": "ES256", "typ": "JWT"}, claims | {"exp": now + 3600})
        texts = [base64.urlsafe_b64encode(json.dumps(p).encode()).rstrip(b"=") for p in parts]
        return b".".join([*texts, b"AAAA"]).decode()

    def _root(self) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "simulated Fulcio")])
        public = self.ca.public_key()
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now - HOUR)
            .not_valid_after(self.now + 24 * HOUR)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage(sign=False), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .sign(self.ca, SHA256)
        )

    def issue(self, request: x509.CertificateSigningRequest) -> list[str]:
        """Return Fulcio's answer: a certificate for the identity in the token, and its issuer's
        certificate.
        """
        key_of_ca = x509.SubjectKeyIdentifier.from_public_key(self.ca.public_key())
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.root.subject)
            .public_key(request.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now - HOUR)
            .not_valid_after(self.now + HOUR)
            .add_extension(usage(sign=True), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_of_ca),
                critical=False,
            )
            .add_extension(
                x509.SubjectAlternativeName([x509.RFC822Name(self.identity)]), critical=True
            )
            .add_extension(
                x509.UnrecognizedExtension(ISSUER_OID, self.issuer.encode()), critical=False
            )
        )
        body = builder.sign(self.ca, SHA256).tbs_certificate_bytes
        timestamp = x509.UnrecognizedExtension(SCT_OID, self._timestamp(body))
        certificate = builder.add_extension(timestamp, critical=False).sign(self.ca, SHA256)
        return [one.public_bytes(Encoding.PEM).decode() for one in (certificate, self.root)]

    def _timestamp(self, body: bytes) -> bytes:
        """Return the list of one timestamp, as the extension contains it (RFC 6962, 3.2 and
        3.3).
        """
        when = struct.pack("!Q", int(self.now.timestamp()) * 1000)
        entry = key_id(self.ca) + len(body).to_bytes(3, "big") + body
        signature = self.ct_log.sign(b"\0\0" + when + b"\0\1" + entry + b"\0\0", ec.ECDSA(SHA256))
        # Hash and signature algorithm: SHA-256 and ECDSA (RFC 5246, 7.4.1.4.1).
        one = b"\0" + key_id(self.ct_log) + when + b"\0\0\4\3"
        one += struct.pack("!H", len(signature)) + signature
        listed = struct.pack("!HH", len(one) + 2, len(one)) + one
        # This is the DER of an octet string of 128 to 255 bytes, or of a shorter one.
        length = bytes([len(listed)]) if len(listed) < 128 else bytes([0x81, len(listed)])
        return b"\4" + length + listed

    def enter(self, proposed: Any) -> dict[str, object]:
        """Return Rekor's answer: the entry, its promise and its proof."""
        content = proposed["spec"]["proposedContent"]
        envelope = json.loads(content["envelope"])
        payload = base64.b64decode(envelope["payload"])
        spec = {
            "envelopeHash": _hash(content["envelope"].encode()),
            "payloadHash": _hash(payload),
            "signatures": [
                {"signature": envelope["signatures"][0]["sig"], "verifier": content["verifiers"][0]}
            ],
        }
        body = _canonical({"apiVersion": "0.0.1", "kind": "dsse", "spec": spec})
        root = hashlib.sha256(b"\0" + body).digest()
        entry = {
            "body": b64(body),
            "integratedTime": int(self.now.timestamp()),
            "logID": key_id(self.log).hex(),
            "logIndex": 0,
        }
        promise = self.log.sign(_canonical(entry), ec.ECDSA(SHA256))
        note = f"simulated - 1\n1\n{b64(root)}\n"
        signed = key_id(self.log)[:4] + self.log.sign(note.encode(), ec.ECDSA(SHA256))
        proof = {
            "checkpoint": f"{note}\n— simulated {b64(signed)}\n",
            "hashes": [],
            "logIndex": 0,
            "rootHash": root.hex(),
            "treeSize": 1,
        }
        verification = {"inclusionProof": proof, "signedEntryTimestamp": b64(promise)}
        return {"0" * 64: entry | {"verification": verification}}

    def _trusted_root(self) -> dict[str, object]:
        def log(key: ec.EllipticCurvePrivateKey) -> dict[str, object]:
            details = {"keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": SINCE}
            return {
                "baseUrl": self.url,
                "hashAlgorithm": "SHA2_256",
                "publicKey": {"rawBytes": b64(der(key)), **details},
                "logId": {"keyId": b64(key_id(key))},
            }

        certificate = {"rawBytes": b64(self.root.public_bytes(Encoding.DER))}
        authority = {
            "subject": {"organization": "simulated", "commonName": "simulated Fulcio"},
            "uri": self.url,
            "certChain": {"certificates": [certificate]},
            "validFor": SINCE,
        }
        return {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log(self.log)],
            "certificateAuthorities": [authority],
            "ctlogs": [log(self.ct_log)],
            "timestampAuthorities": [],
        }

    def _trust_config(self) -> dict[str, object]:
        service = {"url": self.url, "majorApiVersion": 1, "validFor": SINCE, "operator": "here"}
        return {
            "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
            "trustedRoot": self._trusted_root(),
            "signingConfig": {
                "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
                "caUrls": [service],
                "oidcUrls": [service],
                "rekorTlogUrls": [service],
                "rekorTlogConfig": {"selector": "ANY"},
                "tsaUrls": [],
                "tsaConfig": {"selector": "ANY"},
            },
        }


def _hash(data: bytes) -> dict[str, str]:
    return {"algorithm": "sha256", "value": hashlib.sha256(data).hexdigest()}


def _canonical(value: object) -> bytes:
    # For ASCII text and small integers, this equals RFC 8785.
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _handler(instance: Instance) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path == "/api/v2/signingCert":
                if self.headers["Authorization"] != f"Bearer {instance.token}":
                    self.send_error(401)
                    return
                pem = base64.b64decode(asked["certificateSigningRequest"])
                chain = instance.issue(x509.load_pem_x509_csr(pem))
                answer: object = {
                    "signedCertificateEmbeddedSct": {"chain": {"certificates": chain}}
                }
            else:
                answer = instance.enter(asked)
            data = json.dumps(answer).encode()
            self.send_response(201)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_request(self, *_: object) -> None:
            """Print nothing: tests print enough."""

    return Handler
