"""Agents: the building blocks of hierebm put together."""
