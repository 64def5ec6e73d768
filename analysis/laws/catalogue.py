"""The laws that can be fitted, by name. Shape suffixes as in `forms`."""

from __future__ import annotations

import numpy as np

from analysis.laws.forms import Array, Law, Shape, Slope, Term, exponent, spread, sum_of_powers
from research.errors import require

FLOOR = Term(coefficient="E")
SIZE = Term(coefficient="A", powers=(("alpha", "n", -1),))
TOKENS = Term(coefficient="B", powers=(("beta", "d", -1),))
MAX_LOG = 300.0
HOFFMANN = "Hoffmann et al. 2022 (2203.15556), eq. 2"


def _kaplan_basis(shape_BM: Array, x: dict[str, Array]) -> tuple[list[Array], list[Slope]]:
    """Return the basis of [(Nc/N)^rho + Dc/D]^alpha_D = Dc^alpha_D (exp(w - rho n) + exp(-d))^alpha_D.

    rho = alpha_N / alpha_D.
    """
    rho, power, w = (shape_BM[:, m, None] for m in range(3))
    by_size, by_tokens = w - rho * x["n"], -x["d"]
    inner = np.logaddexp(by_size, by_tokens)
    share = np.exp(by_size - inner)
    slopes: list[Slope] = [(1, 0, -power * share * x["n"]), (1, 1, inner), (1, 2, power * share)]
    return [np.zeros(1), power * inner], slopes


def _kaplan_natural(theta_BP: Array, mean: dict[str, float]) -> Array:
    floor, scale, rho, power, w = theta_BP.T
    log_dc = scale / power
    log_nc = (w + log_dc) / rho
    # With alpha_D near zero the data do not determine the scales, which would overflow.
    nc, dc = (np.exp(np.clip(log_scale, -MAX_LOG, MAX_LOG)) for log_scale in (log_nc + mean["n"], log_dc + mean["d"]))
    return np.stack((np.exp(floor), nc, dc, rho * power, power), axis=1)


def _broken_basis(shape_BM: Array, x: dict[str, Array]) -> tuple[list[Array], list[Slope]]:
    """Return the basis of A N^-c0 (1 + (N/N1)^(1/f))^(-c1 f); m = log N1, centred, is the position of the break."""
    c0, c1, m, f = (shape_BM[:, index, None] for index in range(4))
    z = (x["n"] - m) / f
    soft, gate = np.logaddexp(0, z), 1 / (1 + np.exp(-z))
    slopes: list[Slope] = [
        (1, 0, -x["n"]),
        (1, 1, -f * soft),
        (1, 2, c1 * gate),
        (1, 3, -c1 * (soft - z * gate)),
    ]
    return [np.zeros(1), -c0 * x["n"] - c1 * f * soft], slopes


def _broken_natural(theta_BP: Array, mean: dict[str, float]) -> Array:
    floor, scale, c0, c1, m, f = theta_BP.T
    columns = (np.exp(floor), np.exp(scale + c0 * mean["n"]), c0, c1, np.exp(m + mean["n"]), f)
    return np.stack(columns, axis=1)


def _parabola_basis(shape_BM: Array, x: dict[str, Array]) -> tuple[list[Array], list[Slope]]:
    n = x["n"]
    return [shape_BM[:, 0, None] * n + shape_BM[:, 1, None] * n**2], [(0, 0, n), (0, 1, n**2)]


def _parabola_natural(theta_BP: Array, mean: dict[str, float]) -> Array:
    a, b, c = theta_BP.T
    m = mean["n"]
    return np.stack((a - b * m + c * m**2, b - 2 * c * m, c), axis=1)


SIGNED = tuple(sorted((*spread(0.01, 1.0, 8), *(-value for value in spread(0.01, 0.5, 6)))))

