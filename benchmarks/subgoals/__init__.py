"""Success against the number of subgoals, by sampler and world."""
