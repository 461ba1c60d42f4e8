"""Settings of the sequence optimiser."""

from __future__ import annotations

import json

import pytest

from hierebm.planning.sequence import SequenceConfig


def test_configuration_survives_json() -> None:
    config = SequenceConfig(chains=5, objective="squared", snap=False, state_cost=2.5)
    assert SequenceConfig(**json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("objective", "mse"),
        ("chains", 0),
        ("levels", 0),
        ("max_transitions", 0),
        ("transition_steps", 0),
        ("missed_weight", -0.1),
    ],
)
def test_bad_settings_are_named(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        SequenceConfig(**{field: value})  # type: ignore[arg-type]


def test_a_setting_that_is_gone_is_refused() -> None:
    with pytest.raises(TypeError, match="imagined_weight"):
        SequenceConfig(imagined_weight=0.1)  # type: ignore[call-arg]
