"""The ``hierebm`` command."""
