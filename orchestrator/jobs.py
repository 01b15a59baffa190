"""The job `default`: general questions for sessions that bring none of their own."""

from __future__ import annotations

from typing import Any

DEFAULT_JOB_ID = "default"

DEFAULT_JOB: dict[str, Any] = {
    "job_id": DEFAULT_JOB_ID,
    "title": "General interview",
    "questions": [
        {"text": "Tell us about a piece of work you are proud of. What was your part in it?", "type": "text"},
        {"text": "Describe a disagreement you had at work. How did it end?", "type": "text"},
        {"text": "What did you learn in the last year, and how did you learn it?", "type": "text"},
        {
            "text": "Write a function that returns the longest word of a sentence. "
            "If several are equally long, return the first.",
            "type": "coding",
        },
        {"text": "What would you like to ask us?", "type": "text"},
    ],
}
