"""The reviewed list of accepted machine images (rules.project.images), in a review.

Certificates in a change are judged by the base revision's list and image locks. What the change
does to the list is shown.
"""

from aicert.appraisal.policy import Policy
from aicert.errors import AicertError
from aicert.formats import image_lock
from aicert.trust.built_in import with_image
from rules.host.rows import Row, Section
from rules.project import images
from rules.project.images import LIST, Images
from rules.review.packages import IMAGES
from rules.review.revisions import Files


def accepted_by(base: Files, policy: Policy) -> Policy:
    """Return `policy` that also accepts the reviewed images of `base`."""
    data = base.read(str(LIST))
    policy = policy if data is None else images.parse(data).added_to(policy)
    for path in IMAGES:
        lock = base.read(path)
        policy = policy if lock is None else with_image(policy, image_lock.parse(lock))
    return policy


def problem(head: Files) -> str | None:
    """Return what is wrong with the list in a change; None if nothing is, or there is no list."""
    try:
        _read(head)
    except AicertError as error:
        return error.message
    return None


def section(base: Files, head: Files, warnings: list[str]) -> Section | None:
    """Return what the change accepts, drops and revokes; undoing a revocation is a warning."""
    try:
        old, new = _read(base), _read(head)
    except AicertError as error:
        warnings.append(error.message)
        return None
    rows = [Row(label="accepted", new=str(d)) for d in sorted(new.accepted - old.accepted, key=str)]
    rows += [Row(label="dropped", old=str(d)) for d in sorted(old.accepted - new.accepted, key=str)]
    for digest in sorted(new.revoked.keys() - old.revoked.keys(), key=str):
        rows.append(Row(label="revoked", new=str(digest), note=new.revoked[digest]))
    for digest in sorted(old.revoked.keys() - new.revoked.keys(), key=str):
        rows.append(Row(label="no longer revoked", old=str(digest), note=old.revoked[digest]))
        warnings.append(f"{LIST}: image {digest} is no longer revoked")
    return Section(title=str(LIST), word="changed", rows=tuple(rows)) if rows else None


def _read(files: Files) -> Images:
    data = files.read(str(LIST))
    return Images() if data is None else images.parse(data)
