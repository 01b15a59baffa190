"""Jobs, that is question banks: taking an interview's questions from one; and the job `default`, with general questions
for sessions that bring none of their own."""

from __future__ import annotations

import hashlib
import hmac
import random
import secrets
from typing import Any

DEFAULT_JOB_ID = "default"

DEFAULT_JOB: dict[str, Any] = {
    "job_id": DEFAULT_JOB_ID,
    "title": "General interview",
    "pick": None,
    "shuffle": False,
    "version": 1,
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


def draw(job: dict[str, Any], seed: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The questions that a session gets from a job, and how they were taken: {version, pick, shuffle, seed}.

    `pick`: so many, by chance, in the bank's order unless they are shuffled. The same seed takes the same ones.
    """
    questions: list[dict[str, Any]] = job["questions"]
    pick, shuffle = job.get("pick"), job.get("shuffle", False)
    numbers = list(range(len(questions)))
    if pick is not None or shuffle:
        chance = random.Random(seed)  # nosec B311 # to be drawn again by whoever knows the seed
        numbers = chance.sample(numbers, len(numbers) if pick is None else min(pick, len(numbers)))
        numbers = numbers if shuffle else sorted(numbers)
    how = {"version": job.get("version", 1), "pick": pick, "shuffle": shuffle, "seed": seed}
    return [questions[number] for number in numbers], how


def seed_of(secret: bytes, principal: str, key: str | None) -> int:
    """The seed of a creation: the same for the same key, so that a repeat has the same questions; else by chance."""
    if key is None:
        return secrets.randbits(48)
    content = f"questions\0{principal}\0{key}".encode()
    return int.from_bytes(hmac.digest(secret, content, hashlib.sha256)[:6], "big")
