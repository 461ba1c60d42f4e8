"""Networks of your own for actor and critics: here with layer normalisation."""

import torch
from torch import nn

import hierebm
from hierebm.control.ddpg import DistanceDDPG


class Ensemble(nn.Module):
    """(B, in_dim) -> (E, B, out_dim): any networks, side by side."""

    def __init__(self, networks):
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, x):
        """Every network's output for the same rows."""
        return torch.stack([network(x) for network in self.networks])


class NormalisedDDPG(DistanceDDPG):
    """The algorithm is inherited; only the networks are others."""

    def make_actor(self, in_dim, out_dim, generator):
        """(B, in_dim) -> (B, out_dim), before the tanh."""
        return nn.Sequential(
            nn.Linear(in_dim, 64), nn.LayerNorm(64), nn.ReLU(), nn.Linear(64, out_dim)
        )

    def make_critics(self, in_dim, out_dim, generator):
        """(B, in_dim) -> (E, B, out_dim)."""
        return Ensemble(self.make_actor(in_dim, out_dim, generator) for _ in range(2))


def main(steps: int = 10_000) -> hierebm.HierarchicalEBMAgent:
    """Train with them."""
    torch.manual_seed(0)  # these networks draw their weights from torch's global generator
    agent = hierebm.HierarchicalEBMAgent(low_level=NormalisedDDPG, seed=0)
    return agent.learn("PointMassGoal-v0", steps)


if __name__ == "__main__":
    main()
