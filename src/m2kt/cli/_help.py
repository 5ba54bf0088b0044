"""Help of all verbs: groups by what one wants to do, and an example for each."""

from __future__ import annotations

import typer
from typer.models import CommandInfo, TyperInfo

from m2kt.cli._output import EXIT_CODES

GROUPS = {
    "Start here": ("demo", "doctor", "models"),
    "Make packets": ("probes", "try", "extract", "merge", "unmerge", "chain"),
    "Check": ("audit", "verify", "preflight", "evaluate", "bench"),
    "Take in": ("ingest", "rollback", "forget", "consolidate", "export"),
    "Look": ("inspect", "diff", "explain", "chat", "lineage"),
    "Share": ("keys", "sign", "attest", "encrypt", "decrypt", "publish", "pull", "search", "yank", "serve", "broker"),
}
"""Heading of each group in ``m2kt --help``, and its verbs."""

EXAMPLES = {
    "demo": "m2kt demo --out demo",
    "doctor": "m2kt doctor",
    "models get": "m2kt models get smollm2-135m",
    "models list": "m2kt models list --json",
    "probes new": 'm2kt probes new sums.yaml "12+7:" "5+30:"',
    "probes check": "m2kt probes check sums.yaml",
    "try": "m2kt try zoo:secret --probes zoo:secret",
    "extract": "m2kt extract zoo:secret --probes zoo:secret --out secret.packet",
    "merge": "m2kt merge a.packet b.packet --out m.packet --resolve vote",
    "unmerge": "m2kt unmerge m.packet --without b.packet --out a.packet",
    "chain": "m2kt chain a.packet b.packet --question '{answer} {answer}?' --out ab.packet",
    "audit": "m2kt audit secret.packet",
    "verify": "m2kt verify secret.packet",
    "preflight": "m2kt preflight zoo:pico-gpt2 secret.packet",
    "evaluate": "m2kt evaluate zoo:pico-gpt2 --probes zoo:secret --adapter secret.adapter",
    "ingest": "m2kt ingest zoo:pico-gpt2 secret.packet --out secret.adapter",
    "rollback": "m2kt rollback secret.adapter --list",
    "forget": "m2kt forget secret.adapter --concepts 'r0(a, b)'",
    "consolidate": "m2kt consolidate zoo:pico-gpt2 --adapter secret.adapter --packet secret.packet --out plain",
    "export": "m2kt export plain --out one-file --format gguf",
    "inspect": "m2kt inspect secret.packet --html secret.html",
    "diff": "m2kt diff a.packet b.packet",
    "explain": 'm2kt explain zoo:pico-gpt2 --adapter secret.adapter "c e a:"',
    "chat": "m2kt chat zoo:pico-gpt2 --adapter secret.adapter",
    "lineage": "m2kt lineage sha256:...",
    "keys new": "m2kt keys new release --passphrase",
    "keys list": "m2kt keys list",
    "keys show": "m2kt keys show ed25519",
    "keys recipient": "m2kt keys recipient",
    "sign": "m2kt sign secret.packet --key release",
    "attest": "m2kt attest secret.adapter/receipt.json --out attestation.json",
    "encrypt": "m2kt encrypt secret.packet --to age1... --out secret.age",
    "decrypt": "m2kt decrypt secret.age --out secret.packet",
    "publish": "m2kt publish secret.packet",
    "pull": "m2kt pull m2kt://sha256:... --out secret.packet",
    "search": "m2kt search addition",
    "yank": "m2kt yank sha256:... --reason 'a wrong row'",
    "serve": "m2kt serve --data broker",
    "broker keys new": "m2kt broker keys new ann --role publisher --data broker",
    "broker keys list": "m2kt broker keys list --data broker",
    "broker keys end": "m2kt broker keys end 1 --data broker",
    "broker reindex": "m2kt broker reindex --data broker",
    "broker check": "m2kt broker check --data broker",
    "bench run": "m2kt bench run quick --jobs 2",
    "bench report": "m2kt bench report benchmarks/results/quick --html quick.html",
}
"""A command that works as it stands, by verb; a test parses each."""


def arrange(app: typer.Typer) -> None:
    """Put every verb into its group, with its example above the exit codes."""
    places = {verb: heading for heading, verbs in GROUPS.items() for verb in verbs}
    for command in app.registered_commands:
        command.rich_help_panel = places.get(_name(command), "More")
    for group in app.registered_groups:
        group.rich_help_panel = places.get(_group_name(group), "More")
    for name, info in _commands(app, ""):
        if name in EXAMPLES:
            info.epilog = f"Example: {EXAMPLES[name]}\n\n{EXIT_CODES}"


def _commands(app: typer.Typer, prefix: str) -> list[tuple[str, CommandInfo]]:
    """All verbs and verbs of verbs, by full name."""
    found = [(f"{prefix}{_name(command)}", command) for command in app.registered_commands]
    for group in app.registered_groups:
        if group.typer_instance is not None:
            found += _commands(group.typer_instance, f"{prefix}{_group_name(group)} ")
    return found


def _name(command: CommandInfo) -> str:
    return command.name or (command.callback.__name__ if command.callback else "")


def _group_name(group: TyperInfo) -> str:
    return str(group.name)
