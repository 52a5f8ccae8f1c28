"""What a run on Azure may cost, and about how much it has cost.

Prices are list prices of Linux machines, pay as you go, in USD, in the region East US, entered by
hand on the date below. Other regions, agreements and currencies differ. `hourly-price` of a machine
in aicert.toml replaces them. Disks and storage are not included: a few cents for a run of hours.
"""

from dataclasses import dataclass

from rules.host.progress import seconds

AS_OF = "2025-06"
# Sizes documented to support Trusted Launch and a SCSI controller; others may work as well.
USD_PER_HOUR = {
    "Standard_D4s_v5": 0.192,
    "Standard_D8s_v5": 0.384,
    "Standard_D16s_v5": 0.768,
    "Standard_E8s_v5": 0.504,
    "Standard_E16s_v5": 1.008,
    "Standard_NC24ads_A100_v4": 3.673,
    "Standard_NC48ads_A100_v4": 7.346,
    "Standard_NC40ads_H100_v5": 6.98,
    "Standard_NC80adis_H100_v5": 13.96,
}
# From creating the disks to the machine's start, and from its end until nothing is left.
AROUND_S = 900


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """The costs of one machine size; `hourly` is None if no price is known."""

    size: str
    hourly: float | None
    origin: str

    def before(self, limit_s: float) -> str:
        """Return one line: the most that the run costs, provided that the machine is destroyed."""
        if self.hourly is None:
            return (
                f"{self.size}: price unknown; set hourly-price in aicert.toml "
                f"(runs for at most {seconds(limit_s + AROUND_S)})"
            )
        most = self.hourly * (limit_s + AROUND_S) / 3600
        return (
            f"{self.size}: {self.hourly:.2f} an hour ({self.origin}), "
            f"at most {most:.2f} for {seconds(limit_s + AROUND_S)}"
        )

    def after(self, used_s: float) -> str:
        """Return one line: about how much the run has cost."""
        if self.hourly is None:
            return f"{self.size}: used for {seconds(used_s)}"
        return f"{self.size}: used for {seconds(used_s)}, about {self.hourly * used_s / 3600:.2f}"


def of(size: str, hourly_price: float | None) -> Costs:
    """Return the costs of a size; the user's own price takes precedence."""
    if hourly_price is not None:
        return Costs(size=size, hourly=hourly_price, origin="hourly-price in aicert.toml")
    return Costs(
        size=size,
        hourly=USD_PER_HOUR.get(size),
        origin=f"USD, list price East US {AS_OF}, without disks",
    )
