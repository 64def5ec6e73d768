from __future__ import annotations

from dataclasses import replace

import optuna
import pytest
from conftest import SPLIT

from pipelines.sampler import new_study, propose
from pipelines.search import Fixed, SearchSpace, admits, first_suggestions, trial_spec
from research.models.accounting import parameter_count
from research.models.architectures import Budget, architectures_for
from research.spec import ArchitectureSpec, DataSpec, FeatureSpec, InputError, StudySpec, TargetSpec

STUDY = StudySpec(
    data=DataSpec(snapshot_digest="0" * 16, symbol="^GSPC"),
    features=FeatureSpec(feature_set="a25s", version=1),
    target=TargetSpec(horizon=1),
    split=SPLIT,
)
FIXED = Fixed(study=STUDY, epochs=5, patience=2, seed=7)
SPACE = SearchSpace()
BUDGETS = ["2K", "20K", "2M", "200M"]


@pytest.mark.parametrize("label", BUDGETS)
def test_every_suggestion_becomes_an_architecture_of_the_budget(label: str) -> None:
    budget = Budget.parse(label)
    architectures = architectures_for(budget)
    study = new_study()
    seen = set()
    for number in range(40):
        trial, suggested = propose(study, 0, number, SPACE, architectures)
        assert admits(suggested, SPACE, architectures)
        spec = trial_spec(suggested, FIXED, architectures)
        assert spec.architecture in architectures
        assert budget.admits(parameter_count(spec.architecture))
        assert spec.training.learning_rate == suggested["learning_rate"]
        assert spec.training.weight_decay == suggested["weight_decay"]
        assert (spec.training.epochs, spec.training.patience, spec.training.seed) == (5, 2, 7)
        seen.add(spec.architecture)
        study.tell(trial, parameter_count(spec.architecture) / budget.n_parameters)
    assert len(seen) >= 8


@pytest.mark.parametrize("label", BUDGETS)
def test_the_deepest_and_the_widest_come_first(label: str) -> None:
    architectures = architectures_for(Budget.parse(label))
    study, first = new_study(), []
    for number, planned in enumerate(first_suggestions(architectures, SPACE)):
        _, suggested = propose(study, 0, number, SPACE, architectures, planned)
        assert suggested == planned
        first.append(trial_spec(suggested, FIXED, architectures).architecture)
    assert first[0].n_layers == max(a.n_layers for a in architectures)
    assert first[1].d_model == max(a.d_model for a in architectures)


def test_a_searched_name_that_nothing_consumes_is_refused() -> None:
    architectures = architectures_for(Budget.parse("20K"))
    suggested = {**first_suggestions(architectures, SPACE)[0], "label_smoothing": 0.1}
    with pytest.raises(InputError, match="label_smoothing"):
        trial_spec(suggested, FIXED, architectures)


def test_every_searched_range_reaches_the_spec() -> None:
    architectures = architectures_for(Budget.parse("20K"))
    base = first_suggestions(architectures, SPACE)[0]
    reference = trial_spec(base, FIXED, architectures)
    for name, value in {
        "learning_rate": 2e-3,
        "weight_decay": 0.02,
        "dropout": 0.3,
        "warmup_steps": 3,
        "batch_size": 64,
    }.items():
        changed = trial_spec({**base, name: value}, FIXED, architectures)
        assert changed.training == replace(reference.training, **{name: value})
        assert changed.fingerprint != reference.fingerprint


def proposals(seed: int, stopped_after: int = 0) -> list[dict[str, object]]:
    """Fifteen proposals; after `stopped_after` of them a fresh study is told what was known."""
    architectures = architectures_for(Budget.parse("20K"))
    study, found = new_study(), []
    for number in range(15):
        if stopped_after and number == stopped_after:
            study = new_study()
            for earlier, suggested in enumerate(found):
                trial, _ = propose(study, 99, 99, SPACE, architectures, suggested)
                study.tell(trial, float(earlier % 5))
        trial, suggested = propose(study, seed, number, SPACE, architectures)
        found.append(suggested)
        study.tell(trial, float(number % 5))
    return found


def test_a_seed_gives_the_same_proposals_and_another_seed_others() -> None:
    assert proposals(1) == proposals(1)
    assert proposals(1) != proposals(2)


@pytest.mark.parametrize("stopped_after", [1, 7, 13])
def test_a_resumed_search_proposes_what_an_uninterrupted_one_would(stopped_after: int) -> None:
    assert proposals(1, stopped_after) == proposals(1)


def test_what_the_grid_no_longer_holds_teaches_the_sampler_nothing() -> None:
    wide, narrow = architectures_for(Budget.parse("20K")), architectures_for(Budget.parse("2K"))
    suggested = first_suggestions(wide, SPACE)[0]
    assert admits(suggested, SPACE, wide)
    assert not admits(suggested, SPACE, narrow)
    assert not admits({**suggested, "dropout": 0.9}, SPACE, wide)
    assert not admits({**suggested, "batch_size": 7}, SPACE, wide)


def test_a_shape_that_gains_or_loses_a_ratio_has_no_place_for_the_old_suggestion() -> None:
    architectures = architectures_for(Budget.parse("20K"))
    two = next(a for a in architectures if {2, 4} <= ratios_of(a, architectures))
    both = {**first_suggestions([two], SPACE)[0], "ff_ratio": 2}
    single = {name: value for name, value in both.items() if name != "ff_ratio"}
    only_one = [a for a in architectures if (a.d_model, a.n_layers) != (two.d_model, two.n_layers) or a.d_ff == 2 * a.d_model]
    for suggested, grid, fits in (
        (both, architectures, True),
        (single, architectures, False),
        (both, only_one, False),
        (single, only_one, True),
    ):
        assert admits(suggested, SPACE, grid) is fits
        if fits:
            assert propose(new_study(), 0, 0, SPACE, grid, suggested)[1] == suggested


def ratios_of(shape: ArchitectureSpec, grid: list[ArchitectureSpec]) -> set[int]:
    return {a.d_ff // a.d_model for a in grid if (a.d_model, a.n_layers) == (shape.d_model, shape.n_layers)}


def test_a_failed_trial_has_no_value_for_the_sampler() -> None:
    architectures = architectures_for(Budget.parse("20K"))
    study = new_study()
    trial, _ = propose(study, 0, 0, SPACE, architectures)
    study.tell(trial, state=optuna.trial.TrialState.FAIL)
    assert study.trials[0].value is None
    propose(study, 0, 1, SPACE, architectures)


@pytest.mark.parametrize(("n_train", "epochs"), [(3012, 20), (3012, 1), (50, 1), (1, 1)])
def test_a_warm_up_always_ends_before_training_does(n_train: int, epochs: int) -> None:
    space = SPACE.for_training(n_train, epochs)
    for batch_size in space.batch_size:
        assert 0 <= space.warmup_steps[0] <= space.warmup_steps[1] < epochs * -(-n_train // batch_size)
