"""Finding the tenant of a message, with the user's function."""

import asyncio
from dataclasses import dataclass

from aio_pika.abc import AbstractIncomingMessage

from resilience import log
from resilience._validate import kind_of, name_of
from resilience.integrations.rabbitmq.consumer_warnings import ConsumerWarnings
from resilience.integrations.rabbitmq.pacing import NO_TENANT
from resilience.integrations.rabbitmq.settings import TenantOf


@dataclass(frozen=True, slots=True)
class TenantLookup:
    """Asks the user's `tenant_of`, and survives it.

    Args:
        tenant_of: The function; None: messages have no tenants.
        warnings: The warnings of the consumer.
    """

    tenant_of: TenantOf | None
    warnings: ConsumerWarnings

    def find(self, message: AbstractIncomingMessage) -> str:
        """Return the tenant of a message; empty if it has none, or if the function fails."""
        if self.tenant_of is None:
            return NO_TENANT
        try:
            tenant: object = self.tenant_of(message)
        # The user's function may raise anything; nothing is awaited here that could be cancelled.
        except (Exception, asyncio.CancelledError) as fault:  # noqa: BLE001
            self._warn(log.describe_exception(fault))
            return NO_TENANT
        if tenant is None or isinstance(tenant, str):
            return tenant or NO_TENANT
        self._warn(f"returned {kind_of(tenant)}")
        return NO_TENANT

    def _warn(self, what: str) -> None:
        text = f"has a tenant_of, {name_of(self.tenant_of)}, that must return a string or None, and"
        self.warnings.warn("tenant_of", f"{text} {what}: the message counts as one without tenant")
