"""Where trials run: in this process, in local processes, or as Ray tasks. One small interface, `base.Executor`."""
