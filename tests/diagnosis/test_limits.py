"""Figures lead to the right limit first, and to a report that names it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from hierebm.diagnosis import Diagnosis, Figures
from hierebm.diagnosis.limits import clock_fits

# All as it should be, but that few episodes succeed.
SOUND = Figures(
    agent="HierarchicalEBMAgent",
    timesteps=20_000,
    learning_starts=1000,
    updates=19_000,
    has_replay=True,
    has_high_level=True,
    can_plan=True,
    goal_range=(10.0, 10.0),
    step=(0.2, 0.2),
    success_tolerance=(0.4, 0.4),
    tolerance_in_steps=2.0,
    episodes=200,
    successes=20,
    recent_episodes=100,
    success_rate=0.1,
    mean_return=-90.0,
    time_limit_rate=0.9,
    failure_rate=0.0,
    longest_episode=100.0,
    known_goals=1.0,
    landmarks=300,
    connected_ground=0.9,
    tasks=24,
    tasks_from="episodes",
    path_found=1.0,
    path_verified=1.0,
    path_steps=40.0,
    verified_edges=0.9,
    subgoals=500,
    subgoals_reached=0.95,
    safe_edge=9.0,
    configured_safe_edge=8.0,
    experienced_steps=8.0,
    predicted_steps=6.0,
    saturated_actions=0.1,
    already_reached=0.2,
    moving=0.9,
    still_axes=(),
)
CASES = {
    "nothing learned": {"step": None, "timesteps": 500},
    "everything counts as reached": {"success_tolerance": (9.0, 9.0)},
    "nothing counts as reached": {"success_tolerance": (0.4, 0.0), "successes": 0},
    "clock too fine": {"tolerance_in_steps": 12.0},
    "clock too coarse": {"tolerance_in_steps": 0.4},
    "achieved goal hardly moves": {"moving": 0.01, "already_reached": 0.99},
    "relabelled goals teach nothing": {"already_reached": 0.8},
    "few updates": {"updates": 40},
    "no plans yet": {"can_plan": False},
    "actor saturated": {"saturated_actions": 1.0},
    "near goals not learned": {"predicted_steps": 20.0},
    "failures": {"failure_rate": 0.5},
    "goals outside known ground": {"known_goals": 0.1},
    "ground in pieces": {"connected_ground": 0.3, "path_verified": 0.7},
    "no verified path": {"path_verified": 0.2},
    "episodes too short": {"path_steps": 95.0},
    "subgoals missed": {"subgoals_reached": 0.5},
    "one policy for all goals": {"has_high_level": False, "can_plan": False},
    "nothing stands out": {},
}


def names(figures: Figures) -> list[str]:
    return [limit.name for limit in Diagnosis.of(figures).limits]


@pytest.mark.parametrize("name", CASES)
def test_one_thing_that_is_wrong_is_named_and_nothing_else(name: str) -> None:
    diagnosis = Diagnosis.of(replace(SOUND, **CASES[name]))  # type: ignore[arg-type]
    assert [limit.name for limit in diagnosis.limits] == [name]
    # Lines are wrapped, and words stay whole.
    printed = " ".join(str(diagnosis).split())
    assert " ".join(diagnosis.limits[0].finding.split()) in printed
    assert diagnosis.limits[0].advice in printed


def test_what_spoils_the_rest_comes_first() -> None:
    wrong = {
        "subgoals_reached": 0.5,
        "path_verified": 0.2,
        "connected_ground": 0.3,
        "moving": 0.01,
        "tolerance_in_steps": 12.0,
    }
    assert names(replace(SOUND, **wrong)) == [  # type: ignore[arg-type]
        "clock too fine",
        "achieved goal hardly moves",
        "ground in pieces",
        "no verified path",
        "subgoals missed",
    ]
    # A task that cannot be learned makes all other figures meaningless.
    assert names(replace(SOUND, **wrong, success_tolerance=(9.0, 9.0))) == [  # type: ignore[arg-type]
        "everything counts as reached"
    ]


def test_an_agent_that_succeeds_has_no_limits_but_that_everything_counts() -> None:
    solved = replace(SOUND, success_rate=0.95, subgoals_reached=0.5)
    assert names(solved) == []
    assert "Nothing limits it: it reaches its goals." in str(Diagnosis.of(solved))
    assert names(replace(solved, success_tolerance=(9.0, 9.0))) == ["everything counts as reached"]
    # Three episodes prove nothing.
    assert names(replace(solved, recent_episodes=3)) == ["subgoals missed"]


def test_an_agent_that_succeeds_more_often_than_not_is_to_be_evaluated() -> None:
    report = str(Diagnosis.of(replace(SOUND, success_rate=0.7, reached_rate=0.7)))
    assert "No figure stands out." in report and "evaluate(agent, env)" in report
    assert "ever reached" not in report
    report = str(Diagnosis.of(replace(SOUND, success_rate=0.7, reached_rate=0.85)))
    assert "goal ever reached in 85%" in report


def test_one_policy_that_knows_little_ground_may_still_need_subgoals() -> None:
    flat = replace(SOUND, has_high_level=False, can_plan=False, known_goals=0.2)
    assert names(flat) == ["goals outside known ground", "one policy for all goals"]
    assert names(replace(flat, success_rate=0.7)) == ["goals outside known ground"]


def test_pieces_of_ground_do_not_matter_where_paths_are_found() -> None:
    assert names(replace(SOUND, connected_ground=0.3)) == ["nothing stands out"]


def test_an_exact_goal_that_was_met_is_a_goal() -> None:
    assert names(replace(SOUND, success_tolerance=(0.0, 0.0))) == ["nothing stands out"]


def test_held_actions_are_taken_into_account() -> None:
    fine = Diagnosis.of(replace(SOUND, tolerance_in_steps=20.0, action_repeat=2)).limits[0]
    assert "action_repeat=16 (now 2)" in fine.advice
    coarse = Diagnosis.of(replace(SOUND, tolerance_in_steps=0.5, action_repeat=10)).limits[0]
    assert "action_repeat=2 (now 10)" in coarse.advice


@pytest.mark.parametrize(
    ("ratio", "word"),
    [(None, None), (0.3, "too coarse"), (1.0, "good"), (5.0, "good"), (8.0, "rather fine"),
     (10.0, "too fine")],
)  # fmt: skip
def test_the_word_for_the_clock(ratio: float | None, word: str | None) -> None:
    assert clock_fits(ratio) == word


def test_the_report_is_short_and_its_figures_are_json() -> None:
    everything_wrong = {k: v for case in list(CASES.values())[3:18] for k, v in case.items()}
    diagnosis = Diagnosis.of(replace(SOUND, **everything_wrong))  # type: ignore[arg-type]
    assert len(diagnosis.limits) > 5
    lines = str(diagnosis).splitlines()
    assert len(lines) <= 25 and max(map(len, lines)) <= 100
    last = " ".join(" ".join(lines).split()).rpartition("Then: ")[2]
    assert last.split(", ")[-1] == f"{diagnosis.limits[-1].name}."
    values = json.loads(json.dumps(diagnosis.to_dict()))
    assert values["clock"] == diagnosis.clock and values["step"] == [0.2, 0.2]
    assert values["limits"][0]["advice"] == diagnosis.limits[0].advice


def test_what_is_not_known_is_left_out() -> None:
    flat = Figures(agent="DDPGHERAgent", step=(0.1,), goal_range=(2.0,), updates=5000)
    report = str(Diagnosis.of(flat))
    assert "None" not in report and "nan" not in report and "?" not in report
    assert "no replay buffer" in report and "no episode is remembered" in report
    for label in ("Episodes", "Ground", "Paths", "Subgoals", "Low level"):
        assert label not in report
