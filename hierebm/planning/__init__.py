"""The high level: subgoal samplers, the graph over subgoals, planners that follow it.

In the order of reading:

- ``high_level``: what it owns and how it learns; ``context``: what planners and samplers read;
- ``planner``: what a planner is; ``graph_planner``, ``sequence_planner``: the two that there are;
  ``following``: the plans of several environments side by side;
- ``graph``: nodes, edges and their cost, the transition map, shortest paths and their smoothing;
- ``samplers``: where nodes come from; ``sequence``: the sequence optimiser.
"""
