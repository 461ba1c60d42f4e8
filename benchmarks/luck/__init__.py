"""Worlds where luck decides: the agents against a planner that knows the chances."""
