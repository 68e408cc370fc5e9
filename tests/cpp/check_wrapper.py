#!/usr/bin/env python3
"""Compares acme_micro.hpp with acme_micro.h.

  tests/cpp/check_wrapper.py          fails when the wrapper lacks a function, an enumerator or a member,
                                      or when the comment of a struct's member differs
  tests/cpp/check_wrapper.py --write  writes the comments of the members from acme_micro.h

A member of a C++ struct has the comment of the C member, in the words of C++: WORDS replaces names, OWN
has the members with a comment of their own.
"""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path

INCLUDE = Path(__file__).resolve().parents[2] / "include"
WIDTH = 100

# Functions that the wrapper does not use, with the reason.
WITHOUT = {
    "acme_obtain": "client::obtain() is acme_begin_order(), acme_op_run() and acme_op_take_cert()",
}

# The structs whose members are compared.
STRUCTS = {
    "acme_challenge_t": "challenge",
    "acme_header_t": "header",
    "acme_http_request_t": "http_request",
    "acme_sign_request_t": "sign_request",
    "acme_renewal_info_t": "renewal_info",
    "acme_client_options_t": "client_options",
    "acme_order_options_t": "order_options",
    "acme_authorize_options_t": "authorize_options",
    "acme_driver_options_t": "driver_options",
    "acme_manager_options_t": "manager_options",
    "acme_files_options_t": "files_options",
}

# C++ members that have another name than in C: durations have their unit in their type.
NAMES = {"timeout": "timeout_s", "request_timeout": "request_timeout_s"}

# C members that C++ does not have: a container knows its size, the wrapper sets the size of a struct.
# The handlers of a manager are functions with data of their own.
ABSENT = re.compile(r"size|\w+_count|body_size|input_size|user|serve_user")

# C++ members with a comment of their own, which the C member does not have to agree with.
OWN = {
    "challenge.shown": "C has no such member",
    "order_options.not_before": "a time_point, not a text in RFC 3339 format",
    "order_options.not_after": "a time_point, not a text in RFC 3339 format",
    "order_options.name_challenge_types": "an empty text takes the place of NULL",
    "manager_options.client": "refers to no type of C",
    "manager_options.event": "an empty function takes the place of NULL",
    "manager_options.serve": "an empty function takes the place of NULL",
    "manager_options.publish": "an operation takes the place of the functions of C",
    "manager_options.unpublish": "an empty function takes the place of NULL",
}

# Sentences that C++ adds to the comment of C.
ADDED = {"order_options.only_if_due": "With replaces not for client::obtain()."}

# C++'s word for each of C's, in all comments. The first match wins.
WORDS = {
    r"acme_cert_create_tls_alpn\(\)": "certificate::tls_alpn()",
    r"acme_cert_key\(\)": "certificate::key()",
    r"acme_client_account_url\(\)": "client::account_url()",
    r"acme_client_new\(\)": "the constructor of client",
    r"acme_client_profile\(\)": "client::profiles()",
    r"acme_client_terms_url\(\)": "client::terms_url()",
    r"acme_key_thumbprint\(\)": "key::thumbprint()",
    r"acme_manager_cert\(\)": "manager::find()",
    r"acme_key_from_public\(\)": "key::from_public()",
    r"acme_op_key\(\)": "operation::key()",
    r"acme_op_order_url\(\)": "operation::order_url()",
    r"acme_op_renewal_info\(\)": "operation::renewal()",
    r"acme_op_respond_with\(\)": "operation::respond_with()",
    r"acme_challenge_t": "challenge::type",
    r"acme_order_options_t": "order_options",
    r"an ACME_KEY_\* value": "a key_type value",
    r"ACME_KEY_(\w+)": lambda match: "key_type::" + match[1].lower(),
    r"ACME_STEP_(\w+)": lambda match: "step::" + match[1].lower(),
    r"ACME_ERR_TERMS": "terms_not_agreed",
    r"ACME_ERR_ACCOUNT": "account_error",
    r"ACME_ERR_(UNSUPPORTED|INVALID_ARGUMENT)": lambda match: match[1].lower(),
    r"An ACME_CHAIN_\* value": "A chain_by value",
    r"ACME_CHAIN_(BY_\w+)": lambda match: "chain_by::" + match[1].lower().removeprefix("by_"),
    r"ACME_CHAIN_SMALLEST": "chain_by::smallest",
}
# The same by the type of the C++ member: the C member is a number, or a pointer that may be NULL.
TYPED_WORDS = {
    "bool": {r"^1: when": "When", r"\b1: ": "True: ", r"\b0: ": "False: "},
    "std::optional": {r"\bNULL\b": "nullopt"},
    "std::vector": {r"^NULL\b": "Empty", r"(?<=[.;:] )NULL\b": "Empty", r"\bNULL\b": "an empty list"},
    "std::string": {r"^NULL\b": "Empty", r"(?<=\. )NULL\b": "Empty", r"\bNULL\b": "empty"},
    "const": {r"\bNULL\b": "nullptr"},
}


