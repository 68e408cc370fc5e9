#!/usr/bin/env python3
"""The C reference is complete: each exported function has a man page and an HTML entry with every parameter,
its result and an example that is compiled and run; and the pages are well-formed."""

import os
import re
import subprocess
import sys
import tempfile
import unittest
from html.parser import HTMLParser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs/reference"))
import snippets  # noqa: E402

MAN3 = ROOT / "target/man/man3"
HTML = ROOT / "target/doc/c"
# Links of the tools to pages that do not exist: Doxygen's to private classes, rustdoc's to other crates.
IN_VAIN = r"^#nested-classes$|^(\.\./)+trait\.impl/"
EXPORTED = set(snippets.versions())
DECLARED = snippets.declarations("acme_micro.h", "acme_micro_openssl.h")


def said(*command, **more):
    return subprocess.run(command, capture_output=True, text=True, **more)


def sections(page):
    """The sections of a man page, by name."""
    parts = re.split(r"^\.SH (.*)\n", (MAN3 / f"{page}.3").read_text(), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2]))


def warnings(*pages):
    """The warnings of mandoc and groff about the pages."""
    judged = said("mandoc", "-T", "lint", "-W", "warning", *pages, cwd=MAN3.parent)
    printed = said("groff", "-mandoc", "-ww", "-z", "-Tutf8", "-Kutf8", "-rLL=80n", *pages, cwd=MAN3.parent)
    return judged.stdout + judged.stderr + printed.stdout + printed.stderr


class Functions(unittest.TestCase):
    def test_the_header_declares_what_the_library_exports(self):
        self.assertEqual(set(snippets.declarations("acme_micro.h")), EXPORTED)
        self.assertGreater(len(EXPORTED), 90)

    def test_each_has_an_example(self):
        self.assertEqual(DECLARED.keys() - snippets.examples().keys(), set())

    def test_each_has_a_man_page(self):
        for name, declaration in DECLARED.items():
            with self.subTest(name):
                found = sections(name)
                self.assertIn(f"{name} \\- ", found["NAME"])
                self.assertEqual(found["NAME"].count("("), found["NAME"].count(")"), found["NAME"])
                shown = re.sub(r"\s+", "", re.sub(r"\\f[BP]", "", found["SYNOPSIS"]))
                self.assertIn(re.sub(r"\s+", "", declaration).replace("(void)", "("), shown.replace("(void)", "("))
                parameters = re.findall(r"(\w+)(?=[,)])", declaration.partition("(")[2])
                described = re.findall(r"^\.TP\n\\fI(\w+)\\fP\n.+", found.get("PARAMETERS", ""), re.M)
                self.assertEqual(described, [p for p in parameters if p != "void"])
                self.assertEqual("RETURN VALUE" in found, not declaration.startswith("void acme"))
                self.assertIn(f"{name}(", found["EXAMPLE"])
                self.assertEqual("Added in" in found.get("AVAILABILITY", ""), name in EXPORTED)
                self.assertIn(".BR acme", found["SEE ALSO"])

    def test_man_finds_them(self):
        pages = [*DECLARED, "acme-micro", "libacme-micro", "acme_order_options_t", "acme_status_t", "acme_op_t"]
        for name in pages:
            found = said("man", "-M", str(MAN3.parent), "-w", name)
            self.assertEqual((found.returncode, Path(found.stdout.strip()).stem.lstrip("lib")),
                             (0, name.lstrip("lib")), found.stderr)  # fmt: skip
        page = said("man", "-M", str(MAN3.parent), "libacme-micro", env={**os.environ, "LC_ALL": "C.UTF-8"})
        self.assertIn("acme_obtain(3)", page.stdout)

    def test_each_is_in_the_html_with_its_example(self):
        for header, file in {"acme_micro.h": "acme__micro_8h", "acme_micro_openssl.h": "acme__micro__openssl_8h"}.items():
            page = (HTML / f"{file}.html").read_text()
            entries = re.split(r'<h2 class="memtitle">', page)
            for name in snippets.declarations(header):
                with self.subTest(name):
                    entry = [e for e in entries if f"{name}()</h2>" in e]
                    self.assertEqual(len(entry), 1)
                    self.assertRegex(entry[0], r"<dt>Example</dt><dd>.*<div class=\"line\">")


