"""Search a setting, over two seeds, beside the defaults; after a kill, run it again: it goes on."""

import hierebm


def main(steps: int = 10_000) -> float:
    """Train every variant with every seed, on all cores; returns the best success rate."""
    study = {
        "envs": [{"id": "PointMassGoal-v0", "args": {"layout": "u"}, "name": "u"}],
        "agent": "ddpg-her",
        "seeds": "0-1",
        "total_timesteps": steps,
        "evaluations": 5,
        "episodes": 20,
        "compare": {"defaults": {}},
        "search": {"actor_lr": {"low": 1e-4, "high": 1e-2, "log": True}},
        "candidates": 2,
    }
    result = hierebm.sweep(study, "sweeps/u")
    print(result.best)
    return result.lines[0].success


if __name__ == "__main__":
    main()
