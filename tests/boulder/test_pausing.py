"""Accounts that Boulder has paused for some names: the person gets the page that lifts the pause."""

from __future__ import annotations

import re
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from conftest import env
from people import Person, dns, domains


LINK = re.compile(r"https://\S+/unpause\?jwt=[\w.-]+")


def pause(person: Person, names: list[str], folder: Path) -> None:
    """Pauses names with Boulder's own command, as its staff do."""
    _, number = person.account()
    batch = folder / "paused.csv"
    batch.write_text("".join(f"{number},dns,{name}\n" for name in names))
    program, configuration = env("BOULDER_ADMIN").split()
    done = subprocess.run(
        [program, "-config", configuration, "-dry-run=false", "pause-identifier", "-batch-file", str(batch)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def unpause(help_url: str) -> str:
    """Does the steps of a person in a browser; returns the text of the last page."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    parts = urllib.parse.urlsplit(help_url)
    page = f"{env('BOULDER_SFE')}{parts.path}?{parts.query}"
    with opener.open(page, timeout=10) as answer:
        form = re.search(r'<form action="([^"]+)" method="POST">', answer.read().decode()).group(1)
    button = urllib.request.Request(env("BOULDER_SFE") + form.replace("&amp;", "&"), b"", method="POST")
    with opener.open(button, timeout=10) as answer:
        return answer.read().decode()


@pytest.mark.parametrize("count", [1, 12, 15])
def test_the_link_that_lifts_the_pause_is_whole(person, web, tmp_path, count):
    names = [f"host-{number:02}.paused-{count}.example.com" for number in range(count)]
    pause(person, names, tmp_path)
    obtaining = person.obtaining(*domains(*names), *web.options)

    run = person.runs(*obtaining, "--json", status=6)

    error = run.json["error"]
    assert error["kind"] == "rate-limited"
    (link,) = LINK.findall(error["problem"]["detail"])
    assert error["help_url"] == link
    # The link appears once: the hint has it if the message was truncated.
    assert (link in error["message"]) != (link in error.get("hint", ""))
    # Each response has its own link. The link that the person sees works as well.
    link = LINK.findall(person.runs(*obtaining, status=6).err)[-1]
    assert "successfully unpaused" in unpause(link).lower()
    person.runs(*obtaining)
    person.check(names[0], dns(*names))
