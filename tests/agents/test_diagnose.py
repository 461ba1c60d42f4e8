"""What agents say of themselves, and that asking them changes nothing."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import SyncVectorEnv
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hierebm import DDPGHERAgent, HierarchicalEBMAgent
from hierebm.agents.config import DDPGHERConfig
from hierebm.agents.progress import ProgressWatch
from hierebm.diagnosis import measure
from hierebm.planning.planner import Planner, PlanState
from tests.toys import SMALL, LineGoal

FLAT = {k: v for k, v in SMALL.items() if k in DDPGHERConfig.__dataclass_fields__}
SEQUENCE = {"planner": "sequence", "sequence": {"chains": 4, "langevin_steps": 3}}
POINT = "PointMassGoal-v0"


class Straight(Planner):
    """A planner that knows no graph."""

    uses_graph = False

    def begin(self, observation, achieved_goal, goal, rng, learning=False):  # type: ignore[no-untyped-def]
        plan = PlanState(goal, rng, learning)
        plan.chase(goal, 10.0)
        return plan

    def step(self, plan, observation, achieved_goal):  # type: ignore[no-untyped-def]
        return plan


class Scaled(gym.ActionWrapper):  # type: ignore[type-arg]
    """Acts a fraction as fast."""

    def __init__(self, factor: float) -> None:
        super().__init__(LineGoal(limit=100))
        self.factor = factor

    def action(self, action: np.ndarray) -> np.ndarray:
        return np.asarray(action * self.factor, np.float32)


class Everything(LineGoal):
    """Pays for whatever one does."""

    def compute_reward(self, achieved: np.ndarray, desired: np.ndarray, info: Any) -> Any:
        return np.zeros(np.shape(achieved)[:-1])


class Elsewhere(LineGoal):
    """Its goals lie beyond a wall."""

    def reset(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(**kwargs)
        self.x, self.goal = -0.9, 0.9
        return self._observe(), {}

    def step(self, action: np.ndarray) -> Any:
        *_, ended, info = super().step(action)
        self.x = min(self.x, -0.2)
        return self._observe(), -1.0, False, ended, info | {"is_success": False}


def hierarchical(**kwargs: Any) -> HierarchicalEBMAgent:
    return HierarchicalEBMAgent(seed=0, **{**SMALL, **kwargs})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an agent and its replay buffer."""
    folder = tmp_path_factory.mktemp("trained")
    agent = hierarchical(train_freq=4).learn(POINT, 2000)
    agent.save(folder / "agent.zip")
    agent.save_replay_buffer(folder / "replay.zip")
    return folder


