"""Speed against Stable-Baselines3, plain modules and the arithmetic floor."""
