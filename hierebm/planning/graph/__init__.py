"""The subgoal graph: nodes, edges and what experience says of them, shortest paths."""
