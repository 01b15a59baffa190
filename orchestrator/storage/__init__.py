"""MongoDB through motor. Nothing outside this package imports a database driver."""

from orchestrator.storage.store import Store

__all__ = ["Store"]
