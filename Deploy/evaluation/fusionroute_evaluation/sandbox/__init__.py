"""Runs generated Python code in namespaces of its own; see client.Sandbox."""

from .client import Limits, Outcome, Sandbox, SandboxUnavailable

__all__ = ["Limits", "Outcome", "Sandbox", "SandboxUnavailable"]
