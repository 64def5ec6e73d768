from __future__ import annotations

import math
from dataclasses import replace

import optuna
import pytest

from pipelines.sweep.sampler import Suggestion, TrialSampler
from pipelines.sweep.search_space import FixedSettings, SearchSpace, Suggested, expressible, first_suggestions, trial_spec
from pipelines.trial.job import TrialResult
from research.errors import InputError
from research.evaluation.metrics import Scores
from research.models.accounting import parameter_count
from research.models.budget import Budget, architectures_for
from research.spec import ArchitectureSpec, DataSpec, FeatureSpec, TargetSpec, TaskSpec
from tests.conftest import SPLIT

STUDY = TaskSpec(
    data=DataSpec(snapshot_digest="0" * 16, symbols=("^GSPC",), validate_on=("^GSPC",)),
    features=FeatureSpec(feature_set="a25s", version=1),
    target=TargetSpec(horizon=1),
    split=SPLIT,
)
FIXED = FixedSettings(task=STUDY, epochs=5, patience=2, seed=7)
SPACE = SearchSpace()


def proposer(architectures: list[ArchitectureSpec], **changes: object) -> TrialSampler:
    settings = {"sampler": "tpe", "pruner": "none", "seed": 0, "random_share": 0.0, "space": SPACE, "epochs": 5}
    return TrialSampler(architectures=architectures, **{**settings, **changes})  # type: ignore[arg-type]


def complete(loss: float) -> TrialResult:
    values = dict.fromkeys(("loss_se", "base_rate_loss", "skill", "auc", "auc_se", "brier", "ece", "spread"), 0.1)
    return TrialResult(run_id="r", name="n", kind="trial", outcome="complete", scores=Scores(loss=loss, n=9, **values))


def tell(search: TrialSampler, proposal: Suggestion, loss: float) -> None:
    search.tell(proposal, complete(loss))


def whole(suggested: Suggested, architectures: list[ArchitectureSpec]) -> bool:
    return expressible(suggested, SPACE, architectures) == suggested


BUDGETS = ["2K", "20K", "2M", "200M"]


@pytest.mark.parametrize("label", BUDGETS)
def test_every_suggestion_becomes_an_architecture_of_the_budget(label: str) -> None:
    budget = Budget.parse(label)
    architectures = architectures_for(budget)
    search = proposer(architectures)
    seen = set()
    for number in range(40):
        proposal = search.propose(number)
        suggested = proposal.suggested
        assert whole(suggested, architectures)
        spec = trial_spec(suggested, FIXED, architectures)
        assert spec.architecture in architectures
        assert budget.admits(parameter_count(spec.architecture))
        assert spec.training.learning_rate == suggested["learning_rate"]
        assert spec.training.weight_decay == suggested["weight_decay"]
        assert (spec.training.epochs, spec.training.patience, spec.training.seed) == (5, 2, 7)
        seen.add(spec.architecture)
        tell(search, proposal, parameter_count(spec.architecture) / budget.n_parameters)
    assert len(seen) >= 8


@pytest.mark.parametrize("label", BUDGETS)
def test_the_deepest_and_the_widest_come_first(label: str) -> None:
    architectures = architectures_for(Budget.parse(label))
    search, first = proposer(architectures), []
    for number, planned in enumerate(first_suggestions(architectures, SPACE)):
        proposal = search.propose(number, planned)
        suggested = proposal.suggested
        assert (suggested, proposal.proposed_by) == (planned, "enqueued")
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


def proposals(seed: int, stopped_after: int = 0, **changes: object) -> list[Suggested]:
    """Fifteen proposals; after `stopped_after` of them a fresh study is told what was known."""
    architectures = architectures_for(Budget.parse("20K"))
    search, found = proposer(architectures, seed=seed, **changes), []
    for number in range(15):
        if stopped_after and number == stopped_after:
            search = proposer(architectures, seed=seed, **changes)
            for earlier, suggested in enumerate(found):
                search.recall(suggested, complete(float(earlier % 5)), {1: float(earlier % 5)})
        proposal = search.propose(number)
        found.append(proposal.suggested)
        search.report(proposal, 1, float(number % 5))
        tell(search, proposal, float(number % 5))
    return found


def test_a_seed_gives_the_same_proposals_and_another_seed_others() -> None:
    assert proposals(1) == proposals(1)
    assert proposals(1) != proposals(2)


@pytest.mark.parametrize("sampler", ["tpe", pytest.param("gp", marks=pytest.mark.slow), "random"])
@pytest.mark.parametrize("stopped_after", [1, 7, 13])
def test_a_resumed_search_proposes_what_an_uninterrupted_one_would(stopped_after: int, sampler: str) -> None:
    changes = {"sampler": sampler, "random_share": 0.4, "pruner": "median"}
    assert proposals(1, stopped_after, **changes) == proposals(1, **changes)


def test_cma_es_goes_on_from_the_trials_it_is_told() -> None:
    assert len(proposals(1, 7, sampler="cmaes")) == 15


