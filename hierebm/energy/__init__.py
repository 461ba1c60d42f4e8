"""Energy-based models: networks, objectives, negatives, samplers and toy densities.

Nothing here knows of reinforcement learning; torch and numpy are all it needs.
"""
