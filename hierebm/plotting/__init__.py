"""Pictures of plans, energies, episodes and learning curves."""
