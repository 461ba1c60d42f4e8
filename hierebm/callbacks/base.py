"""The hooks of a callback, and callbacks that are made of others."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from hierebm.logging.logger import Logger, TableOutput

Hook = Callable[[dict[str, Any], dict[str, Any]], Any]


class BaseCallback(ABC):
    """Base class of callbacks.

    Attributes:
        model: the agent, from ``init_callback`` on.
        num_timesteps: env steps so far, over all sub-envs; in ``learn_offline`` gradient steps.
        n_calls: how often ``on_step`` was called; one call is a step of every sub-env, or a
            gradient step of ``learn_offline``.
        locals, globals: variables of the training loop. After a step, ``locals`` has ``actions``
            (n, action_dim) in [-1, 1], ``rewards``, ``dones`` and ``infos`` as Stable-Baselines3's,
            ``observation``, the states (a ``GoalObservation``) that the actions were taken in, and
            ``step``, the ``StepResult`` (``hierebm/goal_env/adapter.py``) with the true next ones.
            In ``learn_offline`` it has ``gradient_step`` instead.
        parent: the callback that triggers this one, if any.
    """

    model: Any

    def __init__(self, verbose: int = 0) -> None:
        self.verbose = verbose
        self.n_calls = 0
        self.num_timesteps = 0
        self.locals: dict[str, Any] = {}
        self.globals: dict[str, Any] = {}
        self.parent: BaseCallback | None = None

    @property
    def training_env(self) -> Any:
        """The env that the agent learns in, with ``num_envs``, ``get_attr`` and ``env_method`` as
        Stable-Baselines3's have them, single or not.
        """
        return self.model.get_env()

    @property
    def logger(self) -> Logger:
        """The agent's logger."""
        return self.model.logger

    def init_callback(self, model: Any) -> None:
        """Called once, before training, with the agent."""
        self.model = model
        self._init_callback()

    def on_training_start(self, locals_: dict[str, Any], globals_: dict[str, Any]) -> None:
        """Called before the first step."""
        self.locals, self.globals = locals_, globals_
        self.num_timesteps = self._count()
        self._on_training_start()

    def on_rollout_start(self) -> None:
        """Called before experience is collected."""
        self._on_rollout_start()

    def on_step(self) -> bool:
        """Called after every step of the env; False stops training."""
        self.n_calls += 1
        self.num_timesteps = self._count()
        return goes_on(self._on_step())

    def _count(self) -> int:
        # Offline nothing is stepped, and what is done now and then goes by gradient steps.
        steps: int = self.locals.get("gradient_step", self.model.num_timesteps)
        return steps

    def on_rollout_end(self) -> None:
        """Called after experience was collected, before the updates."""
        self._on_rollout_end()

    def on_training_end(self) -> None:
        """Called after the last step, also when training ends with an exception."""
        self._on_training_end()

    def update_locals(self, locals_: dict[str, Any]) -> None:
        """Called by the training loop whenever its variables changed."""
        self.locals.update(locals_)
        self.update_child_locals(locals_)

    def say(self, text: str) -> None:
        """Print a line, whether the agent is verbose or not; a progress bar stays intact."""
        with suppress(OSError):
            TableOutput().print(text)

    # Hooks that a subclass may leave out: empty on purpose, and not abstract.

    def update_child_locals(self, locals_: dict[str, Any]) -> None:  # noqa: B027
        """Hand new variables to the callbacks that this one triggers."""

    def _init_callback(self) -> None:  # noqa: B027
        pass

    def _on_training_start(self) -> None:  # noqa: B027
        pass

    def _on_rollout_start(self) -> None:  # noqa: B027
        pass

    @abstractmethod
    def _on_step(self) -> bool:
        """Return False to stop training."""

    def _on_rollout_end(self) -> None:  # noqa: B027
        pass

    def _on_training_end(self) -> None:  # noqa: B027
        pass


def as_callback(entry: Any) -> BaseCallback:
    """One callback, a plain function, or a list of those, as a callback. Raises TypeError."""
    if isinstance(entry, type):
        raise TypeError(f"callback is the class {entry.__name__}; pass an instance of it")
    if isinstance(entry, BaseCallback) or hasattr(entry, "init_callback"):
        return entry
    if isinstance(entry, (list, tuple)):
        return CallbackList(entry)
    if callable(entry):
        return ConvertCallback(entry)
    raise TypeError(
        "callback must be a BaseCallback, a function (locals, globals) -> bool, or a list of "
        f"those, got {type(entry).__name__}"
    )


