"""Webhooks in memory: what WebhookStore promises, over dictionaries."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from orchestrator.errors import NotFound
from orchestrator.webhooks import Endpoint, Message


class MemoryWebhooks:
    """The methods of WebhookStore that the API uses."""

    hooks: dict[str, Endpoint]
    messages_by_id: dict[str, Message]

    async def endpoints(self) -> list[Endpoint]:
        return sorted(self.hooks.values(), key=lambda one: (one.created_at, one.id))

    async def endpoint(self, endpoint_id: str) -> Endpoint:
        if endpoint_id not in self.hooks:
            raise NotFound(f"There is no webhook {endpoint_id!r}.")
        return self.hooks[endpoint_id]

    async def add_endpoint(self, endpoint: Endpoint) -> bool:
        return self.hooks.setdefault(endpoint.id, endpoint) is endpoint

    async def change_endpoint(self, endpoint_id: str, change: Callable[[Endpoint], Endpoint]) -> Endpoint:
        self.hooks[endpoint_id] = change(await self.endpoint(endpoint_id))
        return self.hooks[endpoint_id]

    async def delete_endpoint(self, endpoint_id: str) -> bool:
        return self.hooks.pop(endpoint_id, None) is not None

    async def add_messages(self, messages: list[Message]) -> None:
        for message in messages:
            self.messages_by_id.setdefault(message.id, message)

    async def change_message(self, before: Message, after: Message) -> bool:
        if self.messages_by_id.get(before.id) != before:
            return False
        self.messages_by_id[before.id] = after
        return True

    async def queue_heads(self, lanes: Iterable[str], now: int) -> None:
        for lane in lanes:
            waiting = [m for m in self.messages_by_id.values() if m.lane == lane and m.is_open]
            first = min(waiting, key=lambda m: m.seq)
            self.messages_by_id[first.id] = first.due(now)

    async def wake(self, endpoint_id: str, now: int) -> None:
        for message in [m for m in self.messages_by_id.values() if m.due_at is not None]:
            self.messages_by_id[message.id] = message.due(now)

    async def messages_since(self, endpoint_id: str, at: int, limit: int, after: str = "") -> list[Message]:
        found = [m for m in self.messages_by_id.values() if m.endpoint_id == endpoint_id and m.at >= at]
        return sorted((m for m in found if m.position > after), key=lambda m: m.position)[:limit]

    async def message(self, message_id: str) -> Message | None:
        return self.messages_by_id.get(message_id)

    async def messages(self, endpoint_id: str, limit: int, before: str | None = None) -> list[Message]:
        found = [m for m in self.messages_by_id.values() if m.endpoint_id == endpoint_id]
        found = [m for m in found if before is None or m.position < before]
        return sorted(found, key=lambda m: m.position, reverse=True)[:limit]
