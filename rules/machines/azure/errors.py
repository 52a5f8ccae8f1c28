"""Failures of terraform and Azure, in one line with what to do about them.

The codes are those of Azure Resource Manager and Microsoft Entra ("Troubleshoot common Azure
deployment errors", "Microsoft Entra authentication and authorization error codes"), the sentences
those of the azurerm provider. Any other failure is shown unchanged.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from aicert.errors import AicertError, ConfigError, ToolError

_MAX = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A known failure: how to recognise it, what it means, what to do."""

    sign: re.Pattern[str]
    message: str
    hint: str
    kind: type[AicertError] = ToolError


def _known(sign: str, message: str, hint: str, kind: type[AicertError] = ToolError) -> Known:
    return Known(sign=re.compile(sign, re.IGNORECASE), message=message, hint=hint, kind=kind)


# The first match counts: an expired login also says that there is no authorizer.
KNOWN = (
    _known(
        r"AADSTS(?:70043|700082|50173|50078|500133|700084)|ExpiredAuthenticationToken"
        r"|token (?:is|has) expired|refresh token has expired",
        "the login to Azure has expired",
        "az login",
    ),
    _known(
        r"AADSTS(?:7000215|7000222|700016)|invalid_client",
        "Azure does not accept these credentials (ARM_CLIENT_ID, ARM_CLIENT_SECRET)",
        'az ad sp credential reset --id "$ARM_CLIENT_ID"',
        ConfigError,
    ),
    _known(
        r"subscription_id.{0,40}is a required provider property|subscription ID could not be"
        r"|SubscriptionNotFound",
        "no subscription is set, or the login has no access to it",
        "export ARM_SUBSCRIPTION_ID=$(az account show --query id --output tsv)",
        ConfigError,
    ),
    _known(
        r"unable to build authorizer|could not configure .{0,40}authorizer|please run 'az login'"
        r"|Please run: az login|obtain(?:ing)? (?:a )?token|no (?:azure )?credentials",
        "there are no credentials for Azure",
        "az login",
        ConfigError,
    ),
    _known(
        r"QuotaExceeded|exceeding (?:approved|quota)|quota limit|LowPriorityQuota",
        "the subscription has no quota for this size in this region",
        "az vm list-usage --location REGION --output table  (then request more)",
    ),
    _known(
        r"SkuNotAvailable|is not available in location|VMSizeNotSupported|InvalidParameter.{0,200}"
        r"vmSize|NotAvailableForSubscription",
        "the region does not offer this size, or not to this subscription",
        "az vm list-skus --location REGION --size SIZE --output table",
        ConfigError,
    ),
    _known(
        r"AllocationFailed|OverconstrainedAllocation|InsufficientCapacity",
        "the region has no free machine of this size now",
        "try again later, or another region in aicert.toml",
    ),
    _known(
        r"StorageAccountAlreadyTaken|StorageAccountAlreadyExists|already exists - to be managed"
        r"|AccountNameUnavailable|name .{0,80}is already (?:taken|in use)",
        "a name chosen for this run is already taken",
        "./doit certify chooses a new one",
    ),
    _known(
        r"AuthorizationFailed|does not have authorization|LinkedAuthorizationFailed",
        "the login is not allowed to create what a run needs",
        "az role assignment create --role Contributor --assignee LOGIN --scope /subscriptions/ID",
        ConfigError,
    ),
    _known(
        r"MissingSubscriptionRegistration|is not registered to use namespace",
        "the subscription has not registered a resource provider that a run needs",
        "az provider register --namespace Microsoft.Compute  (docs/azure.md names all)",
        ConfigError,
    ),
    _known(
        r"RequestDisallowedByPolicy",
        "a policy of the subscription forbids what a run needs",
        "az policy state list --output table",
    ),
    _known(
        r"Failed to query available provider packages|Failed to install provider"
        r"|could not connect to registry|no available releases match",
        "terraform could not fetch the azurerm provider",
        "terraform -chdir=terraform/azure init",
    ),
    _known(
        r"Error acquiring the state lock",
        "another terraform is working on this run",
        "wait for it to end",
    ),
)


def explain(action: str, output: str, log: Path) -> AicertError:
    """Return the error for terraform's output when `action` failed."""
    for known in KNOWN:
        match = known.sign.search(output)
        if match:
            return known.kind(f"{known.message}: {_around(output, match)}", hint=known.hint)
    lines = [line.strip("│╷╵ ") for line in output.splitlines() if line.strip("│╷╵ ")]
    return ToolError(f"terraform {action} failed\n" + "\n".join(lines)[-_MAX:], hint=f"less {log}")


def _around(output: str, match: re.Match[str]) -> str:
    """Return the line around the match."""
    begin = output.rfind("\n", 0, match.start()) + 1
    end = output.find("\n", match.end())
    line = output[begin : end if end >= 0 else None]
    return " ".join(line.strip("│╷╵ ").split())[:300]
