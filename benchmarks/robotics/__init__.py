"""Worlds of other libraries: learning curves against flat, SORB-style and SB3's agents."""
