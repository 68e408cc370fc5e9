#!/usr/bin/env python3
"""Writes the man pages of the C API from the XML that Doxygen makes of the headers.

  man.py XML-FOLDER MAN3-FOLDER

One page for each function, handle, struct, enumeration and type of callback; an overview of each header:
acme-micro(3), also as libacme-micro(3), and acme_micro_openssl(3).
"""

from __future__ import annotations

import datetime
import os
import re
import shutil
import sys
import textwrap
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from snippets import ROOT, examples, versions

VERSION = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
DATE = datetime.datetime.fromtimestamp(
    int(os.environ.get("SOURCE_DATE_EPOCH") or datetime.datetime.now().timestamp()), datetime.timezone.utc
).date()

EXAMPLES = examples()

HEADERS = {"acme_micro.h": "acme-micro", "acme_micro_openssl.h": "acme_micro_openssl"}
# Families of functions, in the order of the overview.
FAMILIES = {
    "acme_obtain": "The whole in one call",
    "acme_manager_": "Certificates that stay fresh",
    "acme_client_": "An account at a CA",
    "acme_begin_": "What can be done there",
    "acme_op_": "Operations, step by step",
    "acme_driver_": "Operations on an event loop",
    "acme_key_": "Keys",
    "acme_csr_": "Certificate signing requests",
    "acme_cert_": "Certificates",
    "acme_error_": "Errors",
    "acme_openssl_": "Certificates of a server on OpenSSL",
    "acme_": "The library, and what else there is",
}


# --- roff -----------------------------------------------------------------------------------------


def escape(text: str) -> str:
    """Characters that roff would take for something else."""
    text = text.replace("\\", "\\e").replace("\N{NO-BREAK SPACE}", "\\ ")
    return re.sub(r"https?://\S+|[a-z]+(?:-[a-z]+)*-\d+|--\w+", lambda m: m[0].replace("-", "\\-"), text)


