"""python -m tests.attacks --cases 100000 --seed 0 [--start N] [--kind model] [--case N]"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from tests.attacks.cases import KINDS
from tests.attacks.pool import outcomes


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m tests.attacks",
                                      description="Attacks the command line with files.")
    options.add_argument("--cases", type=int, default=2000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--start", type=int, default=0, help="number of the first case")
    options.add_argument("--kind", choices=list(KINDS), help="cases of one kind only")
    options.add_argument("--case", type=int, help="one case again, with all that it printed")
    options.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    given = options.parse_args()
    numbers = range(given.start, given.start + given.cases) if given.case is None else [given.case]
    begun, statuses, faults, slowest, largest = time.monotonic(), Counter[int](), 0, 0.0, 0
    done = 0
    for found in outcomes(given.seed, ((n, given.kind) for n in numbers)):
        done += 1
        statuses[found["status"]] += 1
        slowest, largest = max(slowest, found.get("seconds", 0.0)), max(largest, found.get("peak", 0))
        if found["fault"] or given.case is not None:
            faults += bool(found["fault"])
            print(f"case {found['number']}: {found['fault'] or 'as it should'}: {found['command']}\n{found['out']}\n"
                  f"{found['err']}\n---", flush=True)
        if time.monotonic() - begun > given.seconds:
            break
    print(f"{done} cases of seed {given.seed} from {given.start} in {time.monotonic() - begun:.0f} s: {faults} faults; "
          f"status {dict(sorted(statuses.items()))}; slowest {slowest:.1f} s, most memory {largest / 2**20:.0f} MB")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
