"""What the processes of the benchmark have imported when they begin."""

import torch

import hierebm
from hierebm.cli import commands

torch.set_num_threads(1)
IMPORTED = (hierebm.DDPGHERAgent, hierebm.HierarchicalEBMAgent, commands.train)
