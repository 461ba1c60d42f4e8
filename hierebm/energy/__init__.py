"""Energy-based models: E(y), E(y | x) and E(y | x, z), low where y is likely.

Nothing here depends on reinforcement learning. In the order of reading:

1. What an energy is: ``protocol``, the network in ``networks``, its gradient by hand in
   ``kernels``.
2. How it is trained: ``losses`` turn energies of positives and negatives into a number,
   ``objectives`` are the losses by name with their forward passes, ``negatives`` draw what the
   data is contrasted with, ``training`` does the gradient steps.
3. How samples are drawn from exp(-E): ``resampling`` of candidates from ``proposals``, the Markov
   chains of ``mcmc`` inside ``bounds``, tempered sequential Monte Carlo in ``annealing``, and
   ``default_sampler``, which chooses between them; ``point_selection`` spreads samples out.
4. What that gives where the answer is known: the densities and figures of ``toys``.

    >>> model = EnergyMLP(y_dim=2)
    >>> fit_energy(model, data)                                            # (N, 2)
    >>> draw(model, 64, UniformProposal(low, high)).y                      # (1, 64, 2)
"""

from hierebm.energy.annealing import anneal
from hierebm.energy.bounds import Bounds, inside, reflect
from hierebm.energy.default_sampler import METHODS, Draws, SamplerConfig, draw
from hierebm.energy.losses import (
    binary_nce,
    contrastive_divergence,
    info_nce,
    info_nce_rows,
    margin_ranking,
)
from hierebm.energy.mcmc import (
    MALAResult,
    annealed_langevin,
    descent,
    langevin,
    mala,
    metropolis,
)
from hierebm.energy.negatives import (
    HardNegatives,
    LangevinNegatives,
    MismatchedNegatives,
    NegativeSource,
    PivotNegatives,
    ReplayNegatives,
    UniformNegatives,
)
from hierebm.energy.networks import EnergyMLP
from hierebm.energy.objectives import (
    OBJECTIVES,
    ContrastiveBatch,
    Objective,
    denoising_score_matching,
    get_objective,
    latent_info_nce,
    sample_latents,
)
from hierebm.energy.point_selection import farthest_points, kmeans_medoids, kmeans_plus_plus
from hierebm.energy.proposals import GaussianProposal, Proposal, ReplayProposal, UniformProposal
from hierebm.energy.protocol import EnergyModel, SamplingError, autograd_energy_and_grad
from hierebm.energy.resampling import importance_resample
from hierebm.energy.training import (
    EnergyTrainer,
    TrainingConfig,
    default_negatives,
    fit_energy,
)
from hierebm.errors import TrainingDiverged

__all__ = [
    "METHODS",
    "OBJECTIVES",
    "Bounds",
    "ContrastiveBatch",
    "Draws",
    "EnergyMLP",
    "EnergyModel",
    "EnergyTrainer",
    "GaussianProposal",
    "HardNegatives",
    "LangevinNegatives",
    "MALAResult",
    "MismatchedNegatives",
    "NegativeSource",
    "Objective",
    "PivotNegatives",
    "Proposal",
    "ReplayNegatives",
    "ReplayProposal",
    "SamplerConfig",
    "SamplingError",
    "TrainingConfig",
    "TrainingDiverged",
    "UniformNegatives",
    "UniformProposal",
    "anneal",
    "annealed_langevin",
    "autograd_energy_and_grad",
    "binary_nce",
    "contrastive_divergence",
    "default_negatives",
    "denoising_score_matching",
    "descent",
    "draw",
    "farthest_points",
    "fit_energy",
    "get_objective",
    "importance_resample",
    "info_nce",
    "info_nce_rows",
    "inside",
    "kmeans_medoids",
    "kmeans_plus_plus",
    "langevin",
    "latent_info_nce",
    "mala",
    "margin_ranking",
    "metropolis",
    "reflect",
    "sample_latents",
]
