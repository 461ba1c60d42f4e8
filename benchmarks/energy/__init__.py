"""Energies, objectives and samplers on toy densities with known answers."""