def init_callback(callback: BaseCallback, model: Any) -> None:
    """Tell a callback of the agent."""
    with warnings.catch_warnings():
        # It compares classes: any environment is taken here, beside any other.
        warnings.filterwarnings("ignore", "Training and eval env are not of the same type")
        callback.init_callback(model)


def goes_on(answer: Any) -> bool:
    """Whether training goes on after this answer of a callback; None, no answer, means yes."""
    return answer is None or bool(answer)


class CallbackList(BaseCallback):
    """Several callbacks, called in order; training stops as soon as one says so."""

    def __init__(self, callbacks: Iterable[Hook | BaseCallback]) -> None:
        super().__init__()
        self.callbacks = [as_callback(callback) for callback in callbacks]

    def _init_callback(self) -> None:
        for callback in self.callbacks:
            callback.parent = self.parent
            init_callback(callback, self.model)

    def _on_training_start(self) -> None:
        for callback in self.callbacks:
            callback.on_training_start(self.locals, self.globals)

    def _on_rollout_start(self) -> None:
        for callback in self.callbacks:
            callback.on_rollout_start()

    def _on_step(self) -> bool:
        # Every callback gets its turn, also after one that wants to stop.
        answers = [goes_on(callback.on_step()) for callback in self.callbacks]
        return all(answers)

    def _on_rollout_end(self) -> None:
        for callback in self.callbacks:
            callback.on_rollout_end()

    def _on_training_end(self) -> None:
        for callback in self.callbacks:
            callback.on_training_end()

    def update_child_locals(self, locals_: dict[str, Any]) -> None:
        """Hand new variables to every callback."""
        for callback in self.callbacks:
            callback.update_locals(locals_)


class ConvertCallback(BaseCallback):
    """A plain function ``callback(locals, globals) -> bool`` as a callback."""

    def __init__(self, callback: Hook | None, verbose: int = 0) -> None:
        super().__init__(verbose)
        self.callback = callback

    def _on_step(self) -> bool:
        return self.callback is None or goes_on(self.callback(self.locals, self.globals))


class EventCallback(BaseCallback):
    """Base class of callbacks that trigger another one (their child) on an event."""

    def __init__(self, callback: Hook | BaseCallback | None = None, verbose: int = 0) -> None:
        super().__init__(verbose)
        self.callback = self._adopt(callback)

    def _adopt(self, callback: Hook | BaseCallback | None) -> BaseCallback | None:
        if callback is None:
            return None
        child = as_callback(callback)
        child.parent = self
        return child

    def _children(self) -> list[BaseCallback]:
        return [] if self.callback is None else [self.callback]

    def init_callback(self, model: Any) -> None:
        """Called once, before training, with the agent."""
        super().init_callback(model)
        for child in self._children():
            init_callback(child, model)

    def _on_training_start(self) -> None:
        for child in self._children():
            child.on_training_start(self.locals, self.globals)

    def _on_event(self) -> bool:
        return self.callback is None or goes_on(self.callback.on_step())

    def _on_training_end(self) -> None:
        for child in self._children():
            child.on_training_end()

    def update_child_locals(self, locals_: dict[str, Any]) -> None:
        """Hand new variables to the children."""
        for child in self._children():
            child.update_locals(locals_)


class EveryNTimesteps(EventCallback):
    """Trigger a callback every ``n_steps`` env steps, counted over all sub-envs."""

    def __init__(self, n_steps: int, callback: Hook | BaseCallback) -> None:
        super().__init__(callback)
        self.n_steps = n_steps
        self._last = 0

    def _on_training_start(self) -> None:
        super()._on_training_start()
        self._last = self.num_timesteps

    def _on_step(self) -> bool:
        if self.num_timesteps - self._last < self.n_steps:
            return True
        self._last = self.num_timesteps
        return self._on_event()


def warn_not_written(path: Path, error: OSError) -> None:
    """A file that could not be written costs a warning, not the training."""
    warnings.warn(
        f"{path} was not written ({error}); training goes on", RuntimeWarning, stacklevel=3
    )
