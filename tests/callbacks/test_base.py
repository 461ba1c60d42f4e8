"""Hooks come in the order that Stable-Baselines3 calls them in; anything callable will do."""

from __future__ import annotations

import numpy as np
import pytest

from hierebm.callbacks import (
    BaseCallback,
    CallbackList,
    ConvertCallback,
    EventCallback,
    EveryNTimesteps,
    make_callback,
)
from tests.callbacks.agent import Agent


class Recorder(BaseCallback):
    def __init__(self, stop_at=None):
        super().__init__()
        self.calls: list[str] = []
        self.stop_at = stop_at

    def _init_callback(self):
        self.calls.append("init")

    def _on_training_start(self):
        self.calls.append("training_start")
        assert self.locals["total_timesteps"] == 4
        assert self.training_env.unwrapped is self.model.env.unwrapped

    def _on_rollout_start(self):
        self.calls.append("rollout_start")

    def _on_step(self):
        self.calls.append("step")
        self.logger.record("user/n_calls", self.n_calls)
        np.testing.assert_array_equal(self.locals["rewards"], [-1, -1])
        assert self.num_timesteps == 2 * self.n_calls
        return self.num_timesteps != self.stop_at

    def _on_rollout_end(self):
        self.calls.append("rollout_end")

    def _on_training_end(self):
        self.calls.append("training_end")


COLLECT = ["rollout_start", "step", "rollout_end"]
EXPECTED = ["init", "training_start", *COLLECT, *COLLECT]
EXPECTED += ["rollout_start", "rollout_end", "training_end"]


@pytest.mark.parametrize("wrap", [lambda c: c, lambda c: [c], lambda c: CallbackList([c])])
def test_hooks_come_in_order(wrap):
    callback = Recorder()
    agent = Agent(n_envs=2).learn(4, wrap(callback))
    assert callback.calls == EXPECTED
    assert agent.logger.name_to_value == {"user/n_calls": 2}


def test_any_callback_may_stop_and_all_get_their_turn():
    first, second = Recorder(stop_at=2), Recorder()
    agent = Agent(n_envs=2).learn(4, [first, second])
    assert agent.num_timesteps == 2
    assert first.calls.count("step") == second.calls.count("step") == 1
    assert second.calls[-1] == "training_end"


def test_training_end_is_called_after_an_error():
    class Fails(Recorder):
        def _on_step(self):
            raise KeyError("boom")

    callback = Fails()
    with pytest.raises(KeyError):
        Agent(n_envs=2).learn(4, callback)
    assert callback.calls[-1] == "training_end"


def test_plain_functions():
    seen = []

    def stop_at_three(locals_, globals_):
        assert locals_["self"].num_timesteps == len(seen) + 1
        assert "Agent" in globals_
        seen.append(locals_["rewards"][0])
        return len(seen) < 3

    assert Agent().learn(10, stop_at_three).num_timesteps == 3
    assert Agent().learn(5, lambda locals_, globals_: None).num_timesteps == 5
    assert (
        Agent()
        .learn(5, [lambda locals_, globals_: True, [lambda locals_, globals_: False]])
        .num_timesteps
        == 1
    )
    assert Agent().learn(5, None).num_timesteps == 5
    assert Agent().learn(5, ConvertCallback(None)).num_timesteps == 5


def test_callback_without_return_goes_on():
    class Silent(BaseCallback):
        def _on_step(self):
            pass

    assert Agent().learn(5, Silent()).num_timesteps == 5


@pytest.mark.parametrize(
    ("bad", "message"), [(3, "got int"), ([3], "got int"), (Recorder, "pass an instance")]
)
def test_what_is_no_callback_is_refused(bad, message):
    with pytest.raises(TypeError, match=message):
        make_callback(bad)


def test_incomplete_subclass_is_refused():
    class Incomplete(BaseCallback):
        pass

    with pytest.raises(TypeError, match="_on_step"):
        Incomplete()


def test_callbacks_written_for_stable_baselines3_run(tmp_path):
    sb3 = pytest.importorskip("stable_baselines3.common.callbacks")

    class Theirs(sb3.BaseCallback):
        def _on_step(self) -> bool:
            self.logger.record("user/theirs", self.num_timesteps)
            return self.num_timesteps < 6

    agent = Agent().learn(
        10, [Theirs(), sb3.CheckpointCallback(3, str(tmp_path), name_prefix="sb3")]
    )
    assert agent.num_timesteps == 6
    assert agent.logger.name_to_value == {"user/theirs": 6}


def test_our_callback_classes_have_the_hooks_of_stable_baselines3():
    sb3 = pytest.importorskip("stable_baselines3.common.callbacks")
    for name in ("BaseCallback", "EventCallback", "CallbackList", "ConvertCallback"):
        theirs, ours = getattr(sb3, name), globals()[name]
        assert {n for n in vars(theirs) if "on_" in n} <= set(dir(ours))


def test_every_n_timesteps_counts_env_steps():
    steps = []
    inner = ConvertCallback(lambda locals_, globals_: steps.append(locals_["self"].num_timesteps))
    Agent(n_envs=3).learn(30, EveryNTimesteps(7, inner))
    assert steps == [9, 18, 27]


def test_event_callback_passes_everything_to_its_child():
    child = Recorder()

    class Always(EventCallback):
        def _on_step(self):
            return self._on_event()

    Agent(n_envs=2).learn(4, Always(child))
    assert [c for c in child.calls if "rollout" not in c] == [
        "init",
        "training_start",
        "step",
        "step",
        "training_end",
    ]
    assert child.parent is not None
