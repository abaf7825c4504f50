"""Inject every fault often and print the table as JSON: `python tests/faults/run_long.py [--only NAME] [--kills N]`."""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from injection import kills, lines, outages
from injection.harness import Installation, Row, installed, run_undisturbed
from injection.workload import RECONSTRUCT, SEGMENT, TRAIN

Fault = Callable[[Path, kills.Expected], Row]
PATIENT = 1000  # starts of an item, where it is the harness that takes the worker down


def _in_place(work: Callable[[Installation, kills.Expected], Row], **settings: object) -> Fault:
    def inject(home: Path, expected: kills.Expected) -> Row:
        with installed(home, **settings) as place:
            return work(place, expected)

    return inject


def list_faults(count: int, kill_count: int, steps: int) -> dict[str, Fault]:
    """Return name -> what injects a fault into an installation of its own."""
    return {
        "kill": _in_place(partial(kills.kill_at_random, count=kill_count), max_attempts=PATIENT),
        "postgres": partial(outages.restart_postgres, count=count),
        "locked": partial(outages.lock_database, count=count, longest_s=33.0),
        "full-blobs": partial(outages.fill_disk, count=count, what="blobs", mib=24, kinds=(SEGMENT, RECONSTRUCT)),
        "full-cache": partial(outages.fill_disk, count=count, what="cache", mib=24, kinds=(TRAIN,)),
        "full-database": partial(outages.fill_disk, count=count, what="database", mib=48, kinds=(SEGMENT, RECONSTRUCT)),
        "store-500": partial(outages.break_store, count=count, how="answers 500"),
        "store-slow": partial(outages.break_store, count=count, how="is slow"),
        "store-half": partial(outages.break_store, count=count, how="sends half a body"),
        "clock": partial(outages.jump_clock, count=count),
        "stop": _in_place(partial(kills.stop_and_continue, count=count)),
        "name": _in_place(partial(kills.fight_for_a_name, count=count)),
        "poison": _in_place(kills.poison),
        **{kind: _in_place(partial(lines.walk_through, kind=kind, steps=steps)) for kind in lines.KINDS},
    }


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--only", action="append", help="name of a fault; repeat for several")
    asked.add_argument("--kills", type=int, default=200)
    asked.add_argument("--count", type=int, default=10, help="how often each of the others")
    asked.add_argument("--steps", type=int, default=1, help="every how many lines of the blob protocol")
    asked.add_argument("--out", type=Path, help="file for the table; else it is printed alone")
    options = asked.parse_args()
    faults = list_faults(options.count, options.kills, options.steps)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="vx-faults-") as folder:
        expected = run_undisturbed(Path(folder) / "undisturbed")
        for name in options.only or faults:
            rows.append(faults[name](Path(folder) / name, expected))
            print(json.dumps(rows[-1].to_json()), file=sys.stderr, flush=True)
    table = json.dumps([row.to_json() for row in rows], indent=1)
    if options.out:
        options.out.write_text(table + "\n")
    print(table)
    sys.exit(0 if all(row.sound for row in rows) else 1)


if __name__ == "__main__":
    main()
