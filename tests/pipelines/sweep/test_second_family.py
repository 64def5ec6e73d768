"""A second family from one entry: swept, logged, resumed, trained to the end, served, and kept apart from the first."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from rich.console import Console

from analysis.report.data_part import reproduction_section
from analysis.report.document import Commands
from analysis.report.inputs import read_inputs
from analysis.results.frontier import frontiers
from pipelines.final.options import TrainOptions
from pipelines.final.training import train_final
from pipelines.serving import packaging
from pipelines.serving.own_code import LIBRARY, write_own_code
from pipelines.serving.packaging import as_table
from pipelines.sweep.state import Sweep
from research.errors import InputError
from research.models.accounting import parameter_count
from research.spec import TRANSFORMER
from research.tracking import query, schema
from research.tracking.registry import chosen, load
from research.tracking.store import Store, open_store
from tests.support import mixer_family
from tests.support.mixer_family import MIXER, Mixer, MixerBlock, mixers
from tests.support.small_sweeps import run

QUIET = Console(quiet=True)
EXPERIMENT = f"sp500-threshold-1pct-{MIXER}"
NAME = f"{EXPERIMENT}-2K-h1"


@pytest.fixture(scope="module", autouse=True)
def registered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The family is known here, and is part of the library that registered models take their code from."""
    library = tmp_path_factory.mktemp("library") / "research"
    shutil.copytree(LIBRARY, library, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(mixer_family.__file__, library / "models" / "mixer.py")
    families = library / "models" / "families.py"
    families.write_text(
        f"{families.read_text()}\n\nfrom research.models.mixer import MIXER, Mixer\n\nFAMILIES[MIXER] = Mixer()\n"
    )
    own_code = patch.object(packaging, "write_own_code", lambda script, folder: write_own_code(script, folder, library))
    with mixers(), own_code:
        yield


@pytest.fixture(scope="module")
def root(migrated_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("families") / "mlruns"
    shutil.copytree(migrated_store, folder)
    return folder


@pytest.fixture(scope="module")
def sweep(root: Path) -> Sweep:
    """Two trials of a stack, in an experiment beside that of a transformer's sweep."""
    run(root, trials=1)
    return run(root, registers=True, trials=2, family=MIXER, stack="2", sampler="random")


@pytest.fixture(scope="module")
def store(sweep: Sweep, root: Path) -> Store:
    return open_store(root)


def test_its_trials_say_what_was_built(sweep: Sweep) -> None:
    assert [one.outcome for one in sweep.trials] == ["complete", "complete"]
    for trial in sweep.trials:
        assert trial.spec is not None
        assert trial.spec.architecture.family == MIXER
        said = sweep.context.store.client.get_run(trial.run_id).data
        assert (said.params["family"], said.params["n_heads"]) == (MIXER, "1")
        assert said.metrics["n_params"] == parameter_count(trial.spec.architecture)
        assert schema.ATTENTION not in said.tags


def test_each_family_has_a_leaderboard_of_its_own(store: Store, sweep: Sweep) -> None:
    found = {one.experiment: one for one in frontiers(store, None)}
    assert set(found) == {"sp500-threshold-1pct", EXPERIMENT}
    assert sweep.best is not None
    assert found[EXPERIMENT].entries[0].run_id == sweep.best.run_id
    assert found[EXPERIMENT].entries[0].architecture.startswith(MIXER)
    assert found[EXPERIMENT].study != found["sp500-threshold-1pct"].study
    assert found[EXPERIMENT].setting == found["sp500-threshold-1pct"].setting


def test_a_report_gives_the_command_with_the_family_where_it_is_another_one(store: Store) -> None:
    for experiment, named in ((EXPERIMENT, True), ("sp500-threshold-1pct", False)):
        blocks = reproduction_section(read_inputs(store, experiment, ui="")).blocks
        (commands,) = [block for block in blocks if isinstance(block, Commands)]
        assert (f"--family {MIXER}" in commands.lines[0]) == named


def test_its_sweep_goes_on_and_trains_nothing_twice(sweep: Sweep, root: Path) -> None:
    again = run(root, trials=2, family=MIXER, stack="2", sampler="random")
    assert again.log.run_id == sweep.log.run_id
    assert {one.run_id for one in again.trials} == {one.run_id for one in sweep.trials}


def test_it_is_served_as_it_was_trained(sweep: Sweep, store: Store) -> None:
    assert sweep.best is not None
    said = query.predictions(store, sweep.best.run_id)
    (version,) = [one for one in chosen(store) if one.name == NAME]
    bars = as_table({"^GSPC": sweep.context.task.snapshot.of("^GSPC")})
    answered = load(store, version).predict(bars).set_index("date")["probability"]
    assert answered[said["date"].dt.strftime("%Y-%m-%d")].to_numpy() == pytest.approx(said["probability"].to_numpy(), abs=1e-6)


def test_its_winner_is_trained_to_the_end_under_its_own_name(sweep: Sweep, store: Store, root: Path) -> None:
    assert sweep.best is not None
    with patch("pipelines.trial.figures.save"):
        train_final(store, TrainOptions(run=sweep.best.run_id, seeds=1, device="cpu", threads=1, store=root), QUIET)
    final, seed = (query.runs_of_kind(store, list(query.experiments(store)), [kind])[0] for kind in ("final", "final_seed"))
    assert final.metrics["n_params"] == sweep.best.n_parameters
    assert seed.params["family"] == MIXER
    assert {version.run_id for version in store.client.search_model_versions(f"name = '{NAME}'")} == {
        sweep.best.run_id,
        final.run_id,
    }


def test_a_block_that_is_not_of_the_named_family_stops_the_trial(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MixerBlock, "family", TRANSFORMER)
    monkeypatch.setattr("research.models.families.Transformer.read_back", Mixer.read_back)
    with pytest.raises(InputError, match=f"family={MIXER} was declared but {TRANSFORMER} is in use"):
        run(root, trials=1, family=MIXER, seed=1)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"family": "lstm"}, r"family=lstm: unknown family of models; give transformer or .*\."),
        ({"family": MIXER, "heads": (2, 4)}, r"HEADS=2,4: the blocks of family test-mixer have no attention; leave it out\."),
        ({"family": MIXER, "base_width": 16}, r"WIDTH_TRANSFER=16: the blocks of family test-mixer have no attention"),
    ],
)
def test_what_the_family_has_not_is_refused(root: Path, given: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        run(root, **given)
