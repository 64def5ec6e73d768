"""Recognition of the file forms."""

from __future__ import annotations

import json

from pipelines.adopt import console_log, experiment_csv, trial_list
from pipelines.adopt.numbers import UnreadableError
from pipelines.adopt.record import Parsed

KNOWN_FORMS = (console_log.FORM, trial_list.LIST_FORM, trial_list.BEST_FORM, experiment_csv.FORM)


def parse(content: bytes, stem: str) -> Parsed:
    """Parse a file in the form that its content shows; `stem` names the study of a trial list.

    Raise `UnreadableError` if the form is unknown.
    """
    text = content.decode("utf-8", errors="replace")
    if text.lstrip()[:1] in ("[", "{"):
        decoded = _json(text)
        if trial_list.is_list(decoded):
            return trial_list.parse_list(decoded, stem)
        if trial_list.is_best(decoded):
            return trial_list.parse_best(decoded, stem)
    if experiment_csv.recognises(text):
        return experiment_csv.parse(text)
    if console_log.recognises(text):
        return console_log.parse(text)
    raise UnreadableError(f"none of the known forms: {', '.join(KNOWN_FORMS)}")


def _json(text: str) -> object:
    """Return decoded JSON; None if the text is not JSON, because a console log also begins with a bracket."""
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return None
