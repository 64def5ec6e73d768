import research.tracking  # noqa: F401  (MLflow's settings, before any module here imports MLflow)
