"""What a step gains as one graph: the same steps as calls and as a graph, in turn; both give the same bits.

    OMP_NUM_THREADS=1 python benchmarks/recorded_steps.py [--bfloat16] [--rounds 25]

Prints medians and the median ratio over the rounds.
"""

import argparse
import statistics
from unittest.mock import patch

import torch
from step_profile import make_step, run
from threads import STEPS
from threads import make_step as make_table_step

from tiedae_cli.training.step import TrainingStep, recorded_calls

NEVER = 10**9


def one(name: str, dtype: torch.dtype, recorded_after: int) -> TrainingStep:
    """Return the steps of a sample config, or of a table of 30 columns, recorded after some of them."""
    with patch.object(recorded_calls, "RECORDED_AFTER", recorded_after):
        step = make_table_step(30, [128, 8], 50) if name == "table" else make_step(name, dtype, STEPS)
        run(step, STEPS)
    return step


def main() -> None:
    """Time and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bfloat16", action="store_true")
    parser.add_argument("--rounds", type=int, default=25)
    arguments = parser.parse_args()
    for name in ("mnist", "mnist-best", *([] if arguments.bfloat16 else ["table"])):
        plain, recorded = (one(name, torch.bfloat16 if arguments.bfloat16 else torch.float32, after) for after in (NEVER, 5))
        times = [[run(step, STEPS) / STEPS * 1e3 for step in (plain, recorded)] for _ in range(arguments.rounds)]
        assert torch.equal(plain.parameters.master, recorded.parameters.master)
        before, after = (statistics.median(column) for column in zip(*times, strict=True))
        ratio = statistics.median(new / old for old, new in times)
        print(
            f"{name}, {torch.get_num_threads()} threads: {before:.3f} ms a step, as a graph {after:.3f}: {ratio:.3f} of it",
            flush=True,
        )


if __name__ == "__main__":
    main()
