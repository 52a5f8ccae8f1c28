"""Connect a consumer to a machine that serves a leased model: judge it first, and only then ask.

    import aicert.serving, openai

    with aicert.serving.connect(
        "https://10.0.0.4:8443", lease="719013b3e3cbb8539017a0e3b4efa6d0", certificate="c.json"
    ) as endpoint:
        client = openai.OpenAI(base_url=endpoint.base_url, api_key="none")

`docs/spec/serving.md` says what is judged, and what is not promised. Needs the extra `connect`; no
verdict on a certificate needs this package.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from aicert.appraisal.policy import Policy
    from aicert.files.bounded import StrPath
    from aicert.formats.digest import Digest
    from aicert.serving.endpoint import Endpoint


def connect(
    url: str,
    *,
    lease: str,
    certificate: "StrPath",
    policy: "str | Policy" = "default",
    root: "StrPath | None" = None,
    lockfile: "StrPath | Digest | None" = None,
    image_lock: "StrPath | None" = None,
    nonce: str | bytes | None = None,
    at: "datetime | str | None" = None,
    lineage: "Sequence[StrPath] | None" = None,
    collateral: "StrPath | None" = None,
    gpu_collateral: "StrPath | None" = None,
    machine_policy: "str | Policy | None" = None,
    machine_root: "StrPath | None" = None,
    machine_image_lock: "StrPath | None" = None,
    port: int = 0,
    receipts: "StrPath | None" = None,
) -> "Endpoint":
    """Judge a serving machine, and open a local endpoint for prompts to it.

    Args:
        url: where the machine is, `https://HOST:PORT`.
        lease: the lease that the machine must serve, 32 hexadecimal digits.
        certificate: path of the certificate of the model that it must serve.
        policy: what you accept, for the certificate and for the machine. It is the same argument
            as for `aicert.verify`, and so are `root`, `lockfile`, `image_lock`, `nonce`, `at`,
            `lineage` and both collaterals, which apply to the certificate.
        machine_policy: what you accept for the machine, if that is different.
        machine_root: the root of a simulated platform that the machine may be; if None, and there
            is no `machine_policy`, it is `root`.
        machine_image_lock: path of the lock of a serving image that you accept; if None, and there
            is no `machine_policy`, it is `image_lock`.
        port: the port on this computer's loopback; 0 for any free one.
        receipts: path of a file to which the receipt of each answer is appended, one per line. A
            receipt is requested for each answer, and verified before the answer ends.

    Returns:
        The Endpoint: its `base_url` is for OpenAI's clients, `served` is what was verified. It ends
        with `close()` or its `with` block, and by itself when evidence says no for the first time.

    Raises:
        RejectedError, RefusedError: the certificate or the machine is refused (`exit_code` 1).
        EvidenceError, ToolError: there is no verdict: missing or malformed evidence, or no
            connection (`exit_code` 2).
        ConfigError: an argument is wrong (`exit_code` 3).
    """
    from aicert.serving import connections, receipt_file
    from aicert.serving.endpoint import Endpoint
    from aicert.verifier import verify as api

    certified = api.check_files(
        certificate,
        None,
        policy=policy,
        root=root,
        lockfile=lockfile,
        image=image_lock,
        nonce=nonce,
        at=at,
        lineage=lineage,
        collateral=collateral,
        gpu_collateral=gpu_collateral,
    )
    if certified.certificate_consistent != "yes":
        api.require_passed(certified)
    machine = connections.machine_policy(
        machine_policy,
        policy,
        root=machine_root,
        image=machine_image_lock,
        certificates_root=root,
        certificates_image=image_lock,
    )
    target = connections.target_machine(url, lease, certified, machine)
    return Endpoint(target, port, None if receipts is None else receipt_file.keep_in(receipts))
