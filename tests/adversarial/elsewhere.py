"""The accepted-elsewhere set: forgeries that real verifiers accepted, and our verdict on each.

Each was described in public (an advisory, a review, an audit of the prior art) and is rebuilt here
from its description. Values are names of rows of the attack table, which must be refused, or of
`honest.HONEST`, which must be accepted.
"""

from collections.abc import Mapping

ELSEWHERE: Mapping[str, tuple[str, ...]] = {
    "chain verification fails and the certificate is returned all the same": (
        "AK certificate self-signed",
        "own CA of the same name, sent along",
        "own CA of the same name, not sent",
    ),
    "a second certificate after the first, DER and PEM, read two ways": (
        "DER and PEM read two ways",
        "two DER certificates in one",
    ),
    "an empty log replays to nothing, and nothing is compared": (
        "empty log beside registers that were never extended",
        "nothing measured at all",
    ),
    "events of another register, relabelled by a wrong selection (CVE-2024-29039)": (
        "another register relabelled by the selection (CVE-2024-29039)",
        "registers relabelled",
        "selection given twice",
        "second, empty selection",
        "empty selection",
    ),
    "bytes that no TPM made, signed like a quote (CVE-2024-29038)": (
        "wrong magic (CVE-2024-29038)",
        "certification with wrong magic",
    ),
    "a register that software can reset": (
        "resettable register 16 quoted",
        "resettable register 23 instead",
    ),
    "a pin that does not exist is certified": ("pin that does not exist",),
    "a failed training is certified": ("training failed", "exit code hidden"),
    "the certificate of an empty archive": (
        "certificate of an empty archive",
        "failed training with nothing taken",
        "only empty files",
    ),
    "fields are displayed that no digest covers": (
        "field that no check reads",
        "unknown key",
        "report under another digest",
        "report exchanged",
    ),
    "a certificate padded to the size of its NV index (must be accepted)": (
        "AK certificate padded with zeros",
        "AK certificate padded with ones",
    ),
    "an expired chain, with and without a trusted time": (
        "AK certificate expired",
        "intermediate expired",
        "root expired at the stated time",
        "AK certificate expired since, judged at a trusted time",
    ),
}
