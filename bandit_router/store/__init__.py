"""A durable event store. `Store(url)` is what a `Router` takes; SQLAlchemy is imported when it is attached."""

from __future__ import annotations

from bandit_router.errors import StoreUnavailable
from bandit_router.store.settings import Sharing
from bandit_router.store.store import Store

__all__ = ["Sharing", "Store", "StoreUnavailable"]
