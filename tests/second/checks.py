"""The checks that the second verifier knows, in the order of docs/spec/certificate.md."""

CHECKS = (
    "time.token", "log.included", "log.witnessed",
    "platform.chain", "platform.chip", "platform.guest", "platform.binding", "platform.gpu",
    "platform.tier",
    "quote.signature", "quote.structure", "quote.nonce", "quote.pcrs",
    "runkey.certified", "runkey.time", "time.not-before",
    "statement.signature", "statement.form",
    "boot.image", "boot.pcr4", "boot.pcr11", "boot.pcr12-13", "boot.firmware",
    "inputs.lockfile", "inputs.pcr14", "inputs.records",
    "outputs.exit", "outputs.pcr8", "outputs.nonempty", "outputs.trained", "outputs.derived",
    "outputs.results",
    "subject.files",
    "policy.claims", "policy.compute", "policy.age",
    "lineage.ancestors",
    "audit.present", "audit.list", "audit.result",
    "evaluation.present", "evaluation.result",
)  # fmt: skip


class NotAskedError(Exception):
    """The check does not apply."""
