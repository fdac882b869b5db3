"""Graders: a verdict on an answer from the task file's line."""

from .registry import Grader, Verdict

__all__ = ["Grader", "Verdict"]
