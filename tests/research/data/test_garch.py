from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from research.data.garch import BLOCK, SP500, Garch, variances


def variances_by_loop(garch: Garch, z: np.ndarray) -> np.ndarray:
    found = [garch.mean_variance]
    for shock in z:
        weight = garch.alpha + (garch.gamma if shock < 0 else 0.0)
        found.append(garch.omega + weight * found[-1] * shock**2 + garch.beta * found[-1])
    return np.array(found)


persistent = st.builds(
    lambda alpha, gamma, beta: Garch(omega=1e-6, alpha=alpha, gamma=gamma, beta=beta),
    st.floats(0, 0.05),
    st.floats(0, 0.1),
    st.floats(0.5, 0.89),
)
lengths = st.one_of(st.integers(1, 50), st.sampled_from([BLOCK - 1, BLOCK, BLOCK + 1, 5000]))


@given(garch=persistent, days=lengths, seed=st.integers(0, 1000))
# So persistent that a block's first day is still felt at its last.
@example(garch=Garch(omega=1e-9, alpha=0.01, gamma=0.02, beta=0.9795), days=5000, seed=0)
@settings(deadline=None, max_examples=30)
def test_the_scan_gives_what_the_plain_recursion_gives(garch: Garch, days: int, seed: int):
    z = np.random.default_rng(seed).standard_normal(days)
    assert variances(garch, z) == pytest.approx(variances_by_loop(garch, z), rel=1e-10)


def test_the_first_days_do_not_depend_on_how_many_follow():
    z = np.random.default_rng(0).standard_normal(10 * BLOCK)
    whole = variances(SP500, z)
    assert all((variances(SP500, z[:days]) == whole[: days + 1]).all() for days in (1, BLOCK, 3 * BLOCK + 7))


def test_the_constants_are_the_maximum_likelihood_of_the_bundled_index(sp500: pd.DataFrame):
    from arch import arch_model

    returns = 100 * np.log(sp500["close"]).diff().dropna()
    fitted = arch_model(returns, mean="Zero", vol="GARCH", p=1, o=1, q=1, dist="normal").fit(disp="off")
    # arch fits percent returns.
    ours = [SP500.omega * 1e4, SP500.alpha, SP500.gamma, SP500.beta]
    assert fitted.params.to_numpy() == pytest.approx(ours, rel=0.005, abs=1e-6)


def test_the_mean_variance_is_the_long_run_mean():
    found = variances(SP500, np.random.default_rng(1).standard_normal(2_000_000))
    assert found.mean() == pytest.approx(SP500.mean_variance, rel=0.05)


def test_variance_rises_more_after_falls_than_after_rises():
    z = np.random.default_rng(2).standard_normal(100_000)
    after = variances(SP500, z)[1:] / variances(SP500, z)[:-1]
    large = np.abs(z) > 1
    assert after[large & (z < 0)].mean() > 1.1 > 1 > after[large & (z > 0)].mean()


def test_the_constants_have_no_fourth_moment():
    squares = np.square(SP500.multipliers(np.random.default_rng(3).standard_normal(5_000_000)))
    assert squares.mean() == pytest.approx(1.009, abs=0.002)
