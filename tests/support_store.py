"""A child process that registers devices until it is killed, and says each one when it is acknowledged."""

from __future__ import annotations

import sys
from pathlib import Path

from sim.cloud.store import Store


def main() -> None:
    store = Store(Path(sys.argv[1]), told=print)
    number = 0
    while True:
        device = store.register("0" * 32, f"MAC{number:09d}", "ABCDEFGHIJ", is_reset=False, now=float(number))
        store.save_report(device.did, number.to_bytes(4, "big"), float(number))
        sys.stdout.write(f"{number} {device.did}\n")
        sys.stdout.flush()
        number += 1


if __name__ == "__main__":
    main()
