#!/usr/bin/env python3
"""Writes the shell completions of acme-micro, beside this file, from the command's parser.

    ACME_MICRO_LIBRARY=... PYTHONPATH=../src ./generate.py

A test compares the files with the parser.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from acme_micro.command import parser as options
from acme_micro.command.cas import DIRECTORIES

HERE = Path(__file__).resolve().parent
HEADER = "# Written by completions/generate.py from the command's parser."
# A command that writes the first column of the table, without its heading.
CERTIFICATES = "acme-micro show --offline 2>/dev/null | awk 'NR > 1 { print $1 }'"


@dataclass
class Argument:
    """An option or a positional argument."""

    names: list[str]
    kind: str | None  # kind of its value; None: no value
    choices: list[str]
    help: str
    again: bool
    optional: bool  # whether its value is optional

    @classmethod
    def of(cls, action: argparse.Action) -> Argument:
        takes = action.nargs != 0
        kind = (action.metavar if isinstance(action.metavar, str) else action.dest) if takes else None
        choices = list(action.choices or (DIRECTORIES if kind == options.CAS else ()))
        again = isinstance(action, argparse._AppendAction) or action.nargs == "*"
        optional = action.nargs == "?"
        return cls(list(action.option_strings), kind, choices, action.help or "", again, optional)


@dataclass
class Command:
    """A command, such as ``account create``; the whole program has an empty name."""

    name: str
    help: str
    arguments: list[Argument]
    below: list[Command]

    @classmethod
    def of(cls, name: str, help: str, parser: argparse.ArgumentParser) -> Command:
        self = cls(name, help, [], [])
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                texts = {choice.dest: choice.help or "" for choice in action._choices_actions}
                for word, below in action.choices.items():
                    self.below.append(cls.of(f"{name} {word}".strip(), texts[word], below))
            else:
                self.arguments.append(Argument.of(action))
        return self

    def walk(self) -> Iterator[Command]:
        yield self
        for command in self.below:
            yield from command.walk()

    @property
    def word(self) -> str:
        return self.name.split()[-1]

    @property
    def options(self) -> list[Argument]:
        return [argument for argument in self.arguments if argument.names]

    @property
    def positional(self) -> Argument | None:
        return next((argument for argument in self.arguments if not argument.names), None)


def commands() -> Command:
    return Command.of("", "", options.make_parser())


# --- bash -----------------------------------------------------------------------------------------


BASH_WORDS = r"""
# The words that begin with the typed text, quoted for the command line. The name of a certificate may
# be a command; compgen -W would run it.
_acme_micro_words() {
    local word quoted
    for word; do
        printf -v quoted %q "$word"
        if [[ $word == "$current"* || $quoted == "$current"* ]]; then
            COMPREPLY+=("$quoted")
        fi
    done
}
""".strip().split("\n")


def bash_value(argument: Argument) -> str:
    """Returns the completion of a value."""
    if argument.choices:
        return f"_acme_micro_words {' '.join(argument.choices)}"
    return {
        options.FILES: "_acme_micro_files -f",
        options.FOLDERS: "_acme_micro_files -d",
        options.COMMANDS: "_acme_micro_files -c",
        options.CERTIFICATES: "_acme_micro_certificates",
    }.get(argument.kind or "", ":")


def bash_values(root: Command) -> dict[str, list[str]]:
    """Returns the completions of values, each with its options; an option has the same in each command."""
    found: dict[str, str] = {}
    for command in root.walk():
        for argument in command.options:
            if argument.kind and not argument.optional:
                for name in argument.names:
                    assert found.setdefault(name, bash_value(argument)) == bash_value(argument), name
    return {value: [n for n, v in found.items() if v == value] for value in found.values()}


def bash(root: Command) -> str:
    lines = [
        HEADER,
        "# shellcheck shell=bash",
        "",
        *BASH_WORDS,
        "",
        "_acme_micro_certificates() {",
        "    local names",
        f"    mapfile -t names < <({CERTIFICATES})",
        '    _acme_micro_words "${names[@]}"',
        "}",
        "",
        "_acme_micro_files() {",
        "    compopt -o filenames",
        '    mapfile -t COMPREPLY < <(compgen "$1" -- "$current")',
        "}",
        "",
        "_acme_micro() {",
        "    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}",
        "    local command='' word",
        "    COMPREPLY=()",
        '    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do',
        "        case $command/$word in",
    ]
    for command in root.walk():
        for below in command.below:
            lines.append(f"        '{command.name}/{below.word}') command='{below.name}' ;;")
    lines += ["        esac", "    done", "    case $previous in"]
    for value, names in bash_values(root).items():
        lines += [f"    {' | '.join(names)})", f"        {value}", "        return", "        ;;"]
    lines += ["    esac", "    case $command in"]
    for command in root.walk():
        names = [name for argument in command.options for name in argument.names]
        words = names + [below.word for below in command.below]
        lines.append(f"    '{command.name}')")
        if command.positional and command.positional.kind == options.CERTIFICATES:
            lines.append("        if [[ $current != -* ]]; then")
            lines.append(f"            {bash_value(command.positional)}")
            lines.append("            return")
            lines.append("        fi")
        lines.append(f"        _acme_micro_words {' '.join(words)}")
        lines.append("        ;;")
    lines += ["    esac", "}", "", "complete -F _acme_micro acme-micro"]
    return "\n".join(lines) + "\n"


# --- zsh ------------------------------------------------------------------------------------------


def zsh_text(text: str) -> str:
    for character in "\\[]:":
        text = text.replace(character, f"\\{character}")
    return text.replace("'", "'\\''")


def zsh_value(argument: Argument) -> str:
    if argument.choices:
        return f"({' '.join(argument.choices)})"
    return {
        options.FILES: "_files",
        options.FOLDERS: "_directories",
        options.COMMANDS: "_command_names -e",
        options.CERTIFICATES: "_acme_micro_certificates",
    }.get(argument.kind or "", "")


def zsh_arguments(command: Command) -> list[str]:
    found = []
    for argument in command.arguments:
        value = f":{argument.kind}:{zsh_value(argument)}" if argument.kind else ""
        value = f":{value}" if argument.optional and argument.names else value
        if not argument.names:
            found.append(f"'*{value}'" if argument.again else f"'1{value}'")
            continue
        for name in argument.names:
            again = "*" if argument.again else ""
            found.append(f"'{again}{name}[{zsh_text(argument.help)}]{value}'")
    return found


def zsh_function(command: Command) -> list[str]:
    name = "_".join(["_acme_micro", *command.name.split()])
    specs = zsh_arguments(command)
    lines = [f"{name}() {{"]
    if not command.below:
        specs = [f"        {spec}" for spec in specs]
        return [*lines, "    _arguments -s \\", " \\\n".join(specs), "}", ""]
    lines.append("    local line state")
    specs += ["'1:command:->command'", "'*::argument:->argument'"]
    lines += ["    _arguments -C -s \\", " \\\n".join(f"        {spec}" for spec in specs)]
    lines += ["    case $state in", "    command)", "        local -a commands=("]
    lines += [f"            '{below.word}:{zsh_text(below.help)}'" for below in command.below]
    lines += ["        )", "        _describe command commands", "        ;;", "    argument)"]
    lines.append("        case $line[1] in")
    for below in command.below:
        lines.append(f"        {below.word}) _acme_micro_{'_'.join(below.name.split())} ;;")
    return [*lines, "        esac", "        ;;", "    esac", "}", ""]


def zsh(root: Command) -> str:
    lines = ["#compdef acme-micro", HEADER, "", "_acme_micro_certificates() {"]
    lines += [f"    compadd -- ${{(f)\"$({CERTIFICATES})\"}}", "}", ""]
    for command in root.walk():
        lines += zsh_function(command)
    return "\n".join([*lines, '_acme_micro "$@"']) + "\n"


# --- fish -----------------------------------------------------------------------------------------


def fish_text(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def fish_value(argument: Argument) -> str:
    if argument.choices:
        return f" -x -a '{' '.join(argument.choices)}'"
    return {
        options.FILES: " -r -F",
        options.FOLDERS: " -x -a '(__fish_complete_directories)'",
        options.COMMANDS: " -x -a '(__fish_complete_command)'",
        options.CERTIFICATES: f" -x -a {fish_text(f'({CERTIFICATES})')}",
    }.get(argument.kind or "", " -x")


def fish_condition(command: Command) -> str:
    seen = [f"__fish_seen_subcommand_from {word}" for word in command.name.split()]
    if not seen:
        return "__fish_use_subcommand"
    if len(seen) == 1 and command.word != "account":
        seen.append("not __fish_seen_subcommand_from account")
    return "; and ".join(seen)


def fish(root: Command) -> str:
    lines = [HEADER, "", "complete -c acme-micro -f"]
    for command in root.walk():
        when = f"complete -c acme-micro -n '{fish_condition(command)}'"
        below = " ".join(one.word for one in command.below)
        for one in command.below:
            free = when if not command.name else f"{when[:-1]}; and not __fish_seen_subcommand_from {below}'"
            lines.append(f"{free} -a {one.word} -d {fish_text(one.help)}")
        for argument in command.arguments:
            value = fish_value(argument) if argument.kind and not argument.optional else ""
            names = "".join(f" -l {n[2:]}" if n.startswith("--") else f" -s {n[1:]}" for n in argument.names)
            if names:
                lines.append(f"{when}{names}{value} -d {fish_text(argument.help)}")
            elif argument.kind == options.CERTIFICATES:
                lines.append(f"{when}{fish_value(argument)}")
    return "\n".join(lines) + "\n"


FILES = {"acme-micro.bash": bash, "_acme-micro": zsh, "acme-micro.fish": fish}

if __name__ == "__main__":
    for file, write in FILES.items():
        (HERE / file).write_text(write(commands()))
