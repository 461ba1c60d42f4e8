"""Benchmarks: every figure that the README quotes comes from ``python -m benchmarks NAME``."""
