"""Toy densities with exact answers, ways to fit them, and the gallery of their figures."""
