"""Which public names work on a CUDA device, for docs/coverage.md: `frontend/cuda_states.txt`.

VITRIFY_CUDA=simulator python tests/gpu/cuda_states.py [family ...]

Runs the sample table there, eagerly; a name is listed when all its samples that were run gave PyTorch's values and
gradients. With families, only their samples are run, and names of other families stay as they were. Takes half an hour.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

import test_samples  # noqa: E402
from sample_device import on_device, on_device_too  # noqa: E402
from samples import table  # noqa: E402
from samples.names import names_of  # noqa: E402
from samples.store import all_samples, family, family_names  # noqa: E402
from samples.table import Sample  # noqa: E402

import vitrify as torch  # noqa: E402

FILE = ROOT / "frontend" / "cuda_states.txt"
HEAD = "# Public names whose samples give PyTorch's values on a CUDA device, by tests/gpu/cuda_states.py\n"


def works(sample: Sample) -> bool:
    """Whether the sample gives PyTorch's results on the device."""
    try:
        with on_device(torch, test_samples):
            test_samples.check(sample, table.run(torch, family(sample.family), sample))
    except Exception as error:
        print(f"{sample.family}: {sample.key}: {' '.join(str(error).split())[:200]}", flush=True)
        return False
    return True


def main(families: list[str]) -> None:
    known = {line for line in FILE.read_text().splitlines() if line[:1] != "#"} if FILE.exists() else set()
    results: dict[str, bool] = {}
    for name in families or family_names():
        for sample in filter(on_device_too, all_samples([name])):
            good = works(sample)
            for each in names_of(sample):
                results[each] = results.get(each, True) and good
        found = (known - set(results)) | {each for each, good in results.items() if good}
        FILE.write_text(HEAD + "".join(f"{each}\n" for each in sorted(found)), encoding="utf-8")
        print(f"{name}: {sum(results.values())} of {len(results)} names so far", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