def main() -> int:
    header = (INCLUDE / "acme_micro.h").read_text()
    wrapper = (INCLUDE / "acme_micro.hpp").read_text()
    if sys.argv[1:] == ["--write"]:
        for name in STRUCTS.values():
            struct = struct_of(name, wrapper)
            right = struct
            for of, old, new in wrong_comments(header, wrapper):
                right = right.replace(old, new) if of == name else right
            wrapper = wrapper.replace(struct, right)
        (INCLUDE / "acme_micro.hpp").write_text(wrapper)

    wrong = missing_names(header, wrapper)
    for _, old, new in wrong_comments(header, wrapper):
        member = old.rstrip("\n").splitlines()[-1].strip()
        wrong.append(f"the comment of `{member}` should be, as in acme_micro.h:\n{comment_of(new)}")
    if any("should be" in line for line in wrong):
        wrong.append("to write these comments: tests/cpp/check_wrapper.py --write")
    print("\n".join(wrong), end="\n" if wrong else "")
    return 1 if wrong else 0


def missing_names(header: str, wrapper: str) -> list[str]:
    header, wrapper = code(header), code(wrapper)
    used = set(re.findall(r"\w+", wrapper))
    functions = set(re.findall(r"\b(acme_\w+)\s*\(", header))
    enumerators = set(re.findall(r"\b(ACME_\w+)\s*=", header))
    members = set()
    for body in re.findall(r"typedef struct \{(.*?)\}", header, re.DOTALL):
        members.update(re.findall(r"(\w+);", body))
    assert len(functions) > 80 and len(enumerators) > 40 and len(members) > 40

    missing = sorted((functions | enumerators | members) - used - set(WITHOUT))
    stale = sorted(set(WITHOUT) - functions)
    print(f"{len(functions)} functions, {len(enumerators)} numbers, {len(members)} members")
    return [f"acme_micro.hpp lacks {name}" for name in missing] + [
        f"{Path(__file__).name}: WITHOUT has {name}, which does not exist" for name in stale
    ]


def code(text: str) -> str:
    """The text without comments."""
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)


# --- comments -------------------------------------------------------------------------------------


def struct_of(name: str, wrapper: str) -> str:
    """A struct of the wrapper, with its name, up to the last member."""
    return re.search(r"\nstruct %s \{\n.*?\n(?=\};)" % name, wrapper, re.DOTALL)[0]


def wrong_comments(header: str, wrapper: str) -> list[tuple[str, str, str]]:
    """The struct of each member with a wrong comment; the member with this and with the right one."""
    found = []
    for c_name, name in STRUCTS.items():
        body = r"typedef struct \{\n((?:(?!typedef struct).)*?)\} %s;" % c_name
        in_c = members(re.search(body, header, re.DOTALL)[1])
        struct = struct_of(name, wrapper).removeprefix(f"\nstruct {name} {{\n")
        ours = members(struct)
        for member in sorted(set(in_c) - {NAMES.get(m, m) for m in ours}):
            if not ABSENT.fullmatch(member):
                sys.exit(f"acme_micro.hpp: struct {name} lacks {member}, which {c_name} has")
        for member, (text, declaration) in ours.items():
            if f"{name}.{member}" in OWN:
                if not text:
                    sys.exit(f"acme_micro.hpp: {name}.{member} has no comment")
                continue
            if NAMES.get(member, member) not in in_c:
                sys.exit(f"acme_micro.hpp: {c_name} has no {member}: say why in OWN of {Path(__file__).name}")
            wanted = in_cpp(in_c[NAMES.get(member, member)][0], declaration)
            wanted = f"{wanted} {ADDED.get(f'{name}.{member}', '')}".strip()
            if text != wanted:
                old = re.search(r"(?:    ///[^\n]*\n)*" + re.escape(declaration) + "\n", struct)[0]
                found.append((name, old, wrapped(wanted) + declaration + "\n"))
    return found


def members(struct: str) -> dict[str, tuple[str, str]]:
    """The comment and the declaration of each member."""
    found = {}
    pattern = r"((?: *///[^\n]*\n)*)( *[^\n/]*?(\w+)(?:\{\}| = [^;\n]*)?;)\n"
    for comment, declaration, name in re.findall(pattern, struct):
        found[name] = (" ".join(re.sub(r"^ */// ?", "", comment, flags=re.M).split()), declaration)
    return found


def in_cpp(text: str, declaration: str) -> str:
    """C's comment in the words of C++."""
    kind = declaration.split("<")[0].split()[0]
    for pattern, word in {**WORDS, **TYPED_WORDS.get(kind, {})}.items():
        text = re.sub(pattern, word, text)
    return text[0].upper() + text[1:] if text.startswith("the constructor") else text


def wrapped(text: str) -> str:
    lines = textwrap.wrap(text, WIDTH - 8, break_long_words=False, break_on_hyphens=False)
    return "".join(f"    /// {line}\n" for line in lines)


def comment_of(text: str) -> str:
    return "".join(line + "\n" for line in text.splitlines() if line.lstrip().startswith("///"))


if __name__ == "__main__":
    sys.exit(main())
