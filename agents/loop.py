"""The loop of ``learn``: act, store, tell the callbacks, train."""

from __future__ import annotations

import textwrap
import time
import warnings

import numpy as np

from hierebm.agents.action_blocks import ActionBlocks
from hierebm.agents.persistence import SavedAgent
from hierebm.agents.progress import ProgressWatch
from hierebm.callbacks import BaseCallback
from hierebm.control.base import check_action
from hierebm.control.exploration import RandomWalk
from hierebm.diagnosis import Diagnosis
from hierebm.goal_env.adapter import GoalEnv, StepResult
from hierebm.planning.following import PlanFollower
from hierebm.planning.high_level import HighLevel
from hierebm.replay import sample_transitions
from hierebm.replay.clock import measure_action_repeat
from hierebm.replay.episodes import StoredStep
from hierebm.replay.scales import FEWEST_STATES, measure_again, measure_scales
from hierebm.types import FloatArray, GoalObservation

# Steps of the agent after which the transition map is brought up to date.
MAP_FREQ = 50


class LearningLoop:
    """Acts in an environment with an agent that learns; goes on where the last call stopped.

    Args:
        agent: whose low and high level act and learn.
        env: where.
    """

    def __init__(self, agent: SavedAgent, env: GoalEnv) -> None:
        self.agent, self.env = agent, env
        self._follower: PlanFollower | None = None
        self._clock = (time.perf_counter(), 0)
        # Whether the low level's actions have been looked at: once is enough.
        self._is_checked = False
        self.restart()

    def restart(self) -> None:
        """Begin with a reset of the environment the next time."""
        self._observation: GoalObservation | None = None

    def run(self, target: int, callbacks: BaseCallback | None, log_interval: int | None) -> None:
        """Act and learn until the agent has taken ``target`` steps or a callback stops it."""
        agent = self.agent
        if self._observation is None:
            self._observation = self._reset()
        self._clock, logged = (time.perf_counter(), agent.num_timesteps), agent.num_episodes
        episodes = agent.episodes
        self._progress: ProgressWatch | None = ProgressWatch(
            agent.num_timesteps, episodes.n_ended, episodes.n_successes
        )
        if callbacks is not None:
            callbacks.on_rollout_start()
        while agent.num_timesteps < target:
            if np.count_nonzero(due := self._blocks.due):
                goal = self._goals(self._observation)
                action = self._explore(self._observation, goal)
                self._blocks.begin(due, self._observation, goal, action)
            step = self.env.step(self._blocks.action)
            self._store(step)
            self._observation = step.current
            if self._follower is not None:
                self._follower.advance(step.current, step.ended, step.valid)
            agent.num_timesteps += step.n_valid
            ended = agent.episodes.count(step)
            agent.num_episodes += ended
            if ended:
                self._watch_progress()
            if callbacks is not None and not self._tell(callbacks, step):
                break
            self._train()
            if callbacks is not None:
                callbacks.on_rollout_start()
            if log_interval is not None and agent.num_episodes - logged >= log_interval:
                logged = agent.num_episodes
                self.dump_logs()
        if callbacks is not None:
            callbacks.on_rollout_end()
        self._watch_progress()
        if agent.logger.dir is not None and (diagnosis := self._diagnose()) is not None:
            # TensorBoard shows what is indented as it is.
            text = textwrap.indent(str(diagnosis), "    ")
            agent.logger.record("diagnosis", text, exclude=("stdout", "json"))
        self.dump_logs()

    def _watch_progress(self) -> None:
        """Warn, once in a run, when nothing improves; at the end of an episode or of the run."""
        agent, episodes, landmarks = self.agent, self.agent.episodes, 0
        if agent.high_level is not None and agent.high_level.context.transition_map is not None:
            landmarks = len(agent.high_level.context.transition_map.landmarks)
        totals = agent.num_timesteps, episodes.n_ended, episodes.n_successes, landmarks
        if self._progress is None or not self._progress.note(*totals):
            return
        self._progress = None
        diagnosis = self._diagnose()
        if diagnosis is not None and diagnosis.limits:
            limit = diagnosis.limits[0]
            warnings.warn(
                f"nothing has improved for a long time. {limit.finding} Try: {limit.advice} "
                "More is told by print(agent.diagnose())",
                RuntimeWarning,
                stacklevel=4,
            )

    def _diagnose(self) -> Diagnosis | None:
        try:
            return self.agent.diagnose()
        # Whatever parts of one's own raise: a report is not worth a training run.
        except Exception as error:
            warnings.warn(f"there is no diagnosis: {error!r}", RuntimeWarning, stacklevel=4)
            return None

    def _reset(self) -> GoalObservation:
        """Begin an episode in every environment."""
        agent, n = self.agent, self.env.n_envs
        observation = self.env.reset(seed=int(agent.rng.integers(2**31)))
        agent.replay_buffer.close_episodes()
        self._random_walk = RandomWalk(n, self.env.spaces.action_dim, agent.rng)
        self._blocks = ActionBlocks(agent.action_repeat, n)
        if agent.high_level is not None:
            self._follower = PlanFollower(
                agent.high_level.planner,
                None,
                n,
                lambda: agent.rng,
                learning=True,
                direct_share=agent.config.direct_episodes,
            )
        agent.episodes.begin(observation)
        self.env.check_goals(observation)
        return observation

    def _goals(self, observation: GoalObservation) -> FloatArray:
        """(n, goal_dim) what the low level chases: subgoals of the plans, or the final goals."""
        high_level = self.agent.high_level
        if self._follower is None or high_level is None or not high_level.can_plan:
            return observation.desired_goal
        return self._follower.subgoals(observation)

    def _explore(self, observation: GoalObservation, goal: FloatArray) -> FloatArray:
        """(n, action_dim) exploring actions in [-1, 1]."""
        agent = self.agent
        if agent.scales is None:
            return self._random_walk.step()
        action = agent.low_level.act(observation.observation, observation.achieved_goal, goal)
        if not self._is_checked:
            check_action(agent.low_level, action, (len(goal), self.env.spaces.action_dim))
            self._is_checked = True
        action = agent.noise.add(action)
        if self._follower is not None and any(walking := self._follower.random_walk):
            action[walking] = self._random_walk.step()[walking]
        return action

    def _store(self, step: StepResult) -> None:
        blocks = self._blocks
        done = blocks.end(step)
        if np.count_nonzero(done):
            self.agent.replay_buffer.append(
                StoredStep.between(
                    blocks.observation,
                    blocks.goal,
                    blocks.action,
                    step.next_state,
                    step.failure,
                    step.ended,
                    done,
                )
            )

    def _tell(self, callbacks: BaseCallback, step: StepResult) -> bool:
        """Whether the callbacks want to go on after this step."""
        self.agent.replay_buffer.flush()
        outcome = {"rewards": step.reward, "dones": step.ended, "infos": step.infos}
        callbacks.update_locals({"actions": self._blocks.action, **outcome, "self": self.agent})
        if not callbacks.on_step():
            return False
        callbacks.on_rollout_end()
        return True

    def _train(self) -> None:
        """Learn from what was stored, as often as the config says; log metrics."""
        agent, c, n_added = self.agent, self.agent.config, self.agent.replay_buffer.n_added
        enough = max(c.learning_starts, FEWEST_STATES * agent.action_repeat)
        if n_added * agent.action_repeat < enough:
            agent.trained_at = n_added
            return
        if not agent.knows_clock:
            self._set_clock()
            if agent.action_repeat > 1:
                return
        if agent.scales is None:
            self._fit_scales()
        rounds = (n_added - agent.trained_at) // c.train_freq
        if rounds and n_added.bit_length() > agent.trained_at.bit_length():
            # Experience has doubled: to a power of two.
            self._fit_scales_again()
        agent.trained_at += rounds * c.train_freq
        if agent.low_level.trainable:
            self._train_low_level(rounds * c.gradient_steps)
        if agent.high_level is None:
            return
        if n_added - agent.planned_at >= c.energy_train_freq or not agent.high_level.can_plan:
            agent.planned_at = n_added
            self._train_high_level(agent.high_level)
        elif n_added - agent.high_level.mapped >= MAP_FREQ:
            agent.replay_buffer.flush()
            agent.high_level.map(agent.replay_buffer, n_added)

    def _set_clock(self) -> None:
        """Choose for how long actions are held, and begin again with that."""
        agent, replay = self.agent, self.agent.replay_buffer
        replay.flush()
        assert self._observation is not None
        goal = self._observation.desired_goal[0]
        farthest = np.abs(goal) + np.abs(replay.achieved_goal).max(0) + np.float32(1.0)
        tolerance = self.env.success_tolerance(goal, farthest)
        time_limit = self.env.max_episode_steps or agent.episodes.time_limit
        agent.set_action_repeat(measure_action_repeat(replay, tolerance, time_limit))
        if agent.action_repeat > 1:
            # Steps of another length: the two do not go into one buffer.
            agent.make_buffer(self.env)
            self._blocks = ActionBlocks(agent.action_repeat, self.env.n_envs)

    def _fit_scales(self) -> None:
        agent = self.agent
        agent.replay_buffer.flush()
        agent.scales = measure_scales(agent.replay_buffer, self.env.spaces.bounds, agent.rng)
        agent.low_level.fit_scale(agent.scales)
        if agent.high_level is not None:
            agent.high_level.fit_scale(agent.scales)

    def _fit_scales_again(self) -> None:
        agent, replay = self.agent, self.agent.replay_buffer
        assert agent.scales is not None
        replay.flush()
        # Where nothing has changed, nothing may depend on having looked.
        rng = np.random.default_rng(replay.n_added)
        scales = measure_again(agent.scales, replay, self.env.spaces.bounds, rng)
        if scales is agent.scales:
            return
        agent.scales = scales
        agent.low_level.refit_scale(scales)
        if agent.high_level is not None:
            agent.high_level.context.scales = scales

    def _train_low_level(self, n_updates: int) -> None:
        agent, c = self.agent, self.agent.config
        if n_updates:
            agent.replay_buffer.flush()
        for _ in range(n_updates):
            batch = sample_transitions(
                agent.replay_buffer,
                c.batch_size,
                self.env.reached,
                agent.rng,
                future=c.her_future,
                random=c.her_random,
                horizon=c.her_horizon,
            )
            self._log_means(agent.low_level.update(batch))
            agent.n_updates += 1

    def _train_high_level(self, high_level: HighLevel) -> None:
        replay = self.agent.replay_buffer
        replay.flush()
        true_steps = getattr(self.env.env.unwrapped, "shortest_path_steps", None)
        high_level.learn(replay, replay.n_added, self.agent.rng, self._log_means, true_steps)

    def _log_means(self, metrics: dict[str, float]) -> None:
        """Log each metric as its mean until the next row of the log."""
        self.agent.logger.record_dict(metrics, mean=True)

    def dump_logs(self) -> None:
        """Write a row of the log now."""
        agent, (started, started_at) = self.agent, self._clock
        elapsed = max(time.perf_counter() - started, 1e-9)
        agent.episodes.log(agent.logger)
        agent.logger.record("time/action_repeat", agent.action_repeat)
        agent.logger.record("time/episodes", agent.num_episodes)
        agent.logger.record("time/fps", int((agent.num_timesteps - started_at) / elapsed))
        agent.logger.record("time/time_elapsed", round(elapsed, 1))
        agent.logger.record("time/total_timesteps", agent.num_timesteps)
        agent.logger.record("train/n_updates", agent.n_updates)
        agent.logger.dump(agent.num_timesteps)
