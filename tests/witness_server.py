"""A witness behind HTTP that shares no code with ours (C2SP tlog-witness): it keeps what it saw of
each log, and cosigns what goes on from there.
"""

import base64
import hashlib
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tests.unit.servers import Reply, Request

DASH = "\u2014"


def sha(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def key_text(name: str, kind: int, public: bytes) -> str:
    """A verifier key as people write it."""
    encoded = bytes((kind,)) + public
    id_ = sha(name.encode(), b"\n", encoded)[:4]
    return f"{name}+{id_.hex()}+{base64.b64encode(encoded).decode()}"


def both_roots(old: int, new: int, path: list[bytes], root: bytes, *, whole: bool) -> list[bytes]:
    """The roots of the first `old` and of all `new` leaves, as the path says, from its end."""
    if old == new:
        return [root, root] if whole else [path.pop()] * 2
    half = 1 << (new - 1).bit_length() - 1
    sibling = path.pop()
    if old <= half:
        before, after = both_roots(old, half, path, root, whole=whole)
        return [before, sha(b"\1", after, sibling)]
    before, after = both_roots(old - half, new - half, path, root, whole=False)
    return [sha(b"\1", sibling, before), sha(b"\1", sibling, after)]


@dataclass
class WitnessServer:
    """`logs`: verifier keys that it knows, by origin. `now`: its clock."""

    logs: dict[str, str]
    now: int = 1_800_000_000
    name: str = "witness.example/http"
    seen: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    private: Ed25519PrivateKey = field(
        default_factory=lambda: Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    )

    @property
    def key(self) -> str:
        return key_text(self.name, 4, self.private.public_key().public_bytes_raw())

    def answer(self, request: Request) -> Reply:
        if (request.method, request.path) != ("POST", "/add-checkpoint"):
            return Reply(status=404)
        head, _, note = request.body.decode().partition("\n\n")
        first, *lines = head.split("\n")
        old, path = int(first.removeprefix("old ")), [base64.b64decode(one) for one in lines]
        text, _, signatures = note.rpartition("\n\n")
        text += "\n"
        origin, size_text, root_text = text.split("\n")[:3]
        if origin not in self.logs:
            return Reply(status=404)
        if not self._is_signed(origin, text, signatures):
            return Reply(status=403)
        size, root = int(size_text), base64.b64decode(root_text)
        if old > size:
            return Reply(status=400)
        known, known_root = self.seen.get(origin, (0, sha()))
        if known != old or (known == size and known_root != root):
            headers = {"Content-Type": "text/x.tlog.size"}
            return Reply(status=409, body=f"{known}\n".encode(), headers=headers)
        if not self._goes_on(known, known_root, size, root, path):
            return Reply(status=422)
        self.seen[origin] = (size, root)
        return Reply(body=self.line(text, self.now).encode())

    def line(self, text: str, time: int) -> str:
        """Its line below a checkpoint."""
        signed = f"cosignature/v1\ntime {time}\n{text}".encode()
        id_ = bytes.fromhex(self.key.split("+")[1])
        data = id_ + time.to_bytes(8) + self.private.sign(signed)
        return f"{DASH} {self.name} {base64.b64encode(data).decode()}\n"

    def _is_signed(self, origin: str, text: str, signatures: str) -> bool:
        name, id_, encoded = self.logs[origin].split("+", 2)
        public = Ed25519PublicKey.from_public_bytes(base64.b64decode(encoded)[1:])
        for line in signatures.splitlines():
            _, by, data = line.split(" ")
            if by == name and base64.b64decode(data)[:4].hex() == id_:
                try:
                    public.verify(base64.b64decode(data)[4:], text.encode())
                except InvalidSignature:
                    return False
                return True
        return False

    @staticmethod
    def _goes_on(old: int, old_root: bytes, size: int, root: bytes, path: list[bytes]) -> bool:
        if old in (0, size):
            return not path
        try:
            roots = both_roots(old, size, path, old_root, whole=True)
        except IndexError:
            return False
        return not path and roots == [old_root, root]
