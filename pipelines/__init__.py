"""Everything that writes runs, one room per stage.

Reads no analysis.
"""

import research.tracking  # noqa: F401  (MLflow's settings, before any module here imports MLflow)