LAWS = (
    sum_of_powers("constant", "E", "the null hypothesis: size does not matter", (FLOOR,), (), can_rise=False),
    sum_of_powers(
        "power",
        "A N^-alpha",
        "Hestness et al. 2017 (1712.00409)",
        (SIZE,),
        (Shape(name="alpha", low=-1.0, high=3.0, grid=SIGNED),),
        can_rise=True,
    ),
    sum_of_powers(
        "power_floor",
        "E + A N^-alpha",
        "Henighan et al. 2020 (2010.14701), eq. 1.1",
        (FLOOR, SIZE),
        (exponent("alpha", count=24),),
    ),
    sum_of_powers(
        "chinchilla",
        "E + A/N^alpha + B/D^beta",
        HOFFMANN,
        (FLOOR, SIZE, TOKENS),
        (exponent("alpha", count=12), exponent("beta", count=12)),
    ),
    sum_of_powers(
        "chinchilla_tied",
        "E + A/N^alpha + B/D^alpha",
        f"{HOFFMANN}, with beta = alpha",
        (FLOOR, SIZE, Term(coefficient="B", powers=(("alpha", "d", -1),))),
        (exponent("alpha", count=24),),
    ),
    Law(
        name="kaplan_floor",
        formula="E + [(Nc/N)^(alpha_N/alpha_D) + Dc/D]^alpha_D",
        source="Kaplan et al. 2020 (2001.08361), eq. 1.5, and a floor",
        coefficients=("E", "scale"),
        shapes=(
            Shape(name="rho", low=0.05, high=10.0, grid=spread(0.25, 2.5, 6)),
            Shape(name="alpha_D", low=0.01, high=3.0, grid=spread(0.04, 1.0, 7)),
            Shape(name="w", low=-20.0, high=20.0, grid=(-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0)),
        ),
        parameters=("E", "Nc", "Dc", "alpha_N", "alpha_D"),
        variables=("d", "n"),
        basis=_kaplan_basis,
        natural=_kaplan_natural,
    ),
    sum_of_powers(
        "overfitting",
        "E + A/N^alpha + B/D^beta + c N^g/U^d",
        "a large model memorises few unique tokens U; after Muennighoff et al. 2023 (2305.16264), whose law cannot rise",
        (FLOOR, SIZE, TOKENS, Term(coefficient="c", powers=(("g", "n", 1), ("d", "u", -1)))),
        (exponent("alpha", count=4), exponent("beta", count=4), exponent("g", count=5), exponent("d", count=5)),
        can_rise=True,
    ),
    Law(
        name="log_parabola",
        formula="exp(a + b log N + c log^2 N)",
        source="a description of the fitted range only",
        coefficients=("a",),
        shapes=(
            Shape(name="b", low=-3.0, high=1.0, grid=(-0.3, -0.1, -0.03, 0.0, 0.03)),
            Shape(name="c", low=-1.0, high=1.0, grid=(-0.01, 0.0, 0.01)),
        ),
        parameters=("a", "b", "c"),
        variables=("n",),
        basis=_parabola_basis,
        natural=_parabola_natural,
        can_rise=True,
        extrapolates=False,
    ),
    Law(
        name="broken",
        formula="E + A N^-c0 (1 + (N/N1)^(1/f))^(-c1 f)",
        source="Caballero et al. 2022 (2210.14891), eq. 1 with one break",
        coefficients=("E", "A"),
        shapes=(
            Shape(name="c0", low=-1.0, high=3.0, grid=(-0.05, 0.02, 0.1, 0.3, 0.8)),
            Shape(name="c1", low=-3.0, high=3.0, grid=(-0.5, -0.15, -0.05, 0.05, 0.15, 0.5)),
            Shape(name="N1", low=-12.0, high=12.0, grid=(-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0)),
            Shape(name="f", low=0.05, high=3.0, grid=(0.2, 1.0)),
        ),
        parameters=("E", "A", "c0", "c1", "N1", "f"),
        variables=("n",),
        basis=_broken_basis,
        natural=_broken_natural,
        can_rise=True,
        least_budgets=7,
    ),
)
BY_NAME = {law.name: law for law in LAWS}


def law_named(name: str) -> Law:
    """Return the law with this name; raise `InputError` with all names if there is none."""
    require(name in BY_NAME, "LAW", name, f"no such law; give one of {', '.join(BY_NAME)}, or all.")
    return BY_NAME[name]
