"""What docs/ and the README show is what the service answers: each request on a page is sent, and each answer compared. transcripts.py says how they are written."""

import re
import uuid
from pathlib import Path

import pytest
from test_openapi import document, operations
from transcripts import Differs, Names, Shell, compare, play, steps

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGES = sorted((ROOT / "docs").glob("*.md"))
# Printed by the program, and compared with it where deployments are tested.
PRINTED = ROOT / "docs" / "configuration.md"
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("page", [README, *(page for page in PAGES if page != PRINTED)], ids=lambda page: page.name)
def test_every_answer_on_a_page_is_the_service_s(cluster, page):
    text = page.read_text()
    assert any(step.answer for step in steps(text)), f"{page.name} has no example"
    names = Names(f"-{uuid.uuid4().hex[:8]}")
    differences = []
    with Shell(*cluster.place) as shell:
        for step, difference, _ in play(text, shell, names):
            if difference:
                differences.append(f"{page.name}:{step.line}: {step.command or 'the stream'}\n{difference}")
                # What follows builds upon it.
                break
    assert not differences, "\n\n".join(differences)


def test_there_are_pages_and_the_readme_links_all_of_them():
    assert PAGES
    _, _, after = README.read_text().partition("\n## Documentation\n")
    linked = LINK.findall(after.partition("\n## ")[0])
    assert sorted(ROOT / link for link in linked if link.startswith("docs/")) == PAGES


@pytest.mark.parametrize("page", [README, *(page for page in PAGES if page != PRINTED)], ids=lambda page: page.name)
def test_no_link_of_a_page_is_broken(page):
    links = [link for link in LINK.findall(page.read_text()) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_route_has_an_example():
    commands = [step.command for page in PAGES for step in steps(page.read_text()) if step.command]
    asked = {request for command in commands for request in requests_of(command)}
    missing = [
        f"{method} {path}"
        for method, path, operation in operations()
        if operation["tags"] != ["demo"] and not any(method == sent and re.fullmatch(template(path), target) for sent, target in asked)
    ]
    assert missing == []


def test_every_code_is_explained():
    page = (ROOT / "docs/errors-and-limits.md").read_text()
    codes = [code.removeprefix("notifications_m.") for code in document()["components"]["schemas"]["ProblemCode"]["enum"]]
    assert [code for code in codes if f"`{code}`" not in page] == []


def requests_of(command):
    """Method and path of each curl in a command."""
    for part in re.split(r"\bcurl\b", command)[1:]:
        target = re.search(r"/(?:v1|health|metrics|openapi|client|console|socket\.io)\b[^\s\"'?]*", part)
        method = re.search(r"-X ?([A-Z]+)", part)
        if target:
            yield (method[1] if method else "POST" if re.search(r"\s(?:-d|--data-binary|--json|-T)\b", part) else "GET"), target[0]


def template(path):
    return re.sub(r"\\{[^}]*\\}", "[^/]+", re.escape(path))


# --- That the pages can fail ---------------------------------------------------------------------------------------------

ANSWER = '{"id":"01a1fc47-de4f-7ef5-b48c-94e25a4b3b19","title":"Hello","at":"2026-11-21T04:05:30.831Z","last_event_id":"1-4","unread":1}\n'


@pytest.mark.parametrize(
    "page",
    [
        ANSWER.strip(),
        ANSWER.strip().replace("01a1fc47", "ffffffff").replace("04:05:30.831", "23:59:59").replace("1-4", "9-9"),
        '{"id":"01a1fc47-de4f-7ef5-b48c-94e25a4b3b19","title":"Hello", … "unread":1}',
        '{"id":"01a1fc47-de4f-7ef5-b48c-94e25a4b3b19",\n  "title":"Hello","at":"2026-11-21T04:05:30.831Z",\n "last_event_id":"1-4","unread":1}',
        "…",
    ],
    ids=["the same", "other ids and times", "shortened", "in lines", "left out"],
)
def test_an_answer_that_is_the_same_but_for_its_shapes_passes(page):
    compare(page.split("\n"), ANSWER, Names("-x"))


@pytest.mark.parametrize(
    "page",
    [
        "",
        ANSWER.replace("Hello", "Hallo"),
        ANSWER.replace('"unread":1', '"unread":2'),
        ANSWER.replace("831Z", "831+00:00"),
        ANSWER.replace("01a1fc47-de4f-7ef5-b48c-94e25a4b3b19", "01a1fc47"),
        '{"id":"01a1fc47-de4f-7ef5-b48c-94e25a4b3b19","title":"Hallo", … "unread":1}',
        ANSWER + "\nand more",
    ],
    ids=["nothing", "a word", "a number", "the form of a time", "no id", "a word of a shortened one", "a line more"],
)
def test_an_answer_that_differs_fails(page):
    with pytest.raises(Differs):
        compare(page.strip().split("\n"), ANSWER, Names("-x"))


def test_one_id_of_a_page_is_not_two_of_the_service():
    one, two = str(uuid.uuid4()), str(uuid.uuid4())
    names = Names("-x")
    compare([one], one + "\n", names)
    with pytest.raises(Differs, match="before"):
        compare([one], two + "\n", names)
    with pytest.raises(Differs, match="before"):
        compare([two], one + "\n", names)


def test_a_command_that_prints_something_else_fails(cluster):
    page = "```console\n$ echo Hello,\\\n  alice\nHello, alice\n$ echo twice\nonce\n```\n"
    with Shell(*cluster.place) as shell:
        outcomes = [difference for _, difference, _ in play(page, shell, Names("-x"))]
    assert outcomes[0] is None and "once" in outcomes[1] and "twice" in outcomes[1]


def test_a_page_without_examples_has_none():
    assert steps("# A page\n\nWith words, and\n\n    $ an example that is not fenced\n") == []
