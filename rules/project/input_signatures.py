"""`signed-by` on the host, checked at lock time, so that nobody reviews an input that the machine
would refuse.

This is only a convenience: the runner decides again in the machine. A remote input's weights are
not needed, only its signature, which is fetched if it is not in the store.
"""

from pathlib import Path

from aicert.errors import AicertError, LockError, ToolError
from aicert.formats.listing import parse_listing
from aicert.formats.lockfile import LockedInput
from rules.host import progress
from rules.project import sources
from rules.project.locked import Lock


def check_signers(root: Path, lock: Lock) -> None:
    """Refuse an input that its `signed-by` signer, if it has one, did not sign."""
    for item in lock.lockfile.inputs:
        if item.signed_by is None:
            continue
        # Projects without such inputs do not wait for the import of cryptography.
        from aicert.model_signature.signed_by import SIGNATURE, check

        try:
            data = lock.listings.get(item.name)
            files = {} if data is None else parse_listing(data)
            place = _signature(root, lock, item, SIGNATURE, files.get(SIGNATURE))
            check(item.signed_by, files, place)
        except AicertError as error:
            kind = ToolError if isinstance(error, ToolError) else LockError
            raise kind(f"input {item.name}: {error.message}", hint=error.hint) from None


def _signature(root: Path, lock: Lock, item: LockedInput, name: str, sha256: str | None) -> Path:
    """Return where the input's signature is; fetched if it is remote and missing."""
    if sha256 is None or sources.is_local(item.source):
        parts = lock.parts.get(item.name, {})
        return parts.get(name, lock.paths[item.name] / name)
    store = sources.store(root)
    if not store.has(sha256):
        from aicert.sources import remote
        from aicert.sources.transfer import Transfer

        with progress.task(f"fetching {item.name}/{name}", unit="B") as bar:
            with Transfer(store, on_bytes=bar.advance) as transfer:
                remote.fetch(item.uri, {name: sha256}, transfer)
    return store.file(sha256)
