"""Episodes are counted without bias, in any env, and as Stable-Baselines3 counts them."""

from __future__ import annotations

import itertools
import json
import math

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import hierebm
from hierebm.episode_loop import run_episodes
from hierebm.evaluation import Episode, EvaluationResult, evaluate, evaluate_policy, wilson_interval
from hierebm.goal_env.autoreset import AutoresetEnv

SPACE = gym.spaces.Box(-100.0, 100.0, (1,), np.float32)


class LineEnv(gym.Env):
    """Walk on a line to the goal; the goal's distance is the least number of steps.

    ``info`` reports success only while standing on the goal; the episode goes on for ``linger``
    steps, and who walks on has lost it again by the last one.
    """

    def __init__(self, linger=0, key="is_success", limit=30, info_on_reset=False):
        self.observation_space = gym.spaces.Dict(
            observation=SPACE, achieved_goal=SPACE, desired_goal=SPACE
        )
        self.action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.linger, self.key, self.limit = linger, key, limit
        self.info_on_reset = info_on_reset
        self.options_seen: list = []

    def _obs(self):
        x = np.array([self.x], np.float32)
        return {
            "observation": x,
            "achieved_goal": x.copy(),
            "desired_goal": np.array([self.goal], np.float32),
        }

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        options = dict(options or {})
        self.options_seen.append(options)
        low, high = options.get("distance", (2, 12))
        self.x, self.t, self.left = 0.0, 0, None
        self.goal = float(self.np_random.integers(low, high + 1))
        return self._obs(), ({self.key: True} if self.info_on_reset and self.key else {})

    def step(self, action):
        self.x += float(action[0])
        self.t += 1
        reached = abs(self.x - self.goal) < 0.5
        if reached and self.left is None:
            self.left = self.linger
        terminated = self.left == 0
        if self.left:
            self.left -= 1
        info = {self.key: reached} if self.key else {}
        return self._obs(), -1.0 + float(reached), terminated, self.t >= self.limit, info


class Walker:
    """Walks to goals up to ``farthest``, stands still before others; checks its own state."""

    def __init__(self, farthest=100.0):
        self.farthest = farthest

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        goal = observation["desired_goal"]
        if state is None:
            assert episode_start.all()
            state = goal.copy()
        state = np.where(episode_start[:, None], goal, state)
        # A plan from the last episode would show here as the wrong goal.
        np.testing.assert_array_equal(state, goal)
        assert deterministic
        direction = np.sign(goal - observation["achieved_goal"])
        return np.where(goal <= self.farthest, direction, 0.0).astype(np.float32), state


MODES = [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED]