def test_figures_of_a_graph_agent_with_and_without_experience(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However slow the machine is.
    monkeypatch.setattr(measure, "PLAN_SECONDS", 60.0)
    agent = HierarchicalEBMAgent.load(trained / "agent.zip", env=POINT)
    without = agent.diagnose()
    agent.load_replay_buffer(trained / "replay.zip")
    full = agent.diagnose()
    for diagnosis in (full, without):
        assert diagnosis.env == POINT and diagnosis.timesteps == 2000
        assert diagnosis.success_tolerance == pytest.approx((0.3, 0.3), abs=1e-3)
        assert diagnosis.clock == "good" and diagnosis.tasks_from == "episodes"
        assert diagnosis.episodes == diagnosis.recent_episodes >= 20
        assert diagnosis.successes == round(diagnosis.success_rate * diagnosis.episodes)
        assert diagnosis.longest_episode == 100 and diagnosis.tasks > 5
        assert 0.0 <= diagnosis.path_verified <= diagnosis.path_found <= 1.0
        assert diagnosis.known_goals > 0.3 and 0.3 < diagnosis.connected_ground <= 1.0
        assert diagnosis.safe_edge >= diagnosis.configured_safe_edge == 8.0
        assert 0.0 < diagnosis.predicted_steps <= 15.0
        assert diagnosis.limits[0].name == "few updates"
        json.dumps(diagnosis.to_dict())
    assert full.has_replay and full.moving > 0.5 and full.experienced_steps == 8.0
    assert full.still_axes == () and full.already_reached < 0.6
    assert not without.has_replay and without.moving is None
    assert "no replay buffer" in str(without) and "no replay buffer" not in str(full)
    # The same question has the same answer.
    assert str(agent.diagnose()) == str(full)


def test_a_file_without_its_environment_is_enough(trained: Path) -> None:
    loaded = HierarchicalEBMAgent.load(trained / "agent.zip").diagnose()
    assert loaded.env is None and loaded.tasks > 0
    assert loaded.tolerance_in_steps == pytest.approx(
        HierarchicalEBMAgent.load(trained / "agent.zip", env=POINT).diagnose().tolerance_in_steps
    )


def test_episodes_of_a_file_are_those_of_its_agent(trained: Path) -> None:
    agent = HierarchicalEBMAgent.load(trained / "agent.zip", env=POINT)
    before = agent.episodes.means()
    assert agent.episodes.n_ended == len(agent.episodes.finished)
    agent.learn(total_timesteps=100, reset_num_timesteps=False)
    assert agent.episodes.means() != before
    # In another environment they tell nothing.
    agent.set_env(gym.make(POINT))
    assert agent.episodes.means() == {} and agent.diagnose().success_rate is None


@pytest.mark.parametrize("kind", ["flat", "graph", "sequence"])
def test_learning_is_the_same_with_and_without_being_asked(kind: str, tmp_path: Path) -> None:
    def run(ask: bool, folder: Path | None) -> Any:
        settings = {"flat": FLAT, "graph": SMALL, "sequence": {**SMALL, **SEQUENCE}}[kind]
        agent_class = DDPGHERAgent if kind == "flat" else HierarchicalEBMAgent
        agent = agent_class(seed=3, tensorboard_log=folder, **settings)

        def asked(local: Any, _: Any) -> bool:
            if ask and agent.num_timesteps % 150 == 0:
                before = None if kind == "flat" else stats_of_predict(agent)
                agent.diagnose()
                assert kind == "flat" or stats_of_predict(agent) == before
            return True

        agent.learn(POINT, 600, callback=asked)
        return agent

    def stats_of_predict(agent: Any) -> dict[str, Any]:
        return dict(agent.high_level.planner.stats_of_predict.sums)

    one, other = run(False, None), run(True, tmp_path)
    assert one.rng.bit_generator.state == other.rng.bit_generator.state
    assert torch.equal(one.generator.get_state(), other.generator.get_state())
    assert (one.replay_buffer.action == other.replay_buffer.action).all()
    ours, theirs = one.low_level.state_dict(), other.low_level.state_dict()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_before_there_is_anything_to_say() -> None:
    with pytest.raises(RuntimeError, match="nothing to diagnose yet"):
        hierarchical().diagnose()
    unlearned = hierarchical(env=LineGoal()).diagnose()
    assert [limit.name for limit in unlearned.limits] == ["nothing learned"]
    begun = hierarchical().learn(LineGoal(), 100).diagnose()
    assert [limit.name for limit in begun.limits] == ["nothing learned"]
    assert "100 environment steps" in str(begun) and "first 200" in str(begun)


def test_a_clock_ten_times_too_fine_is_named_first() -> None:
    diagnosis = hierarchical(action_repeat=1).learn(Scaled(0.02), 1000).diagnose()
    assert diagnosis.limits[0].name == "clock too fine" and diagnosis.clock == "too fine"
    assert "action_repeat=" in diagnosis.limits[0].advice


def test_held_actions_count_as_steps() -> None:
    agent = DDPGHERAgent(seed=0, **FLAT).learn(LineGoal(limit=20), 500)
    agent.set_action_repeat(4)
    diagnosis = agent.diagnose()
    assert diagnosis.action_repeat == 4 and diagnosis.longest_episode == 5.0


def test_a_reward_that_pays_for_everything_is_named_first() -> None:
    diagnosis = DDPGHERAgent(seed=0, **FLAT).learn(Everything(), 500).diagnose()
    assert [limit.name for limit in diagnosis.limits] == ["everything counts as reached"]


def test_goals_that_nobody_ever_came_near() -> None:
    diagnosis = hierarchical().learn(Elsewhere(), 800).diagnose()
    assert diagnosis.known_goals == 0.0 and diagnosis.time_limit_rate == 1.0
    assert diagnosis.successes == 0 and diagnosis.episodes == 40
    assert "goals outside known ground" in [limit.name for limit in diagnosis.limits]


def test_the_sequence_planner_tells_what_the_map_knows() -> None:
    agent = hierarchical(planner="sequence", sequence=SEQUENCE["sequence"]).learn(LineGoal(), 600)
    diagnosis = agent.diagnose()
    assert diagnosis.can_plan and diagnosis.known_goals == 1.0
    assert diagnosis.landmarks is not None and diagnosis.landmarks > 0


def test_planners_without_a_graph_leave_it_out() -> None:
    agent = hierarchical(planner=Straight, sequence=SEQUENCE["sequence"]).learn(LineGoal(), 600)
    diagnosis = agent.diagnose()
    assert diagnosis.can_plan and diagnosis.landmarks is None and diagnosis.path_found is None
    assert diagnosis.subgoals_reached is None and diagnosis.known_goals == 1.0
    assert "Paths" not in str(diagnosis) and "landmarks" not in str(diagnosis)


def test_settings_without_map_and_cutoff() -> None:
    agent = hierarchical(unverified_cost=1.0, calibrate_cutoff=False).learn(LineGoal(), 600)
    diagnosis = agent.diagnose()
    assert diagnosis.landmarks is None and diagnosis.verified_edges is None
    assert diagnosis.tasks > 0 and diagnosis.safe_edge == 8.0


def test_many_environments_side_by_side() -> None:
    agent = DDPGHERAgent(seed=0, **FLAT).learn(SyncVectorEnv([LineGoal] * 3), 600)
    tasks = agent.episodes.tasks()
    assert tasks is not None
    # Beginnings of episodes, none of their ends: each is a task of its own.
    assert len(np.unique(tasks.achieved_goal)) == len(tasks.achieved_goal)
    assert agent.diagnose().episodes == len(tasks.achieved_goal)


def test_it_is_written_to_tensorboard_and_nowhere_else(tmp_path: Path, capsys: Any) -> None:
    agent = DDPGHERAgent(seed=0, tensorboard_log=tmp_path, verbose=1, **FLAT)
    agent.learn(LineGoal(), 500)
    events = EventAccumulator(str(tmp_path / "DDPGHER_1")).Reload()
    (event,) = events.Tensors("diagnosis/text_summary")
    text = event.tensor_proto.string_val[0].decode()
    lines = [line.removeprefix("    ") for line in text.splitlines()]
    assert "\n".join(lines).strip() == str(agent.diagnose()).strip()
    assert "diagnosis" not in (tmp_path / "DDPGHER_1" / "progress.jsonl").read_text()
    assert "diagnosis" not in capsys.readouterr().out


def test_one_warning_names_the_first_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ProgressWatch, "note", lambda self, *totals: totals[0] > 300)
    with pytest.warns(
        RuntimeWarning, match=r"nothing has improved.*A step at full.*Try: "
    ) as caught:
        DDPGHERAgent(seed=0, **FLAT).learn(LineGoal(), 600)
    assert len(caught) == 1 and caught[0].filename == __file__


def test_a_report_that_cannot_be_made_costs_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = DDPGHERAgent(seed=0, tensorboard_log=tmp_path, **FLAT)

    def broken(*args: Any) -> Any:
        raise KeyError("mine")

    monkeypatch.setattr(agent, "diagnose", broken)
    with pytest.warns(RuntimeWarning, match="no diagnosis: KeyError"):
        agent.learn(LineGoal(), 300)
    assert agent.num_timesteps == 300


def test_nothing_is_warned_of_in_a_normal_run() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        hierarchical().learn(LineGoal(), 1000)
