"""How a signature describes files: by which hash, whole or in parts, with links followed or not.

The usual form, SHA-256 of whole regular files, is in `aicert.model_signature.writer`, since the
machine writes it too; here are the forms that only a person asks for
(docs/spec/model-signature.md).
"""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from aicert.errors import ConfigError, EvidenceError
from aicert.formats.paths import MAX_FILES
from aicert.formats.strict_json import dumps
from aicert.frozen import dataclass
from aicert.model_signature import writer
from aicert.model_signature.reader import Piece
from aicert.signing import hashing
from aicert.signing.hashing import OnBytes

HASHES = ("sha256", "blake3")


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """The form of a signature's file list.

    `part`: the size of the parts of a file in bytes; None to hash whole files. `links`: sign a link
    to a file of the same directory as that file.
    """

    hash: str = "sha256"
    part: int | None = None
    links: bool = False

    def __post_init__(self) -> None:
        if self.part is None:
            return
        if self.part < 1:
            raise ConfigError("--shard-size is a number of bytes, 1 or more")
        if self.hash == "blake3":
            raise ConfigError("BLAKE3 signs whole files: --shard-size goes with SHA-256")


USUAL = Form()


def statement(
    root: Path, form: Form, names: Collection[str], on_bytes: OnBytes | None
) -> tuple[bytes, tuple[str, ...], tuple[str, ...]]:
    """Build the statement over the files at `root`.

    Returns the statement, the paths in it, and the paths of empty files, which have no parts.
    """
    pieces = hashing.pieces_of(root, names, form.hash, form.part, on_bytes, links=form.links)
    signed = sorted(path for path in pieces if pieces[path])
    empty = tuple(sorted(path for path in pieces if not pieces[path]))
    ignored = names if root.is_dir() else ()
    return _statement(root.name, form, {p: pieces[p] for p in signed}, ignored), (*signed,), empty


def _statement(
    name: str, form: Form, files: Mapping[str, tuple[Piece, ...]], ignored: Iterable[str]
) -> bytes:
    if not files:
        raise EvidenceError("a model without files cannot be signed")
    if form.part is not None and sum(map(len, files.values())) > MAX_FILES:
        raise ConfigError(
            f"more than {MAX_FILES:,} parts, which no verifier here reads",
            hint=f"--shard-size {form.part * 16}",
        )
    serialization: dict[str, object] = {
        "allow_symlinks": form.links,
        "hash_type": form.hash,
        "method": "files",
    }
    algorithm = form.hash
    if form.part is not None:
        algorithm = f"{form.hash}-sharded-{form.part}"
        serialization |= {"method": "shards", "shard_size": form.part}
    if ignored:
        serialization["ignore_paths"] = sorted(ignored)
    resources = [
        {
            "algorithm": algorithm,
            "digest": piece.digest,
            "name": path if form.part is None else f"{path}:{piece.start}:{piece.end}",
        }
        for path, pieces in files.items()
        for piece in pieces
    ]
    digest = writer.subject_digest(resource["digest"] for resource in resources)
    return dumps(
        {
            "_type": writer.STATEMENT_TYPE,
            "subject": [{"digest": {"sha256": digest}, "name": name}],
            "predicateType": writer.PREDICATE_TYPE,
            "predicate": {"resources": resources, "serialization": serialization},
        }
    )
