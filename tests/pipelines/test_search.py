from __future__ import annotations

from dataclasses import replace

import optuna
import pytest
from conftest import SPLIT

from pipelines.driver import make_sampler
from pipelines.search import Fixed, SearchSpace, first_suggestions, suggest, trial_spec
from research.models.accounting import parameter_count
from research.models.architectures import Budget, architectures_for
from research.spec import DataSpec, FeatureSpec, InputError, StudySpec, TargetSpec

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
    study = make_sampler(seed=0, first=first_suggestions(architectures, SPACE))
    seen = set()
    for _ in range(40):
        trial = study.ask()
        suggested = suggest(trial, SPACE, architectures)
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
    study = make_sampler(seed=0, first=first_suggestions(architectures, SPACE))
    first = [trial_spec(suggest(study.ask(), SPACE, architectures), FIXED, architectures).architecture for _ in range(2)]
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


def test_a_suggestion_is_the_same_for_the_same_seed() -> None:
    architectures = architectures_for(Budget.parse("20K"))

    def proposals(seed: int) -> list[dict[str, object]]:
        study = make_sampler(seed=seed, first=[])
        found = []
        for number in range(15):
            trial = study.ask()
            found.append(suggest(trial, SPACE, architectures))
            study.tell(trial, float(number % 5))
        return found

    assert proposals(1) == proposals(1)
    assert proposals(1) != proposals(2)


def test_a_failed_trial_has_no_value_for_the_sampler() -> None:
    architectures = architectures_for(Budget.parse("20K"))
    study = make_sampler(seed=0, first=[])
    trial = study.ask()
    suggest(trial, SPACE, architectures)
    study.tell(trial, state=optuna.trial.TrialState.FAIL)
    assert study.trials[0].value is None
    suggest(study.ask(), SPACE, architectures)


@pytest.mark.parametrize(("n_train", "epochs"), [(3012, 20), (3012, 1), (50, 1), (1, 1)])
def test_a_warm_up_always_ends_before_training_does(n_train: int, epochs: int) -> None:
    space = SPACE.for_training(n_train, epochs)
    for batch_size in space.batch_size:
        assert 0 <= space.warmup_steps[0] <= space.warmup_steps[1] < epochs * -(-n_train // batch_size)
