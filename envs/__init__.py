"""Goal environments that ship with hierebm."""
