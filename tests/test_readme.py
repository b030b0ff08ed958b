"""The README's example runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"


def test_the_example_runs(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    space: dict[str, object] = {}
    exec(compile(blocks[0], str(README), "exec"), space)
    printed = capsys.readouterr().out
    assert "compiled step" in printed and "graph step(" in printed
    fast, torch, net = space["fast"], space["torch"], space["net"]
    for batch in (1, 7):
        x = torch.randn(batch, 784)
        assert torch.allclose(fast(x), net(x), rtol=1e-4, atol=1e-5)
    assert len(fast.report().compiles) == 1
