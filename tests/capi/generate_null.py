#!/usr/bin/env python3
"""Writes calls of every function of acme_micro.h, for tests/capi/test_null.c: one with valid arguments,
and one for each parameter that is a pointer, with NULL in its place.

  generate_null.py >null_calls.h

This file lists the pointers that may be NULL, and the valid values of the others. A new function or type
that is missing here is an error.
"""

import pathlib
import sys

from pycparser import c_ast, c_parser

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bindings/python"))
import gen_native  # noqa: E402

# Arguments that may be NULL according to the header. The result of the call is then the same.
OPTIONAL = {
    "acme_set_log_callback": {"log", "user"},
    "acme_csr_der": {"size"},
    "acme_cert_create_tls_alpn": {"key"},
    "acme_cert_der": {"size"},
    "acme_begin_revoke": {"key"},
    "acme_op_response_failed": {"why"},
    "acme_op_published": {"failure"},
    "acme_op_sign_failed": {"why"},
    "acme_op_set_user_data": {"user"},
    "acme_op_run": {"options"},
    "acme_obtain": {"run"},
    "acme_driver_new": {"options"},
    "acme_next_try": {"cert"},
    "acme_store_sealed": {"old_key"},
    "acme_manager_cert": {"server_name"},
    "acme_manager_status": {"name", "user"},
    "acme_manager_metrics": {"user"},
    "acme_manager_on_demand": {"user"},
}
# Valid values of the arguments, by function and parameter, by parameter, or by type.
VALUES = {
    ("acme_key_generate", "type"): "ACME_KEY_P256",
    ("acme_key_parse", "data"): "acme_key_pem(key)",
    ("acme_key_parse", "size"): "strlen(acme_key_pem(key))",
    ("acme_csr_create", "key"): "second_key",
    ("acme_csr_parse", "data"): "der",
    ("acme_csr_parse", "size"): "der_size",
    ("acme_cert_parse", "pem"): "acme_cert_chain_pem(cert)",
    ("acme_cert_parse", "size"): "strlen(acme_cert_chain_pem(cert))",
    ("acme_cert_create_tls_alpn", "key"): "second_key",
    ("acme_begin_key_change", "new_key"): "second_key",
    ("acme_begin_revoke", "key"): "acme_cert_key(cert)",
    ("acme_op_run", "op"): "canceled",
    ("acme_op_run", "options"): "&run",
    ("acme_obtain", "order"): "&order",
    ("acme_obtain", "run"): "&run",
    ("acme_begin_deactivate_authorization", "authorization_url"): '"https://127.0.0.1:1/a"',
    ("acme_begin_abandon_order", "order_url"): '"https://127.0.0.1:1/o"',
    ("acme_client_http01_answer", "size"): "strlen(path)",
    ("acme_http01_answer", "size"): "strlen(path)",
    ("acme_op_respond_with", "challenge"): "&challenge",
    ("acme_store_directory", "path"): '"acme-null-store"',
    "directory_url": "client_options.directory_url",
    ("acme_store_sealed", "key"): "sealing_key",
    ("acme_store_sealed", "old_key"): "sealing_key",
    ("acme_manager_remove", "name"): '"example.org"',
    ("acme_manager_renew", "name"): '"example.org"',
    ("acme_manager_status", "name"): '"example.org"',
    "write": "take_text",
    "names": "names",
    "contacts": "contacts",
    "thumbprint": "acme_key_thumbprint(key)",
    "path": "path",
    "body": "body",
    "room": "sizeof body",
    "log": "quiet",
    "user": "&user",
    "http_status": "200",
    "index": "0",
    "acme_key_t *": "key",
    "acme_csr_t *": "csr",
    "acme_cert_t *": "cert",
    "acme_client_t *": "client",
    "acme_op_t *": "op",
    "acme_driver_t *": "driver",
    "acme_error_t *": "error",
    "acme_challenge_t *": "&challenge",
    "acme_client_options_t *": "&client_options",
    "acme_order_options_t *": "&order",
    "acme_authorize_options_t *": "&authorize",
    "acme_run_options_t *": "&run",
    "acme_driver_options_t *": "&driver_options",
    "acme_driver_callbacks_t *": "&callbacks",
    "acme_manager_t *": "manager",
    "acme_manager_options_t *": "&manager_options",
    "acme_files_options_t *": "&files_options",
    ("acme_manager_add", "order"): "&stored_order",
    ("acme_manager_on_demand", "order"): "&demand_order",
    "ask": "refuse",
    ("acme_manager_http01_answer", "size"): "strlen(path)",
    "acme_manager_t **": "&out_manager",
    "acme_store_t *": "store",
    "acme_store_functions_t *": "&functions",
    "acme_store_t **": "&out_store",
    "acme_key_t **": "&out_key",
    "acme_csr_t **": "&out_csr",
    "acme_cert_t **": "&out_cert",
    "acme_client_t **": "&out_client",
    "acme_op_t **": "&out_op",
    "acme_driver_t **": "&out_driver",
    "size_t *": "&out_size",
    "int *": "&wait_ms",
    "void *": '"x"',
    "char *": '"x"',
    "int": "0",
    "size_t": "1",
    "uint64_t": "1",
    "acme_time_t": "0",
}
# Their handles exist only while a function of a store runs: test_store.c calls them with NULL.
SKIPPED = {"acme_record_set", "acme_names_add"}
# acme_manager_run() blocks: test_manager.c calls it. acme_manager_add_ca() wants a new manager: test_cas.c has one.
SKIPPED |= {"acme_manager_run", "acme_manager_add_ca"}
POINTERS = {"acme_ask_fn", "acme_log_fn", "acme_write_fn"}  # a pointer to a function, under a name without "*"
# Functions whose result for NULL is neither NULL nor 0.
ANSWERS = {"acme_driver_fd": "-1"}
# A returned pointer that the caller does not own is const (rule 2 of the header). Exceptions: these return a
# handle that the caller then owns, or the caller's own pointer.
NOT_CONST = {"acme_op_take_cert", "acme_op_user_data", "acme_manager_cert"}


