"""Read a packet without loading torch: who signed it, what it says, what it cost.

python examples/read_a_packet.py secret.packet
"""

from __future__ import annotations

import sys

import m2kt


def main(path: str) -> None:
    packet = m2kt.Packet.load(path)  # verifies digests, signature and every rule of the format
    about = m2kt.describe(packet)
    print(f"{about.name} from {about.teacher.name}, signed by key {(about.signer or 'nobody')[:12]}")
    for rule in about.rules:
        print(f"rule {rule.name}: {len(rule.rows)} rows, such as")
        for row in rule.rows[:3]:
            print(f"  {', '.join(row.arguments)} -> {row.output}")
    ledger = about.ledger
    print(f"{ledger.labelled_examples} labelled examples, {ledger.teacher_passes:,} teacher passes")
    print("torch was loaded" if "torch" in sys.modules else "torch was not loaded")


if __name__ == "__main__":
    main(sys.argv[1])
