#!/usr/bin/env python3
"""Links in this repository's Markdown lead to files that exist, and to headings of these files."""

import re
import subprocess
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"!?\[[^\]]*\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)|^\[[^\]]+\]:\s*(\S+)", re.M)
FENCE = re.compile(r"^(```|~~~).*?^\1\s*$", re.M | re.S)


def pages():
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).exists()]


def links(text):
    text = re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))
    return [inline or reference for inline, reference in LINK.findall(text)]


def anchors(text):
    """The anchors of the headings, as GitHub makes them."""
    names, seen = set(), {}
    for title in re.findall(r"^#+\s+(.*?)\s*#*$", FENCE.sub("", text), re.M):
        title = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title)
        name = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        seen[name] = seen.get(name, -1) + 1
        names.add(name if seen[name] == 0 else f"{name}-{seen[name]}")
    return names | set(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", text))


def is_wrong(page, link):
    if re.match(r"[a-z][a-z0-9+.-]*:", link):
        return None
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.exists():
        return "is not there"
    if ROOT not in (target, *target.parents):
        return "is outside of the repository"
    if anchor and target.suffix == ".md" and anchor not in anchors(target.read_text()):
        return "has no such heading"
    return None


class Links(unittest.TestCase):
    def test_lead_somewhere(self):
        found = [(page, link) for page in pages() for link in links(page.read_text())]
        self.assertGreater(len(found), 30)
        wrong = [
            f"{page.relative_to(ROOT)}: {link} {reason}"
            for page, link in found
            if (reason := is_wrong(page, link))
        ]
        self.assertEqual(wrong, [])

    def test_what_is_wrong_is_seen(self):
        page = ROOT / "README.md"
        text = "[a](docs/abi.md) [b](docs/none.md) [c](#try-it)\n[d](#none) [e](../x)\n[f]: gone.md\n`[g](x)`"
        self.assertEqual(
            [link for link in links(text) if is_wrong(page, link)],
            ["docs/none.md", "#none", "../x", "gone.md"],
        )


if __name__ == "__main__":
    unittest.main()
