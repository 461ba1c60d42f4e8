"""An energy network of your own for E(w | s, g): here a quadratic form in learned features."""

import gymnasium as gym
import torch
from torch import nn

import hierebm
from hierebm.planning.samplers import BetweenEnergy, EBMSampler


class FeatureDistance(nn.Module):
    """E(w | s, g) = |phi(w) - psi(s, g)|^2."""

    def __init__(self, goal_dim):
        super().__init__()
        self.phi = nn.Sequential(nn.Linear(goal_dim, 64), nn.SiLU(), nn.Linear(64, 16))
        self.psi = nn.Sequential(nn.Linear(2 * goal_dim + 1, 64), nn.SiLU(), nn.Linear(64, 16))

    def forward(self, w, condition):
        """w (..., m, goal_dim), condition (..., 1, 2 goal_dim + 1) -> (..., m)."""
        return (self.phi(w) - self.psi(condition)).square().sum(-1)


class FeatureEnergy(BetweenEnergy):
    """Training and drawing are inherited; only the network is another."""

    def make_network(self, goal_dim, generator):
        """See :class:`FeatureDistance`."""
        return FeatureDistance(goal_dim)


class FeatureSampler(EBMSampler):
    """The sampler that uses it."""

    energy_class = FeatureEnergy


def main(steps: int = 10_000) -> hierebm.HierarchicalEBMAgent:
    """Train with it."""
    torch.manual_seed(0)  # this network draws its weights from torch's global generator
    env = gym.make("PointMassGoal-v0", layout="four_rooms")
    return hierebm.HierarchicalEBMAgent(subgoal_sampler=FeatureSampler, seed=0).learn(env, steps)


if __name__ == "__main__":
    main()
