"""Scaling laws: fit, bootstrap, validate, test and forecast. Needs numpy and scipy only; see docs/laws.md."""

from analysis.laws.catalogue import LAWS, law_named
from analysis.laws.fit import Fit, fit_law, fit_laws
from analysis.laws.forecasting import Forecast, Score, forecast, score
from analysis.laws.forms import Law
from analysis.laws.observations import Observations, budgets, observations, read_csv
from analysis.laws.prediction import Prediction, predict
from analysis.laws.resampling import Bootstrap, bootstrap
from analysis.laws.validation import Validation, Window, validate
from analysis.laws.verdicts import Verdict, verdict

__all__ = [
    "LAWS",
    "Bootstrap",
    "Fit",
    "Forecast",
    "Law",
    "Observations",
    "Prediction",
    "Score",
    "Validation",
    "Verdict",
    "Window",
    "bootstrap",
    "budgets",
    "fit_law",
    "fit_laws",
    "forecast",
    "law_named",
    "observations",
    "predict",
    "read_csv",
    "score",
    "validate",
    "verdict",
]
