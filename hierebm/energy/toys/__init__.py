"""Toy densities with exact answers, ways to fit them, and the gallery of their figures.

In the order of reading: ``densities`` of the plane and ``conditional_densities``; ``recipes`` to
fit and to sample them; ``metrics``, how well that follows the known density; ``gallery``, the
figures. Only the command line and the benchmarks import from here.
"""
