"""A skill from a teacher into a student, in the fewest lines: extract, ingest, look.

    python examples/transfer.py [STUDENT]

Any student will do: zoo:pico-gpt2 (the default), a directory, a Hub id, or smollm2-135m after `m2kt models get` it.
"""

from __future__ import annotations

import sys

import m2kt


def main(student: str = "zoo:pico-gpt2", question: str = "i g b f:") -> bool:
    packet = m2kt.extract("zoo:secret", "zoo:secret", "secret.packet").packet
    print(packet)
    ingestion = m2kt.ingest(student, packet, "secret.adapter", probes="zoo:secret")
    print(ingestion.verdict)
    if ingestion.accepted:
        answer = m2kt.explain(student, question, adapter="secret.adapter", html="answer.html")
        print(answer)
        print("without its adapter:", answer.base_answer.split("\n")[0].strip()[:40])
    return ingestion.accepted


if __name__ == "__main__":
    sys.exit(0 if main(*sys.argv[1:]) else 1)
