"""The presets, as the documentation shows them."""

from __future__ import annotations

import re
from pathlib import Path

from shared.loss_spec import PRESETS

METHOD = Path(__file__).resolve().parents[2] / "docs" / "method.md"


def test_the_documentation_shows_the_presets_as_they_are() -> None:
    rows = re.findall(
        r"^\| `(\w+)`[^|]*\|[^|]*\|([^|]*)\|([^|]*)\|([^|]*)\|([^|]*)\|$", METHOD.read_text(), re.MULTILINE
    )
    assert {name: tuple(cell.strip() for cell in cells) for name, *cells in rows} == {
        name: (
            ", ".join(f"`{one}`" for one in preset.weigh_by) or "–",
            f"{preset.consistency:g}",
            f"{preset.rationale:g}",
            f"{preset.attention:g}",
        )
        for name, preset in PRESETS.items()
    }
