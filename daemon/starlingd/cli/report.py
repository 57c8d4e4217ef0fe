"""Problems and warnings as starlingctl shows them: lines for people, fields for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from starlingd.config import Problem


def lines(problems: Sequence[Problem], warnings: Sequence[Problem]) -> list[str]:
    """Give a line for each problem and warning, and the verdict."""
    verdict = "fine" if not problems else f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
    return [*map(str, problems), *(f"warning: {warning}" for warning in warnings), verdict]


def fields(file: Path, problems: Sequence[Problem], warnings: Sequence[Problem]) -> dict[str, object]:
    """Give the same as an object for JSON."""
    return {
        "file": str(file),
        "fine": not problems,
        "problems": [_fields(problem) for problem in problems],
        "warnings": [_fields(warning) for warning in warnings],
    }


def _fields(problem: Problem) -> dict[str, str | int | None]:
    return {"section": problem.section, "key": problem.key, "message": problem.message, "line": problem.line}