def vector(n, mode, **kwargs):
    return SyncVectorEnv([lambda: LineEnv(**kwargs)] * n, autoreset_mode=mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("linger", [0, 3])
@pytest.mark.parametrize("info_on_reset", [False, True])
def test_vector_env_gives_what_its_sub_envs_give_alone(mode, linger, info_on_reset):
    n, per_env = 3, 4
    kwargs = {"linger": linger, "info_on_reset": info_on_reset}
    together = evaluate(Walker(7), vector(n, mode, **kwargs), n * per_env, seed=5)
    alone = [evaluate(Walker(7), LineEnv(**kwargs), per_env, seed=5 + i) for i in range(n)]
    assert [e.task for e in together.episodes] == list(range(n * per_env))
    for episode in together.episodes:
        expected = alone[episode.task % n].episodes[episode.task // n]
        assert (episode.length, episode.reward) == (expected.length, expected.reward)
        assert episode.success == expected.success == (episode.goal[0] <= 7)
        np.testing.assert_array_equal(episode.goal, expected.goal)
        np.testing.assert_array_equal(episode.start, expected.start)
        if episode.success:
            assert episode.length == episode.goal[0] + linger
        else:
            assert episode.length == 30


@pytest.mark.parametrize("mode", MODES)
def test_episodes_per_env_are_fixed_in_advance(mode):
    """Sub-env 0 has short episodes; counting the first n to finish would report mostly those."""

    def env(limit):
        return lambda: LineEnv(limit=limit)

    vec = SyncVectorEnv([env(2), env(20)], autoreset_mode=mode)
    result = evaluate(Walker(0), vec, 10, seed=0)
    assert sorted(e.length for e in result.episodes) == [2] * 5 + [20] * 5


@pytest.mark.parametrize("mode", MODES)
def test_options_reach_every_reset(mode):
    options = {"distance": (3, 5)}
    result = evaluate(Walker(), vector(3, mode), 10, seed=1, options=options)
    assert result.n_episodes == 10
    assert {float(e.goal[0]) for e in result.episodes} <= {3.0, 4.0, 5.0}
    assert all(e.length == e.goal[0] for e in result.episodes)
    assert options == {"distance": (3, 5)}


def test_options_reach_every_reset_of_a_single_env():
    env = LineEnv()
    result = evaluate(Walker(), env, 6, seed=1, options={"distance": (3, 5)})
    assert env.options_seen == [{"distance": (3, 5)}] * len(env.options_seen)
    assert {float(e.goal[0]) for e in result.episodes} <= {3.0, 4.0, 5.0}


@pytest.mark.parametrize("key", ["is_success", "success"])
def test_success_is_read_from_either_key(key):
    result = evaluate(Walker(7), LineEnv(key=key), 40, seed=0)
    expected = np.mean([e.goal[0] <= 7 for e in result.episodes])
    assert 0 < result.success_rate == expected < 1
    assert result.ci95 == wilson_interval(round(40 * expected), 40)


def test_env_without_success_reports_nan_and_still_prints():
    result = evaluate(Walker(), LineEnv(key=None), 3, seed=0)
    assert math.isnan(result.success_rate) and math.isnan(result.ci95[0])
    assert "not reported" in str(result)
    text = json.dumps(result.to_dict(), allow_nan=False)
    assert json.loads(text)["success_rate"] is None


def test_result_is_json_and_readable():
    result = evaluate(Walker(), LineEnv(), 5, seed=0)
    row = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert row["success_rate"] == 1.0 and len(row["episodes"]) == 5
    assert row["episodes"][0]["goal"] == result.episodes[0].goal.tolist()
    assert "success 1.000" in str(result) and "5 episodes" in str(result)


def test_same_seed_same_tasks_for_different_policies():
    good = evaluate(Walker(), LineEnv(), 8, seed=3)
    bad = evaluate(Walker(0), LineEnv(), 8, seed=3)
    assert good.success_rate == 1 and bad.success_rate == 0
    assert [e.goal[0] for e in good.episodes] == [e.goal[0] for e in bad.episodes]


def test_env_id_is_made_and_closed(monkeypatch):
    closed = []

    class Closing(LineEnv):
        def close(self):
            closed.append(True)

    monkeypatch.setitem(
        gym.registry, "Line-v0", gym.envs.registration.EnvSpec("Line-v0", entry_point=Closing)
    )
    result = evaluate(Walker(), "Line-v0", 3, seed=0, env_kwargs={"linger": 2})
    assert all(e.length == e.goal[0] + 2 for e in result.episodes)
    assert closed == [True]


def test_clear_errors():
    with pytest.raises(ValueError, match="n_eval_episodes"):
        evaluate(Walker(), LineEnv(), 0)
    with pytest.raises(TypeError, match="env id"):
        evaluate(Walker(), 3)
    with pytest.raises(ValueError, match="env_kwargs"):
        evaluate(Walker(), LineEnv(), 1, env_kwargs={"layout": "u"})


def test_wilson_interval():
    low, high = wilson_interval(8, 10)
    # Worked example from the formula at z = 1.96.
    assert low == pytest.approx(0.4902, abs=1e-4) and high == pytest.approx(0.9433, abs=1e-4)
    assert wilson_interval(10, 10)[1] == 1.0 and wilson_interval(10, 10)[0] < 0.75
    assert wilson_interval(0, 10)[0] == 0.0 and wilson_interval(0, 10)[1] > 0.25
    for k in range(21):
        low, high = wilson_interval(k, 20)
        mirrored = wilson_interval(20 - k, 20)
        assert low <= k / 20 <= high
        assert (low, high) == pytest.approx((1 - mirrored[1], 1 - mirrored[0]))


def test_evaluate_policy_agrees_with_stable_baselines3():
    sb3 = pytest.importorskip("stable_baselines3.common.evaluation")
    ours_env, theirs_env = LineEnv(), LineEnv()
    ours_env.reset(seed=11)
    theirs_env.reset(seed=11)
    ours = evaluate_policy(Walker(6), ours_env, 12, return_episode_rewards=True)
    theirs = sb3.evaluate_policy(Walker(6), theirs_env, 12, return_episode_rewards=True, warn=False)
    assert ours[0] == [float(r) for r in theirs[0]]
    assert ours[1] == [int(length) for length in theirs[1]]


def test_evaluate_policy_trusts_a_monitor_below_reward_wrappers():
    env = gym.wrappers.RecordEpisodeStatistics(LineEnv())
    scaled = gym.wrappers.TransformReward(env, lambda r: 100 * r)
    rewards, lengths = evaluate_policy(Walker(), scaled, 4, return_episode_rewards=True, seed=2)
    assert rewards == [1.0 - length for length in lengths]


@pytest.mark.parametrize("make", [LineEnv, *(lambda m=m: vector(2, m) for m in MODES)])
def test_evaluate_policy_callback_and_threshold(make):
    seen = []

    def callback(locals_, globals_):
        assert isinstance(globals_, dict)
        seen.append((locals_["i"], locals_["done"], bool(locals_["info"]["is_success"])))

    mean, deviation = evaluate_policy(Walker(), make(), 6, callback=callback, seed=0)
    assert sum(done for _, done, _ in seen) == 6
    assert all(success == done for _, done, success in seen)
    assert mean < 0 <= deviation
    with pytest.raises(AssertionError, match="not above"):
        evaluate_policy(Walker(), make(), 2, reward_threshold=0.0)


def test_render_is_called_every_step():
    class Rendering(LineEnv):
        frames = 0

        def render(self):
            self.frames += 1

    env = Rendering()
    _, lengths = evaluate_policy(Walker(), env, 2, render=True, return_episode_rewards=True, seed=0)
    assert env.frames == sum(lengths)


def test_lazy_name():
    assert hierebm.evaluate_policy is evaluate_policy


def test_summary_ignores_unreported_success():
    episodes = [Episode(1, -2.0, 2, True), Episode(0, -4.0, 4, None)]
    result = EvaluationResult.from_episodes(episodes)
    assert result.success_rate == 1.0 and result.mean_reward == -3.0
    assert [e.task for e in result.episodes] == [0, 1]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("options", [None, {"distance": (2, 9)}])
def test_sub_envs_with_nothing_to_do_start_no_episode(mode, options):
    """Agents plan where an episode starts: they should not do so for nothing."""
    started = []

    class Planner(Walker):
        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            started.append(int(episode_start.sum()))
            return super().predict(observation, state, episode_start, deterministic)

    evaluate(Planner(), vector(3, mode), 7, seed=0, options=options)
    # In rounds, the last round may start sub-envs that have their share already.
    assert 7 <= sum(started) <= (7 if options is None or mode is AutoresetMode.DISABLED else 9)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("options", [None, {"distance": (2, 9)}])
def test_sub_envs_with_nothing_to_do_stay_at_the_goal(mode, options):
    """Agents plan again where they get no nearer to a goal that is not reached."""
    seen = []

    class Observer(Walker):
        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            here = np.abs(observation["achieved_goal"] - observation["desired_goal"])[:, 0] < 0.5
            seen.append((observation["achieved_goal"][:, 0].copy(), here))
            return super().predict(observation, state, episode_start, deterministic)

    evaluate(Observer(), vector(3, mode), 7, seed=0, options=options)
    still = [
        (before == after) & (before > 0) for (before, _), (after, _) in itertools.pairwise(seen)
    ]
    assert np.concatenate(still).any(), "a sub-env waited"
    assert all(here[row].all() for row, (_, here) in zip(still, seen[1:], strict=True))


class Onward:
    """Walks through the goal and on."""

    def predict(self, observation, state=None, episode_start=None, deterministic=True):
        return np.ones((len(observation["observation"]), 1), np.float32), None


@pytest.mark.parametrize("make", [LineEnv, *(lambda m=m, **k: vector(2, m, **k) for m in MODES)])
def test_success_is_that_of_the_last_step_and_reached_that_of_any(make):
    ends = evaluate(Onward(), make(linger=0), 5, seed=0)
    assert (ends.success_rate, ends.reached_rate) == (1.0, 1.0)
    assert not ends.goes_on_at_goal and "reached" not in str(ends)
    goes_on = evaluate(Onward(), make(linger=3), 5, seed=0)
    assert (goes_on.success_rate, goes_on.reached_rate) == (0.0, 1.0)
    assert [(e.success, e.ever_reached) for e in goes_on.episodes] == [(False, True)] * 5
    assert goes_on.reached_ci95 == wilson_interval(5, 5)
    text = str(goes_on)
    assert text.startswith(
        "success 0.000 (95% 0.000 to 0.434) at the end, goal ever reached 1.000 ("
    )
    row = goes_on.to_dict()
    assert row["reached_rate"] == 1.0 and row["reached_ci95"] == list(goes_on.reached_ci95)
    assert row["episodes"][0]["ever_reached"] is True


class Replaced(LineEnv):
    """Says nothing of success; a goal that is reached gives way to another at once."""

    def __init__(self, **kwargs):
        super().__init__(key=None, linger=100, **kwargs)

    def compute_reward(self, achieved, desired, info):
        return np.where(np.abs(achieved - desired).max(-1) < 0.5, 0.0, -1.0)

    def step(self, action):
        observation, *step = super().step(action)
        if abs(self.x - self.goal) < 0.5:
            self.goal = -50.0
            observation = self._obs()
        return observation, *step


@pytest.mark.parametrize("make", [Replaced, *(lambda m=m: SyncVectorEnv(
    [Replaced] * 2, autoreset_mode=m) for m in MODES)])  # fmt: skip
def test_where_the_info_says_nothing_the_reward_tells_whether_goals_are_reached(make):
    result = evaluate(Onward(), make(), 6, seed=0)
    assert math.isnan(result.success_rate) and result.reached_rate == 1.0
    assert [e.success for e in result.episodes] == [None] * 6
    assert str(result).startswith("success not reported by the env, goal ever reached 1.000 (95%")

    class Still(Onward):
        def predict(self, *args, **kwargs):
            action, state = super().predict(*args, **kwargs)
            return 0 * action, state

    assert evaluate(Still(), make(), 6, seed=0).reached_rate == 0.0


def test_a_reward_that_is_not_sparse_or_cannot_be_asked_tells_nothing():
    class Dense(Replaced):
        def compute_reward(self, achieved, desired, info):
            return -np.abs(achieved - desired).max(-1)

    class Asks(Replaced):
        def compute_reward(self, achieved, desired, info):
            return info["what nobody gives"]

    for env in (Dense(), Asks()):
        result = evaluate(Onward(), env, 2, seed=0)
        assert [e.ever_reached for e in result.episodes] == [None, None]
        assert result.to_dict()["reached_rate"] is None and "reached" not in str(result)


def test_an_unreported_last_step_that_is_lost_is_not_counted_as_reached():
    class NoFinal(SyncVectorEnv):
        def step(self, actions):
            *step, infos = super().step(actions)
            return *step, {key: infos[key] for key in infos if "final_obs" not in key}

    lost = NoFinal([lambda: Replaced(limit=2)] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
    result = evaluate(Onward(), lost, 4, seed=0, options={"distance": (2, 2)})
    assert result.reached_rate == 0.0
    shown = SyncVectorEnv([lambda: Replaced(limit=2)] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
    result = evaluate(Onward(), shown, 4, seed=0, options={"distance": (2, 2)})
    assert result.reached_rate == 1.0


def test_an_env_that_keeps_its_last_observation_to_itself_can_be_evaluated():
    """Learning needs ``final_obs``; counting returns, lengths and successes does not."""

    class NoFinal(SyncVectorEnv):
        def step(self, actions):
            *step, infos = super().step(actions)
            return *step, {key: infos[key] for key in infos if "final_obs" not in key}

    same_step = AutoresetMode.SAME_STEP
    quiet = evaluate(Walker(7), NoFinal([LineEnv] * 2, autoreset_mode=same_step), 6, seed=0)
    usual = evaluate(Walker(7), vector(2, same_step), 6, seed=0)
    assert quiet.to_dict() == usual.to_dict()


@pytest.mark.parametrize("mode", MODES)
def test_a_monitor_around_a_vector_env_is_trusted_in_every_mode(mode):
    env = gym.wrappers.vector.RecordEpisodeStatistics(vector(2, mode))
    scaled = gym.wrappers.vector.TransformReward(env, lambda r: 100 * r)
    rewards, lengths = evaluate_policy(Walker(), scaled, 4, return_episode_rewards=True, seed=2)
    assert rewards == [1.0 - length for length in lengths]


def test_one_reward_in_an_array_is_a_reward():
    env = gym.wrappers.TransformReward(LineEnv(), lambda r: np.array([r]))
    assert (
        evaluate(Walker(), env, 3, seed=0).to_dict()
        == evaluate(Walker(), LineEnv(), 3, seed=0).to_dict()
    )


@pytest.mark.parametrize("mode", MODES)
def test_an_observer_sees_every_step_of_every_episode(mode):
    env, steps = AutoresetEnv(vector(3, mode)), []

    def observe(seen):
        goals = seen.observations["desired_goal"]
        true_end = seen.step.next_observation
        for i in np.flatnonzero(seen.active):
            np.testing.assert_array_equal(true_end["desired_goal"][i], goals[i])
            np.testing.assert_array_equal(
                true_end["achieved_goal"][i], seen.observations["achieved_goal"][i] + 1
            )
        steps.append((seen.active & seen.step.ended, seen.lengths.copy()))

    episodes = list(run_episodes(Walker(), env, 7, seed=0, observe=observe))
    assert len(episodes) == 7 == sum(ended.sum() for ended, _ in steps)
    lengths = np.concatenate([length[ended] for ended, length in steps])
    assert lengths.tolist() == [episode.length for episode in episodes]
