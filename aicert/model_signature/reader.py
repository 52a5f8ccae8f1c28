"""Read a model signature that anyone may have written: bundle, envelope, statement, manifest.

Sigstore bundle v0.1 to v0.3, DSSE, in-toto Statement v1 with the OMS v1.0 predicate or with that of
model_signing 0.2. The bundle is untrusted, so it is bounded and read as strictly as JSON can be;
unknown keys are passed over, as the format requires. `read_manifest` is for a payload whose
signature was verified. Whatever would let files go unnoticed is refused: an empty model, duplicate
names, `..`, names that differ only in case, pieces that do not cover their file.
"""

import re
from collections.abc import Mapping

from aicert.errors import EvidenceError
from aicert.formats.dsse import PAYLOAD_TYPE, b64decode
from aicert.formats.paths import MAX_FILES, check_path, check_paths
from aicert.formats.strict_json import Fields, loads, string
from aicert.frozen import dataclass
from aicert.model_signature import writer

# A million files in base64.
MAX_BYTES = 1 << 28
# Sigstore's chains have three certificates.
MAX_CERTIFICATES = 8
MAX_CERTIFICATE = 1 << 14
MAX_SIGNATURE = 1024
MAX_HINT = 1000
MAX_IGNORED = 1000
OLD_PREDICATE = "https://model_signing/Digests/v0.1"
# The format's name for a model that is one file.
SINGLE = "."
HEX_LENGTHS = {"sha256": 64, "blake2b": 128, "blake3": 64}
_HEX = re.compile("[0-9a-f]*+")
_MEDIA = re.compile(
    r"application/vnd\.dev\.sigstore\.bundle(?:\.v0\.[123]\+json|\+json;version=0\.[123])"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A signature file, not verified. `hint`: hex SHA-256 of the signer's public PEM."""

    payload: bytes
    signature: bytes
    hint: str | None
    certificates: tuple[bytes, ...]
    keyless: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """The digest of a file's bytes `start` to `end`."""

    digest: str
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a signature covers. `files`: path → digest in hex; a single file's path is `.`.

    If files were signed in parts, `parts` has them in order and a file's own digest is empty.
    """

    name: str
    algorithm: str
    files: Mapping[str, str]
    parts: Mapping[str, tuple[Piece, ...]] | None = None
    ignored: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def is_single(self) -> bool:
        """Whether the model is one file."""
        return set(self.files) == {SINGLE}


def parse(data: bytes) -> Bundle:
    """Read a signature file; EvidenceError for anything else."""
    fields = Fields(loads(data, what="signature", max_bytes=MAX_BYTES), "signature")
    if not _MEDIA.fullmatch(fields.text("mediaType", max_length=100)):
        raise EvidenceError("signature.mediaType is not a Sigstore bundle's, v0.1 to v0.3")
    material = fields.fields("verificationMaterial")
    envelope = fields.fields("dsseEnvelope")
    envelope.const("payloadType", PAYLOAD_TYPE)
    signatures = envelope.items("signatures", Fields, max_items=2)
    if len(signatures) != 1:
        raise EvidenceError("signature.dsseEnvelope.signatures: expected exactly one")
    hint = None
    certificates: tuple[bytes, ...] = ()
    if material.has("publicKey"):
        hint = material.fields("publicKey").optional_text("hint", max_length=MAX_HINT)
    elif material.has("x509CertificateChain"):
        chain = material.fields("x509CertificateChain")
        certificates = chain.items("certificates", _certificate, max_items=MAX_CERTIFICATES)
    elif material.has("certificate"):
        certificates = (_certificate(material.fields("certificate").rest(), "certificate"),)
    return Bundle(
        payload=b64decode(envelope, "payload", max_bytes=MAX_BYTES),
        signature=b64decode(signatures[0], "sig", max_bytes=MAX_SIGNATURE),
        hint=hint,
        certificates=certificates,
        keyless=bool(material.rest().get("tlogEntries")),
    )


def _certificate(value: object, where: str) -> bytes:
    return b64decode(Fields(value, where), "rawBytes", max_bytes=MAX_CERTIFICATE)


def read_manifest(payload: bytes) -> Manifest:
    """Return the manifest in a verified statement; EvidenceError if it is not sound."""
    document = loads(payload, what="signed statement", max_bytes=MAX_BYTES, signed=True)
    fields = Fields(document, "statement")
    fields.const("_type", writer.STATEMENT_TYPE)
    kind = fields.text("predicateType", max_length=200)
    subjects = fields.items("subject", _subject, max_items=MAX_FILES)
    if kind == OLD_PREDICATE:
        return _old_manifest(subjects)
    if kind != writer.PREDICATE_TYPE:
        raise EvidenceError(f"the signed statement is not a model signature: {kind!a}")
    if len(subjects) != 1:
        raise EvidenceError(f"the statement has {len(subjects)} subjects, not one")
    predicate = fields.fields("predicate")
    serialization = predicate.fields("serialization")
    method = serialization.text("method", max_length=40)
    if method not in ("files", "shards"):
        raise EvidenceError(f"unknown serialization method {method!a}")
    resources = predicate.items("resources", _resource, max_items=MAX_FILES)
    if not resources:
        raise EvidenceError("the signature covers no files")
    ((name, digest),) = subjects
    algorithm = _algorithm(resources)
    computed = writer.subject_digest(value for _, _, value in resources)
    if digest != computed:
        raise EvidenceError(
            "the subject's digest is not that of the resources\n"
            f"found     {digest[:80]}\nexpected  {computed}"
        )
    ignored: tuple[str, ...] = ()
    if serialization.has("ignore_paths"):
        ignored = serialization.items("ignore_paths", _ignored, max_items=MAX_IGNORED)
    notes: list[str] = []
    if serialization.rest().get("allow_symlinks") is True:
        notes.append("the signer followed symbolic links; here every file must be a regular one")
    return _manifest(name, resources, ignored, (algorithm, method), notes)


def _manifest(
    name: str,
    resources: tuple[tuple[str, str, str], ...],
    ignored: tuple[str, ...],
    how: tuple[str, str],
    notes: list[str],
) -> Manifest:
    algorithm, method = how
    parts = _parts(resources) if method == "shards" else None
    if parts is None:
        files = {path: digest for path, _, digest in resources}
        if len(files) != len(resources):
            raise EvidenceError("the signature names a file twice")
    else:
        files = dict.fromkeys(parts, "")
    if set(files) != {SINGLE}:
        check_paths(files)
    return Manifest(
        name=name,
        algorithm=algorithm,
        files=files,
        parts=parts,
        ignored=ignored,
        notes=tuple(notes),
    )


def _algorithm(resources: tuple[tuple[str, str, str], ...]) -> str:
    """Return the one hash algorithm of all resources; each digest must have its length."""
    names = {algorithm for _, algorithm, _ in resources}
    algorithms = {algorithm.partition("-sharded-")[0] for algorithm in names}
    algorithm = algorithms.pop()
    if algorithms:
        raise EvidenceError("the signature mixes hash algorithms")
    length = HEX_LENGTHS.get(algorithm)
    if length is None:
        raise EvidenceError(f"unknown hash algorithm {algorithm[:40]!a}")
    lengths = {len(digest) for _, _, digest in resources}
    if lengths != {length} or not _HEX.fullmatch("".join([digest for _, _, digest in resources])):
        raise EvidenceError(f"a resource's digest is not {length} hexadecimal digits")
    return algorithm


def _parts(resources: tuple[tuple[str, str, str], ...]) -> dict[str, tuple[Piece, ...]]:
    by_path: dict[str, list[Piece]] = {}
    for resource, _, digest in resources:
        path, piece = _shard(resource, digest)
        by_path.setdefault(path, []).append(piece)
    for path, pieces in by_path.items():
        pieces.sort(key=lambda piece: piece.start)
        _check_cover(path, pieces)
    return {path: tuple(pieces) for path, pieces in by_path.items()}


def _old_manifest(subjects: tuple[tuple[str, str], ...]) -> Manifest:
    files = dict(subjects)
    if len(files) != len(subjects):
        raise EvidenceError("the signature names a file twice")
    if not files:
        raise EvidenceError("the signature covers no files")
    check_paths(files)
    note = "the format is that of model_signing 0.2, which does not record the files left out"
    return Manifest(name="", algorithm="sha256", files=files, notes=(note,))


def _shard(resource: str, digest: str) -> tuple[str, Piece]:
    path, _, span = resource.rpartition(":")
    path, _, first = path.rpartition(":")
    if not (path and first.isascii() and first.isdigit() and span.isascii() and span.isdigit()):
        raise EvidenceError(f"not the name of a part of a file: {resource[:200]!a}")
    if len(first) > 18 or len(span) > 18:
        raise EvidenceError(f"a part of a file beyond any possible size: {resource[:200]!a}")
    return path, Piece(digest=digest, start=int(first), end=int(span))


def _check_cover(path: str, pieces: list[Piece]) -> None:
    at = 0
    for piece in pieces:
        if piece.start != at or piece.end <= at:
            raise EvidenceError(f"the signed parts of {path!a} leave a gap or overlap at byte {at}")
        at = piece.end


def _subject(value: object, where: str) -> tuple[str, str]:
    fields = Fields(value, where)
    name = fields.text("name") if fields.has("name") else ""
    digest = fields.fields("digest").hex("sha256")
    return name, digest


def _resource(value: object, where: str) -> tuple[str, str, str]:
    # Fifty thousand of these are read at once, so this uses plain look-ups and checks all digests
    # together.
    if not isinstance(value, dict):
        raise EvidenceError(f"{where}: expected an object")
    name, algorithm, digest = value.get("name"), value.get("algorithm"), value.get("digest")
    if type(name) is not str or type(algorithm) is not str or type(digest) is not str:
        raise EvidenceError(f"{where}: expected name, algorithm and digest")
    return name, algorithm, digest


def _ignored(value: object, where: str) -> str:
    path = string(value, where).rstrip("/")
    check_path(path)
    return path
