"""The loop of ``learn``: act, store, tell the callbacks, train."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hierebm.agents.action_blocks import ActionBlocks
from hierebm.agents.measuring import fit_scales, fit_scales_again, set_clock, waits_for_motion
from hierebm.agents.reporting import ProgressReport
from hierebm.agents.state import AgentState
from hierebm.agents.training import look_at_updates, train_high_level, update_low_level
from hierebm.callbacks import BaseCallback
from hierebm.checkpoint.arrays import checked, rows_of
from hierebm.control.base import check_action
from hierebm.control.ddpg_captured import CapturedDDPG
from hierebm.control.exploration import HOLD, RandomWalk
from hierebm.goal_env.adapter import GoalEnv, StepResult
from hierebm.planning.following import PlanFollower
from hierebm.replay.episodes import StoredStep
from hierebm.replay.scales import FEWEST_STATES
from hierebm.types import FloatArray, GoalObservation

# Steps of the agent after which the transition map is brought up to date.
MAP_FREQ = 50
# Environment steps after which there is a row of the log, however few episodes have ended.
LOG_FREQ = 2000


class LearningLoop:
    """Acts in an environment with an agent that learns; goes on where the last call stopped.

    Args:
        agent: whose low and high level act and learn.
        env: where.
    """

    def __init__(self, agent: AgentState, env: GoalEnv) -> None:
        self.agent, self.env = agent, env
        self._follower: PlanFollower | None = None
        self._begun = (time.perf_counter(), 0)
        # Whether the low level's actions have been looked at: once is enough.
        self._is_checked = False
        self.restart()

    def restart(self) -> None:
        """Begin with a reset of the environment the next time."""
        self._observation: GoalObservation | None = None
        # Whether what was stored last is still to be learned from.
        self._is_training_due = False

    def run(self, target: int, callbacks: BaseCallback | None, log_interval: int | None) -> None:
        """Act and learn until the agent has taken ``target`` steps or a callback stops it."""
        agent = self.agent
        if self._observation is None:
            self._observation = self._reset()
        elif self._is_training_due and not self._learns_meanwhile:
            # A callback stopped the last call, or saved the agent, between the two.
            self._train()
        self._begun = (time.perf_counter(), agent.num_timesteps)
        logged = self._counts()
        progress = ProgressReport(agent)
        if callbacks is not None:
            callbacks.on_rollout_start()
        while agent.num_timesteps < target:
            if np.count_nonzero(due := self._blocks.due):
                goal = self._goals(self._observation)
                action = self._explore(self._observation, goal)
                self._blocks.begin(due, self._observation, goal, action)
            if self._is_training_due:
                self._train()
            before = self._observation
            step = self.env.step(self._blocks.action)
            self._store(step)
            self._is_training_due = True
            self._observation = step.current
            if self._follower is not None:
                self._follower.advance(step.current, step.ended, step.valid)
            agent.num_timesteps += step.n_valid
            ended = agent.episodes.count(step)
            agent.num_episodes += ended
            if ended:
                progress.look()
            if callbacks is not None and not self._tell(callbacks, before, step):
                break
            if not self._learns_meanwhile:
                self._train()
            if callbacks is not None:
                callbacks.on_rollout_start()
            if log_interval is not None:
                episodes, steps = (n - at for n, at in zip(self._counts(), logged, strict=True))
                if episodes >= log_interval or steps >= LOG_FREQ:
                    logged = self._counts()
                    self.dump_logs()
        else:
            # No update is left to the next call, unless a callback stopped this one.
            if self._is_training_due:
                self._train()
        if callbacks is not None:
            callbacks.on_rollout_end()
        progress.look()
        progress.close()
        self.dump_logs()

    def _counts(self) -> tuple[int, int]:
        return self.agent.num_episodes, self.agent.num_timesteps

    def _reset(self) -> GoalObservation:
        """Begin an episode in every environment."""
        agent, n = self.agent, self.env.n_envs
        observation = self.env.reset(seed=int(agent.rng.integers(2**31)))
        agent.replay_buffer.close_episodes()
        # Whoever measured it may have been interrupted.
        agent.tell_clock()
        self._random_walk = RandomWalk(n, self.env.spaces.action_dim, agent.rng)
        self._blocks = ActionBlocks(agent.action_repeat, n)
        self._follower = self._follow(None, None)
        agent.episodes.begin(observation)
        self.env.check_goals(observation)
        return observation

    def _follow(
        self, plans: Sequence[Any] | None, direct: Sequence[bool] | None
    ) -> PlanFollower | None:
        """What follows plans, if the agent plans; None: no plans yet, drawn here."""
        agent = self.agent
        if agent.high_level is None:
            return None
        return PlanFollower(
            agent.high_level.planner,
            plans,
            self.env.n_envs,
            lambda: agent.rng,
            learning=True,
            direct_share=agent.config.direct_episodes,
            direct=direct,
        )

    # --------------------------------------------------------------- persistence

    def state_dict(self) -> dict[str, Any] | None:
        """What :meth:`resume` goes on with in the middle of episodes: nested dicts and lists of
        arrays and plain values. None before there are any.
        """
        if self._observation is None:
            return None
        follower = None
        if self._follower is not None:
            planner = self._follower.planner
            plans = [None if p is None else planner.plan_state(p) for p in self._follower.plans]
            follower = {"plans": plans, "direct": list(self._follower.direct)}
        return {
            "observation": list(self._observation.parts),
            "is_training_due": self._is_training_due,
            "random_walk": self._random_walk.held,
            "blocks": self._blocks.state_dict(),
            "follower": follower,
            "env": self.env.state_dict(),
            "episodes": self.agent.episodes.running(),
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on in an environment that is where it was when :meth:`state_dict` was asked.

        Raises:
            Exception: ``state`` is of another number of environments, or damaged.
        """
        agent, n, spaces = self.agent, self.env.n_envs, self.env.spaces
        widths = spaces.obs_dim, spaces.goal_dim, spaces.goal_dim
        ran = rows_of(state["observation"], "observation", None, widths)
        if len(ran[0]) != n:
            raise ValueError(f"{len(ran[0])} environment(s) ran, not {n}")
        observation = GoalObservation(*ran)
        held = checked(state, "random_walk", (n, spaces.action_dim), "floats", low=-1, high=1)
        self._random_walk = RandomWalk(n, spaces.action_dim, agent.rng, held=held)
        self._blocks = ActionBlocks(agent.action_repeat, n)
        self._blocks.load_state_dict(state["blocks"], (*widths, spaces.goal_dim, spaces.action_dim))
        if agent.high_level is not None:
            planner, follower = agent.high_level.planner, state["follower"]
            plans = [
                None if p is None else planner.restored_plan(p, agent.rng)
                for p in follower["plans"]
            ]
            direct = [bool(direct) for direct in follower["direct"]]
            self._follower = self._follow(plans, direct)
        agent.episodes.resume(state["episodes"], n, widths)
        self.env.resume(observation, state["env"])
        self._is_training_due = bool(state["is_training_due"])
        self._observation = observation

    # ------------------------------------------------------------------- one step

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
            # What is held leads away from an object that lies near: fresh actions touch it.
            waiting = agent.knows_clock and agent.replay_buffer.n_added >= self._enough
            return self._random_walk.step(1.0 if waiting else HOLD)
        action = agent.low_level.act(observation.observation, observation.achieved_goal, goal)
        if not np.isfinite(action).all():
            # It says which network is lost.
            look_at_updates(agent)
        if not self._is_checked:
            check_action(agent.low_level, action, (len(goal), self.env.spaces.action_dim))
            self._is_checked = True
        action = agent.noise.add(action)
        if self._follower is not None and any(walking := self._follower.random_walk):
            action[walking] = self._follower.walk(self._random_walk.step())[walking]
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

    def _tell(self, callbacks: BaseCallback, before: GoalObservation, step: StepResult) -> bool:
        """Whether the callbacks want to go on after this step."""
        self.agent.replay_buffer.flush()
        look_at_updates(self.agent)
        outcome = {"rewards": step.reward, "dones": step.ended, "infos": step.infos}
        # What Stable-Baselines3's callbacks look at, then the whole of it.
        callbacks.update_locals({"actions": self._blocks.action, **outcome, "self": self.agent})
        callbacks.update_locals({"observation": before, "step": step})
        if not callbacks.on_step():
            return False
        callbacks.on_rollout_end()
        return True

    def _train(self) -> None:
        """Learn from what was stored, as often as the config says; log metrics."""
        self._learn_from_stored()
        self._is_training_due = False

    def _learn_from_stored(self) -> None:
        agent, c, n_added = self.agent, self.agent.config, self.agent.replay_buffer.n_added
        if n_added < self._enough:
            agent.trained_at = n_added
            return
        if not agent.knows_clock:
            assert self._observation is not None
            set_clock(agent, self.env, self._observation.desired_goal[0])
            if agent.action_repeat > 1:
                self._blocks = ActionBlocks(agent.action_repeat, self.env.n_envs)
                return
        if agent.scales is None:
            if waits_for_motion(agent, self._enough):
                agent.trained_at = n_added
                return
            fit_scales(agent)
        rounds = (n_added - agent.trained_at) // c.train_freq
        if rounds and n_added.bit_length() > agent.trained_at.bit_length():
            # Experience has doubled: to a power of two.
            fit_scales_again(agent)
        agent.trained_at += rounds * c.train_freq
        if agent.low_level.trainable:
            update_low_level(agent, rounds * c.gradient_steps)
        if agent.high_level is None:
            return
        if n_added - agent.planned_at >= c.energy_train_freq or not agent.high_level.can_plan:
            train_high_level(agent)
            # Afterwards: where learning is interrupted, it begins with this.
            agent.planned_at = n_added
        elif n_added - agent.high_level.mapped >= MAP_FREQ:
            agent.replay_buffer.flush()
            agent.high_level.map(agent.replay_buffer, n_added)

    @property
    def _learns_meanwhile(self) -> bool:
        """Whether updates are launched once the next action is chosen: a GPU makes them while the
        environments step, and that action is of a policy one step older."""
        agent = self.agent
        is_captured = isinstance(agent.low_level, CapturedDDPG)
        return is_captured and agent.knows_clock and agent.scales is not None

    @property
    def _enough(self) -> int:
        """Stored steps after which learning begins."""
        repeat = self.agent.action_repeat
        return max(-(-self.agent.config.learning_starts // repeat), FEWEST_STATES)

    def dump_logs(self) -> None:
        """Write a row of the log now."""
        agent, (started, started_at) = self.agent, self._begun
        look_at_updates(agent)
        elapsed = max(time.perf_counter() - started, 1e-9)
        agent.episodes.log(agent.logger)
        agent.logger.record("time/action_repeat", agent.action_repeat)
        agent.logger.record("time/episodes", agent.num_episodes)
        agent.logger.record("time/fps", int((agent.num_timesteps - started_at) / elapsed))
        agent.logger.record("time/time_elapsed", round(elapsed, 1))
        agent.logger.record("time/total_timesteps", agent.num_timesteps)
        agent.logger.record("train/n_updates", agent.n_updates)
        agent.logger.dump(agent.num_timesteps)
