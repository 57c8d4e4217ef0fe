"""What runs inside sshd stays small enough to be read before it is trusted (DESIGN §9)."""

from pathlib import Path

MODULE = Path(__file__).resolve().parents[2] / "pam_starling"


def test_the_module_is_at_most_400_lines_and_its_entry_40() -> None:
    lines = {file.name: len(file.read_text(encoding="utf-8").splitlines()) for file in MODULE.glob("*.py")}
    assert sum(lines.values()) <= 400
    assert lines["entry.py"] <= 40
