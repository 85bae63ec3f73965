"""Who may read what is measured."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from pydantic import field_validator

from config.values import Section


class MetricsSettings(Section):
    """[metrics] Numbers for Prometheus, at /metrics of the console's web host."""

    on: bool = True
    """Whether the processes write them and the page is there."""

    networks: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    """Who may read the page, as networks such as "10.1.0.0/16"; all others find nothing there."""

    @field_validator("networks")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            try:
                ip_network(name)
            except ValueError:
                raise ValueError(
                    f'"{name}" is not a network. Write for example "10.1.0.0/16"'
                ) from None
        return value

    def admits(self, address: str) -> bool:
        """Whether somebody at this address may read."""
        try:
            client = ip_address(address)
        except ValueError:
            return False
        mapped = getattr(client, "ipv4_mapped", None)
        client = mapped or client
        return any(client in ip_network(name) for name in self.networks)
