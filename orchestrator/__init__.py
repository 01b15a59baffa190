"""Everything that is neither HTTP nor Ray: the interview's rules, storage, settings, processes."""

__version__ = "0.1.0"