def code(text: str) -> str:
    for plain, special in {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti"}.items():
        text = text.replace(plain, special)
    return "\n".join(re.sub(r"^\.", r"\\&.", line) for line in text.rstrip("\n").split("\n"))


def listing(text: str) -> str:
    return f".PP\n.in +4n\n.EX\n{code(text)}\n.EE\n.in"


def filled(text: str) -> str:
    """Prose: each sentence begins a line, and no line looks like a request."""
    text = re.sub(r"\s+", " ", text).strip()
    sentences = re.split(r"(?<=[.:;])(?<!e\.g\.) (?=[A-Z\\*])", text)
    lines = [
        line
        for sentence in sentences
        for line in textwrap.wrap(sentence, 78, break_long_words=False, break_on_hyphens=False)
    ]
    return "\n".join("\\&" + line if line[0] in ".'" else line for line in lines)


def bold(text: str) -> str:
    return f"\\fB{text}\\fP"


def reference(name: str) -> str:
    return f"{bold(escape(name))}(3)"


# --- Doxygen's XML -----------------------------------------------------------------------------


BLOCKS = {
    "orderedlist", "itemizedlist", "programlisting", "verbatim", "parameterlist", "simplesect", "heading",
}  # fmt: skip


class Reference:
    def __init__(self, xml: Path) -> None:
        self.members: dict[str, Element] = {}
        self.files: dict[str, Element] = {}
        self.structs: dict[str, Element] = {}
        self.header: dict[str, str] = {}  # by name
        self.page_of: dict[str, str] = {}  # the page that a reference leads to, by the reference's id
        for file in sorted(xml.glob("*.xml")):
            for compound in ElementTree.parse(file).getroot().iter("compounddef"):
                self.add(compound)
        self.mainpage = ElementTree.parse(xml / "indexpage.xml").getroot().find("compounddef")

    def add(self, compound: Element) -> None:
        name = compound.findtext("compoundname")
        if compound.get("kind") == "struct":
            self.structs[name] = compound
            self.header[name] = Path(compound.find("location").get("file")).name
            self.page_of[compound.get("id")] = name
            for member in compound.iter("memberdef"):
                self.page_of[member.get("id")] = name
        elif compound.get("kind") == "file" and name in HEADERS:
            self.files[name] = compound
            self.page_of[compound.get("id")] = HEADERS[name]
            for member in compound.iter("memberdef"):
                own = member.findtext("name")
                self.members[own] = member
                self.header[own] = name
                is_macro = member.get("kind") == "define"
                self.page_of[member.get("id")] = HEADERS[name] if is_macro else own
                for value in member.iter("enumvalue"):
                    self.page_of[value.get("id")] = own

    def text(self, element: Element | None, skip: tuple[str, ...] = ()) -> str:
        """The text of an element on one line, as roff."""
        if element is None:
            return ""
        parts = [escape(element.text or "")]
        for child in element:
            if child.tag not in skip:
                parts.append(self.inline(child))
            parts.append(escape(child.tail or ""))
        return re.sub(r"\s+", " ", "".join(parts)).strip(" ") if not skip else "".join(parts)

    def inline(self, element: Element) -> str:
        text = "".join(element.itertext())
        if element.tag == "ref":
            page = self.page_of.get(element.get("refid"))
            if page == text.removesuffix("()"):
                return reference(page)
            return bold(escape(text))
        if element.tag in ("computeroutput", "bold"):
            return bold(escape(text))
        if element.tag == "emphasis":
            return f"\\fI{escape(text)}\\fP"
        if element.tag in ("sp", "linebreak"):
            return " "
        # "&ndash;" and the like.
        return {"ndash": "\\-\\-", "mdash": "\\(em"}.get(element.tag) or self.raw(element)

    def raw(self, element: Element) -> str:
        inner = escape(element.text or "")
        for child in element:
            inner += self.inline(child) + escape(child.tail or "")
        return inner

    def blocks(self, parent: Element | None) -> list[str]:
        """Returns the paragraphs, lists and listings of a description, without parameters and results."""
        found: list[str] = []
        if parent is None:
            return found
        for para in parent.findall("para"):
            run = escape(para.text or "")
            for child in para:
                if child.tag in BLOCKS:
                    if run.strip():
                        found.append(".PP\n" + filled(run))
                    run = ""
                    found += self.block(child)
                else:
                    run += self.inline(child)
                run += escape(child.tail or "")
            if run.strip():
                found.append(".PP\n" + filled(run))
        return found

    def block(self, element: Element) -> list[str]:
        if element.tag == "programlisting":
            return [listing(program(element))]
        if element.tag == "verbatim":
            return [listing(textwrap.dedent("".join(element.itertext())).strip("\n"))]
        if element.tag == "heading":
            return [".SS " + self.raw(element)]
        if element.tag in ("orderedlist", "itemizedlist"):
            found = []
            for number, item in enumerate(element.findall("listitem"), 1):
                mark = f"{number}." if element.tag == "orderedlist" else "\\(bu"
                first, *rest = self.blocks(item)
                found.append(f".IP {mark} 4\n" + first.removeprefix(".PP\n"))
                found += [".IP\n" + more.removeprefix(".PP\n") for more in rest]
            return found
        return []

    def described(self, element: Element) -> list[str]:
        """Joins the brief and the detailed description, which Doxygen splits after the first sentence."""
        blocks = self.blocks(element.find("briefdescription")) + self.blocks(element.find("detaileddescription"))
        first = element.find("detaileddescription/para")
        brief = element.find("briefdescription/para")
        if len(blocks) > 1 and brief is not None and first is not None and blocks[1].startswith(".PP"):
            blocks[:2] = [blocks[0] + "\n" + blocks[1].removeprefix(".PP\n")]
        return blocks

    def summary(self, element: Element) -> str:
        """Returns the first sentence, for the line NAME, without the section numbers of its references."""
        texts = (element.find(f"{kind}description") for kind in ("brief", "detailed"))
        plain = " ".join("".join(para.itertext()) for text in texts for para in text.findall("para"))
        plain = re.sub(r"\s+", " ", plain).strip()
        ends = (end.start() for end in re.finditer(r"[.:;] |\.?$", plain))
        sentence = next(plain[:end] for end in ends if plain[:end].count("(") == plain[:end].count(")"))
        if re.match(r"[A-Z][a-z]|A ", sentence):
            sentence = sentence[0].lower() + sentence[1:]
        return escape(sentence)


def program(element: Element) -> str:
    lines = []
    for line in element.findall("codeline"):
        for space in line.iter("sp"):
            space.text = " "
        lines.append("".join(line.itertext()))
    return "\n".join(lines)


# --- pages ------------------------------------------------------------------------------------------


class Page:
    def __init__(self, name: str, summary: str) -> None:
        self.name = name
        title = f'.TH {name.replace("-", chr(92) + "-")} 3 {DATE} "libacme\\-micro {VERSION}" "ACME for programs"'
        self.parts = ['.\\" Generated from the headers by docs/reference/man.py.', title]
        self.section("NAME", f"{escape(name)} \\- {summary}")

    def section(self, title: str, *blocks: str) -> None:
        if blocks:
            self.parts.append(f".SH {title}")
            # A section begins with a paragraph of its own.
            self.parts += [blocks[0].removeprefix(".PP\n"), *blocks[1:]]

    def write(self, folder: Path) -> None:
        text = "\n".join(self.parts) + "\n"
        # A page does not refer to itself.
        text = text.replace(reference(self.name), bold(escape(self.name)))
        (folder / f"{self.name}.3").write_text(text, encoding="utf-8")


def synopsis(header: str, declaration: str) -> str:
    return f".nf\n{bold(f'#include <{header}>')}\n.PP\n{bold_lines(declaration)}\n.fi"


def bold_lines(text: str) -> str:
    return "\n".join(bold(code(line)) if line else "" for line in text.split("\n"))


def plain(element: Element | None) -> str:
    return re.sub(r"\s+", " ", "".join(element.itertext())).strip() if element is not None else ""


def joined(type_: str, name: str) -> str:
    return f"{type_}{'' if type_.endswith('*') else ' '}{name}"


def prototype(member: Element) -> str:
    parameters = [joined(plain(p.find("type")), plain(p.find("declname"))) for p in member.findall("param")]
    parameters = [p.replace(" * ", " *").replace("* const *", "*const *").strip() for p in parameters] or ["void"]
    head = joined(plain(member.find("type")), member.findtext("name")) + "("
    one = head + ", ".join(parameters) + ");"
    if len(one) <= 72:
        return one
    return head + (",\n" + " " * len(head)).join(parameters) + ");"


def see_also(book: Reference, name: str, *elements: Element, also: list[str] = []) -> str:
    pages = {book.page_of.get(ref.get("refid")) for element in elements for ref in element.iter("ref")}
    named = {word for element in elements for word in re.findall(r"\w+", element.findtext("definition") or "")}
    pages |= named & (book.members.keys() | book.structs.keys())
    pages = (pages | set(also) | {HEADERS[book.header[name]]}) - {name, None}
    return ",\n".join(f".BR {escape(page)} (3)" for page in sorted(pages)).replace(" (3),", " (3),")


def returned(book: Reference, member: Element) -> list[str]:
    result = member.find("detaileddescription//simplesect[@kind='return']/para")
    if result is None:
        return []
    text = book.text(result)
    cases = re.split(r"; (?=\\fBACME_)", text)
    if len(cases) == 1:
        return [filled(text)]
    blocks = []
    for case in cases:
        status, _, meaning = case.partition("\\fP")
        if not status.startswith("\\fBACME_"):
            blocks.append(filled(case.removesuffix(".") + "."))
            continue
        meaning = meaning.lstrip(": ").removesuffix(".") or "success"
        blocks.append(f".TP\n{status}\\fP\n{filled(meaning[0].upper() + meaning[1:] + '.')}")
    return blocks


def function_page(book: Reference, name: str, member: Element, since: str | None) -> Page:
    page = Page(name, book.summary(member))
    page.section("SYNOPSIS", synopsis(book.header[name], prototype(member)))
    page.section("DESCRIPTION", *book.described(member))
    items = member.findall("detaileddescription//parameterlist/parameteritem")
    page.section("PARAMETERS", *(
        f".TP\n\\fI{item.findtext('parameternamelist/parametername')}\\fP\n"
        + filled(book.text(item.find("parameterdescription/para")))
        for item in items
    ))  # fmt: skip
    result = returned(book, member)
    if result and plain(member.find("type")) == "acme_status_t" and since and name != "acme_error_status":
        result.append(
            ".PP\nAny function that can fail also gives\n\\fBACME_ERR_INVALID_ARGUMENT\\fP for a NULL that is not allowed,\n"
            "\\fBACME_ERR_MISUSE\\fP for a handle of the wrong kind, and\n\\fBACME_ERR_PANIC\\fP for a bug in the library;\n"
            "\\fBacme_last_error\\fP(3) then says more."
        )
    page.section("RETURN VALUE", *result)
    snippet = EXAMPLES.get(name)
    if snippet:
        page.section("EXAMPLE", listing(snippet.text))
    if since:
        page.section("AVAILABILITY", f"Added in {since}.")
    page.section("SEE ALSO", see_also(book, name, member, also=["acme_last_error"] if result[1:] and since else []))
    return page


def users(book: Reference, name: str) -> list[str]:
    """The functions and structs that use a type."""
    structs = [
        struct
        for struct, compound in book.structs.items()
        if struct != name and any(name in plain(type_).split() for type_ in compound.iter("type"))
    ]
    return structs + [
        function
        for function, member in book.members.items()
        if member.get("kind") == "function"
        and any(re.search(rf"\b{name}\b", plain(type_)) for type_ in member.findall("param/type"))
    ]


def struct_page(book: Reference, name: str, struct: Element) -> Page:
    page = Page(name, book.summary(struct))
    members = list(struct.iter("memberdef"))
    fields = "\n".join(
        f"    {joined(plain(m.find('type')), m.findtext('name'))}{plain(m.find('argsstring'))};" for m in members
    )
    page.section("SYNOPSIS", synopsis(book.header[name], f"typedef struct {{\n{fields}\n}} {name};"))
    initializer = name.removesuffix("_t").upper() + "_INIT"
    blocks = book.described(struct)
    if initializer in book.members:
        blocks.append(listing(f"{name} {name.split('_')[1]} = {initializer};"))
    page.section("DESCRIPTION", *blocks)
    page.section("MEMBERS", *(
        f".TP\n\\fI{m.findtext('name')}\\fP\n" + "\n".join(b.replace(".PP\n", ".IP\n", 1) if i else b.removeprefix(".PP\n")
        for i, b in enumerate(book.described(m)))
        for m in members
    ))  # fmt: skip
    page.section("SEE ALSO", see_also(book, name, struct, also=users(book, name)))
    return page


def enum_page(book: Reference, name: str, enum: Element) -> Page:
    page = Page(name, book.summary(enum))
    values = enum.findall("enumvalue")
    lines = "\n".join(f"    {v.findtext('name')} {v.findtext('initializer')}," for v in values)
    page.section("SYNOPSIS", synopsis(book.header[name], f"enum {name} {{\n{lines}\n}};"))
    page.section("DESCRIPTION", *book.described(enum))
    page.section("VALUES", *(
        f".TP\n{bold(v.findtext('name'))} ({escape(v.findtext('initializer').lstrip('= ')).replace('-', chr(92) + '-')})\n"
        + "\n".join(b.removeprefix(".PP\n") for b in book.described(v))
        for v in values
    ))  # fmt: skip
    page.section("SEE ALSO", see_also(book, name, enum, also=users(book, name)))
    return page


def type_page(book: Reference, name: str, member: Element) -> Page:
    """A handle, a type of callback, or a number."""
    page = Page(name, book.summary(member))
    definition = re.sub(r"\s*\(\* (\w+)\) ?", r" (*\1)", member.findtext("definition"))
    parameters = definition.rpartition("(")[2].rstrip(")").split(", ")
    if len(definition) > 72 and len(parameters) > 1:
        head = definition.rpartition("(")[0] + "("
        definition = head + (",\n" + " " * len(head)).join(parameters) + ")"
    page.section("SYNOPSIS", synopsis(book.header[name], definition + ";"))
    page.section("DESCRIPTION", *book.described(member))
    used = users(book, name)
    if name.removesuffix("t") in FAMILIES or name.startswith("acme_openssl"):
        page.section("FUNCTIONS", *overview(book, [n for n in used if n in book.members]))
        used = []
    page.section("SEE ALSO", see_also(book, name, member, also=used))
    return page


def overview(book: Reference, names: list[str]) -> list[str]:
    return [f".TP\n{reference(name)}\n{filled(book.summary(book.members[name]))}" for name in names]


def header_page(book: Reference, header: str) -> Page:
    file = book.files[header]
    own = HEADERS[header]
    members = {n: m for n, m in book.members.items() if book.header[n] == header}
    page = Page(own, book.summary(file))
    if header == "acme_micro.h":
        page.section("SYNOPSIS", f".nf\n{bold(f'#include <{header}>')}\n.PP\n"
            + bold("cc program.c $(pkg\\-config \\-\\-cflags \\-\\-libs acme\\-micro)") + "\n.fi")  # fmt: skip
        page.section("DESCRIPTION", *book.blocks(book.mainpage.find("detaileddescription")))
        page.section("RULES", *book.blocks(file.find("detaileddescription")))
    else:
        page.section("SYNOPSIS", f".nf\n{bold(f'#include <{header}>')}\n.fi")
        page.section("DESCRIPTION", *book.described(file))
    left = [name for name, member in members.items() if member.get("kind") == "function"]
    page.parts.append(".SH FUNCTIONS")
    for prefix, title in FAMILIES.items():
        family = [name for name in left if name.startswith(prefix)]
        left = [name for name in left if name not in family]
        if family:
            page.parts += [f".SS {title}", *overview(book, family)]
    macros = [m for m in members.values() if m.get("kind") == "define" and not m.findtext("initializer", "").startswith("{ .size")]
    page.section("MACROS", *(f".TP\n{bold(m.findtext('name'))}\n" + "\n".join(b.removeprefix(".PP\n") for b in book.described(m)) for m in macros))
    types = [n for n, m in members.items() if m.get("kind") in ("typedef", "enum")]
    structs = [name for name in book.structs if book.header[name] == header]
    other = [page_ for page_ in HEADERS.values() if page_ != own]
    page.section("SEE ALSO", ",\n".join(f".BR {escape(n)} (3)" for n in sorted({*types, *structs, *other})))
    return page


def main() -> int:
    xml, folder = map(Path, sys.argv[1:])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    book = Reference(xml)
    since = versions()
    for name, member in book.members.items():
        kind = member.get("kind")
        if kind == "function":
            function_page(book, name, member, since.get(name)).write(folder)
        elif kind == "enum":
            enum_page(book, name, member).write(folder)
        elif kind == "typedef" and name not in book.structs:
            type_page(book, name, member).write(folder)
    for name, struct in book.structs.items():
        struct_page(book, name, struct).write(folder)
    for header in HEADERS:
        header_page(book, header).write(folder)
    (folder / "libacme-micro.3").write_text(".so man3/acme-micro.3\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
