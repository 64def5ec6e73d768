"""Store bars as a snapshot and load the task that a verb needs. Nothing is trained here."""