class Pages(unittest.TestCase):
    def test_without_warnings(self):
        pages = [f"man3/{page.name}" for page in MAN3.glob("*.3") if page.name != "libacme-micro.3"]
        self.assertGreater(len(pages), 130)
        self.assertEqual(warnings(*pages), "")

    def test_what_is_wrong_is_seen(self):
        for wrong in (".XX\n", ".TP\n.SH NEXT\n", "\\fQtext\n"):
            with tempfile.NamedTemporaryFile("w", suffix=".3", dir=MAN3.parent) as page:
                page.write((MAN3 / "acme_obtain.3").read_text() + wrong)
                page.flush()
                self.assertNotEqual(warnings(page.name), "", wrong)

    def test_refer_to_pages_that_are_there(self):
        there = {page.stem for page in MAN3.glob("*.3")}
        for page in MAN3.glob("*.3"):
            text = page.read_text()
            named = re.findall(r"\\fB([\w\\-]+)\\fP\(3\)|^\.BR (\S+) \(3\)", text, re.M)
            named = {(a or b).replace("\\", "") for a, b in named}
            self.assertEqual(named - there, set(), page.name)
            self.assertIn("SEE ALSO" if page.stem != "libacme-micro" else ".so", text)

    def test_each_type_has_one(self):
        header = (ROOT / "include/acme_micro.h").read_text()
        types = set(re.findall(r"\b(acme_\w+_(?:t|fn))\b", header))
        self.assertEqual({name for name in types if not (MAN3 / f"{name}.3").exists()}, set())
        for members, name in re.findall(r"typedef struct \{\n(.*?)\n\} (\w+);", header, re.S):
            code = re.sub(r"^ *//.*\n", "", members, flags=re.M)
            listed = re.findall(r"^\\fI(\w+)\\fP\n.+", sections(name)["MEMBERS"], re.M)
            self.assertEqual(listed, re.findall(r"(\w+);", code), name)


class Document(HTMLParser):
    def __init__(self, path):
        super().__init__()
        self.links, self.anchors = [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("href", "src") and value:
                self.links.append(value)
            if name == "id" or (tag == "a" and name == "name"):
                self.anchors.add(value)


class Html(unittest.TestCase):
    maxDiff = None

    def test_links_lead_somewhere(self):
        doc = ROOT / "target/doc"
        paths = [doc / "index.html"]
        for folder in ("c", "cpp", "python", "acme_micro"):
            paths += (doc / folder).rglob("*.html")
        documents = {path: Document(path) for path in paths}
        self.assertGreater(sum(len(document.links) for document in documents.values()), 10_000)
        wrong = []
        for path, document in documents.items():
            for link in document.links:
                if re.match(r"[a-z]+:|//", link) or re.search(IN_VAIN, link):
                    continue
                file, _, anchor = link.partition("#")
                target = Path(os.path.normpath(path.parent / file.partition("?")[0])) if file else path
                # rustdoc's script makes the anchors in pages of sources.
                if not target.exists() or (
                    anchor and target in documents and anchor not in documents[target].anchors
                    and "acme_micro" not in target.relative_to(doc).parts[0]
                ):  # fmt: skip
                    wrong.append(f"{path.relative_to(doc)}: {link}")
        self.assertEqual(wrong[:20], [])

    def test_the_index_links_each_language(self):
        links = Document(ROOT / "target/doc/index.html").links
        self.assertEqual({link.split("/")[0] for link in links}, {"c", "cpp", "python", "acme_micro"})


if __name__ == "__main__":
    unittest.main()