def test_of_an_earlier_trial_only_what_the_present_grid_can_express_is_told() -> None:
    wide, narrow = architectures_for(Budget.parse("20K")), architectures_for(Budget.parse("2K"))
    suggested = first_suggestions(wide, SPACE)[0]
    assert expressible(suggested, SPACE, wide) == suggested
    assert set(suggested) - set(expressible(suggested, SPACE, narrow)) == {"shape", "ff_ratio"} & set(suggested)
    assert "dropout" not in expressible({**suggested, "dropout": 0.9}, SPACE, wide)
    assert "batch_size" not in expressible({**suggested, "batch_size": 7}, SPACE, wide)


def test_trials_of_shapes_outside_the_focus_still_teach_the_learning_rate() -> None:
    """Of 40 earlier trials of other depths the low learning rates were the good ones: proposals must follow."""
    everything = architectures_for(Budget.parse("20K"))
    focus = [a for a in everything if a.n_layers <= 2]
    elsewhere = proposer([a for a in everything if a.n_layers > 2], sampler="random")
    taught, untaught = proposer(focus), proposer(focus)
    for number in range(40):
        suggested = elsewhere.propose(number).suggested
        taught.recall(suggested, complete(abs(math.log10(suggested["learning_rate"]) + 4)))
    rates = [
        [math.log10(search.propose(number).suggested["learning_rate"]) for number in range(100, 112)]
        for search in (taught, untaught)
    ]
    assert sum(rates[0]) / 12 < sum(rates[1]) / 12 - 0.3


def mean_rate(search: TrialSampler) -> float:
    rates = [search.propose(number).suggested["learning_rate"] for number in range(100, 112)]
    return sum(math.log10(rate) for rate in rates) / len(rates)


def test_twenty_of_fifty_trials_are_random_and_know_nothing_of_the_others() -> None:
    architectures = architectures_for(Budget.parse("20K"))
    search = proposer(architectures, random_share=0.4)
    assert sum(search.is_random(number) for number in range(50)) == 20
    alone = proposer(architectures, random_share=0.4)
    for number in range(20):
        proposal = search.propose(number)
        tell(search, proposal, 0.1 * number)
        assert (proposal.proposed_by == "random") == search.is_random(number)
        if proposal.proposed_by == "random":
            assert alone.propose(number).suggested == proposal.suggested


def test_a_pruner_stops_what_falls_behind_but_never_a_random_trial() -> None:
    architectures = architectures_for(Budget.parse("20K"))
    search = proposer(architectures, random_share=0.5, pruner="median")
    for number in range(100, 106):
        proposal = search.propose(number)
        assert search.report(proposal, 1, 0.3)
        tell(search, proposal, 0.3)
    behind = {search.propose(number).proposed_by: search.propose(number) for number in (110, 111)}
    assert {by: search.report(proposal, 1, 0.9) for by, proposal in behind.items()} == {"tpe": False, "random": True}
    search.tell(behind["tpe"], replace(complete(0.9), outcome="pruned", scores=None))
    assert behind["tpe"].trial.study.trials[behind["tpe"].trial.number].state == optuna.trial.TrialState.PRUNED


@pytest.mark.parametrize("pruner", ["hyperband", "median", "wilcoxon"])
def test_every_pruner_learns_from_the_curves_of_earlier_starts(pruner: str) -> None:
    architectures = architectures_for(Budget.parse("20K"))
    search = proposer(architectures, pruner=pruner)
    for number in range(20):
        suggested = proposer(architectures).propose(number).suggested
        search.recall(suggested, complete(0.3), dict.fromkeys(range(1, 6), 0.3))
    stopped = []
    for number in range(20, 32):
        proposal = search.propose(number)
        stopped.append(not all(search.report(proposal, epoch, 0.9 + 0.01 * epoch) for epoch in range(1, 6)))
    assert any(stopped)


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
        assert whole(suggested, grid) is fits
        if fits:
            assert proposer(grid).propose(0, suggested).suggested == suggested


def ratios_of(shape: ArchitectureSpec, grid: list[ArchitectureSpec]) -> set[int]:
    return {a.d_ff // a.d_model for a in grid if (a.d_model, a.n_layers) == (shape.d_model, shape.n_layers)}


def test_a_failed_trial_has_no_value_for_the_sampler() -> None:
    architectures = architectures_for(Budget.parse("20K"))
    search = proposer(architectures)
    search.tell(search.propose(0), replace(complete(0.1), outcome="diverged", scores=None))
    search.recall(search.propose(1).suggested, replace(complete(0.1), outcome="crashed", scores=None))
    assert [trial.value for trial in search.study.trials] == [None, None, None]
    assert search.study.trials[0].state == search.study.trials[2].state == optuna.trial.TrialState.FAIL
    search.propose(2)


@pytest.mark.parametrize(("n_train", "epochs"), [(3012, 20), (3012, 1), (50, 1), (1, 1)])
def test_a_warm_up_always_ends_before_training_does(n_train: int, epochs: int) -> None:
    space = SPACE.for_training(n_train, epochs)
    for batch_size in space.batch_size:
        assert 0 <= space.warmup_steps[0] <= space.warmup_steps[1] < epochs * -(-n_train // batch_size)