class Parameter:
    def __init__(self, function: str, node: c_ast.Decl):
        self.name = node.name
        inner, stars = node.type, ""
        while isinstance(inner, c_ast.PtrDecl):
            inner, stars = inner.type, stars + "*"
        base = inner.type.names[-1]
        self.type = f"{base} {stars}".strip()
        self.is_pointer = bool(stars) or base in POINTERS
        self.is_out = self.type.endswith("_t **") or self.type == "size_t *"
        self.is_optional = self.name in OPTIONAL.get(function, ())
        for key in ((function, self.name), self.name, self.type):
            if key in VALUES:
                self.value = VALUES[key]
                break
        else:
            sys.exit(f"{function}() has a {self.type} {self.name}, which is not known here")


def functions():
    """Yields each function as (name, return type, parameters)."""
    header = gen_native.HEADER.read_text(encoding="utf-8")
    for node in c_parser.CParser().parse(gen_native.preprocess(header)).ext:
        if isinstance(node, c_ast.Decl) and isinstance(node.type, c_ast.FuncDecl):
            returned = node.type.type
            is_pointer = isinstance(returned, c_ast.PtrDecl)
            if node.name in SKIPPED:
                continue
            if is_pointer and "const" not in returned.type.quals and node.name not in NOT_CONST:
                sys.exit(f"{node.name}() returns what a caller could free")
            kind = "pointer" if is_pointer else returned.type.names[-1]
            given = [p for p in node.type.args.params if isinstance(p, c_ast.Decl)]
            yield node.name, kind, [Parameter(node.name, p) for p in given]


def call(name, kind, parameters, null):
    """Returns the call as a line of C."""
    values = ["NULL" if p is null else p.value for p in parameters]
    text = f"{name}({', '.join(values)})"
    wrong = "" if null is None else null.name
    outs = " && ".join(f"!{p.value[1:]}" for p in parameters if p.is_out and p is not null) or "1"
    if name.endswith("_free"):
        text = f"({text}, {parameters[0].value} = NULL)" if null is None else text
    if kind == "void":
        return f'NOTHING({name}, "{wrong}", {text})'
    if kind == "acme_status_t" and name != "acme_error_status" or name in ("acme_op_poll", "acme_manager_poll"):
        if null is None:
            return f'SETS({name}, {text})'
        if null.is_optional:
            return f'SAME({name}, "{wrong}", {text})'
        return f'REFUSED({name}, "{wrong}", {text}, {outs})'
    if null is None or null.is_optional:
        return f'ANY({name}, "{wrong}", {text})'
    return f'ANSWERS({name}, "{wrong}", {text}, {ANSWERS.get(name, "0")}, {outs})'


def main():
    print("/* Generated by tests/capi/generate_null.py from include/acme_micro.h. */")
    for name, kind, parameters in functions():
        for null in (None, *(p for p in parameters if p.is_pointer)):
            print(call(name, kind, parameters, null))


if __name__ == "__main__":
    main()
