"""Private keys of logs and witnesses, in the text form that Go's signed notes use.

The form is `PRIVATE+KEY+NAME+ID+BASE64`, where BASE64 has the algorithm and the seed, as in a
verifier key it has the algorithm and the public key. Only the owner may read the file (mode 0600).
It never lies in the log's folder, which is published.
"""

import base64
import os
import secrets
import stat
from pathlib import Path
from typing import Final

from aicert.errors import ConfigError, EvidenceError
from aicert.files.bounded import read_bounded
from aicert.frozen import dataclass
from aicert.log import durable
from aicert.tlog import notes
from aicert.tlog.encoding import to_base64
from aicert.tlog.notes import KEY_BYTES, VerifierKey

MODE: Final = 0o600
MAX_BYTES: Final = 1024
_PREFIX: Final = "PRIVATE+KEY+"


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateKey:
    """A named signing key; `algorithm` says whether it signs checkpoints or cosignatures."""

    name: str
    algorithm: int
    seed: bytes

    @property
    def public(self) -> VerifierKey:
        """The public key, with which others verify the signatures."""
        public = notes.public_of(self.seed)
        return VerifierKey(name=self.name, algorithm=self.algorithm, public=public)

    def sign(self, data: bytes) -> bytes:
        """Return this key's signature of `data`."""
        return notes.sign(self.seed, data)


def check_apart(path: Path, folder: Path) -> None:
    """Raise ConfigError if a key would lie in a log's folder, which is served to everybody."""
    published = Path(os.path.realpath(folder))
    for place in (path, path.parent):
        real = Path(os.path.realpath(place))
        if published in (real, *real.parents):
            raise ConfigError(
                f"the key {os.fspath(path)!a} would be in the log's folder, which is public",
                hint="--key FILE, outside of the folder",
            )


def create(path: Path, name: str, algorithm: int) -> PrivateKey:
    """Generate a key and write it to a new file at `path`."""
    try:
        notes.check_key_name(name)
    except EvidenceError as error:
        raise ConfigError(error.message, hint="a name such as log.example/models") from None
    key = PrivateKey(name=name, algorithm=algorithm, seed=secrets.token_bytes(KEY_BYTES))
    encoded = to_base64(bytes([algorithm]) + key.seed)
    text = f"{_PREFIX}{name}+{key.public.id.hex()}+{encoded}\n"
    durable.create(path, text.encode(), mode=MODE)
    return key


def read(path: Path, algorithm: int) -> PrivateKey:
    """Read the key in a file.

    Raises ConfigError if its algorithm is a different one, or if others may read the file.
    """
    data = read_bounded(path, MAX_BYTES, "key")
    if stat.S_IMODE(os.stat(path).st_mode) & 0o077:
        raise ConfigError(
            f"other users may read the key {os.fspath(path)!a}", hint=f"chmod 600 {os.fspath(path)}"
        )
    refused = ConfigError(f"{os.fspath(path)!a} is not a key of a log or a witness")
    parts = data.decode("utf-8", "replace").removesuffix("\n").removeprefix(_PREFIX).split("+", 2)
    if len(parts) != 3 or not data.startswith(_PREFIX.encode()):
        raise refused
    name, id_, encoded = parts
    try:
        seed = base64.b64decode(encoded, validate=True)
        key = PrivateKey(name=name, algorithm=seed[0] if seed else 0, seed=seed[1:])
        if len(key.seed) != KEY_BYTES or key.public.id.hex() != id_:
            raise refused
    except (ValueError, EvidenceError):
        raise refused from None
    if key.algorithm != algorithm:
        kinds = {notes.ED25519: "a log's", notes.COSIGNATURE: "a witness's"}
        raise ConfigError(f"{os.fspath(path)!a} is {kinds[key.algorithm]} key")
    return key
