"""Energy-based models: networks, objectives, negatives, samplers and toy densities.

Nothing here knows of reinforcement learning. In the order of reading:

- ``protocol``, ``networks``, ``kernels``: what an energy is, the network, its gradient by hand;
- ``negatives``, ``contrastive``, ``objectives``, ``training``: what it is trained against, and how;
- ``resampling``, ``samplers``, ``annealing``, ``proposals``, ``sampling``: drawing from exp(-E),
  piece by piece, and ``draw``, which picks the pieces; ``bounds`` and ``diversity`` serve them;
- ``densities``, ``conditional_densities``, ``metrics``, ``recipes``, ``gallery``: known densities,
  how well an energy follows them, and the figures.
"""
