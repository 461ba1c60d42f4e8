"""The subgoal graph.

In the order of reading: ``nodes`` and ``edges`` (what is joined, and what an edge costs),
``transition_map`` (what trajectories verify), ``displacement`` and ``novelty_walk`` (how unknown
ground is explored), ``subgoal_graph`` (shortest paths), ``path_smoothing``, ``edge_cutoff`` (up to
where subgoals are reached), ``stitching`` (paths as training data), ``diagnostics`` (how good
predicted distances are), ``plan`` (a plan to look at).
"""
