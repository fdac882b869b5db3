"""Drives the report of an evaluation in headless Chromium. See Deploy/checks/table."""

import argparse
import json
import pathlib
import shutil
import sys
import tempfile
import urllib.parse

import looks
from browser import Browser, BrowserError
from scene import CheckFailure, expect, expect_equal

CHOOSE = """
const [id, value] = arguments;
document.getElementById(id).value = value;
document.getElementById(id).dispatchEvent(new Event(id === "find" ? "input" : "change", { bubbles: true }));
return document.getElementById(id).value;"""
# What an answer shows: whose it is, the verdict, its text, and who decided each run of tokens.
ANSWERS = """
return $$("#shown article").map((article) => ({
  method: $("h3", article).textContent, verdict: $("p", article).textContent, text: $(".text", article).textContent,
  spans: $$(".text span", article).map((span) => ({
    expert: span.title, text: span.textContent,
    look: ((s) => `${s.backgroundColor} ${s.textDecorationLine} ${s.textDecorationStyle}`)(getComputedStyle(span)) })) }));"""


class Report:
    def __init__(self, page, folder, axe, shots):
        self.page, self.axe, self.shots = page, axe, shots
        self.url = (folder / "report.html").as_uri()
        self.summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        self.reference = self.summary["reference"]
        self.experts = self.summary["experts"]
        # By method and prompt, as the file of answers has them.
        self.records = {}
        with open(folder / "results.jsonl", encoding="utf-8") as file:
            for line in map(json.loads, file):
                self.records.setdefault(line["method"], {})[line["id"]] = line

    def choose(self, **values):
        for name, value in values.items():
            expect_equal(self.page.run(CHOOSE, name, value), value, f"what {name} offers")

    def count(self):
        """How many prompts are listed, as the page says."""
        return int(self.page.run("return $('#count').textContent").split()[0])

    def passes(self, method, identifier):
        """Whether a method, or any expert (`*`), is right on a prompt; None where it has no answer."""
        names = self.experts if method == "*" else [method]
        found = [self.records.get(name, {}).get(identifier) for name in names]
        found = [record["passed"] for record in found if record]
        return any(found) if found else None

    def fitting(self, task, other, show):
        """Prompts that the page must list."""
        wanted = set()
        for record in self.records[self.reference].values():
            own, theirs = record["passed"], self.passes(other, record["id"]) if other else None
            # Blanks and the end of the text, which any expert would write, count for nobody.
            shown = zip(record["tokens"], record["decided_by"])
            deciders = {by for token, by in shown if by is not None and token.strip()}
            fits = {
                "": True,
                "right": own,
                "wrong": not own,
                "several": own and len(deciders) > 1,
                "won": own and theirs is False,
                "lost": not own and theirs is True,
                "both": own and theirs is True,
                "neither": not own and theirs is False,
            }[show]
            if fits and task in ("", record["task"]):
                wanted.add(record["id"])
        return wanted


def looks_right(report):
    for dark in (False, True):
        report.page.emulate(dark=dark)
        looks.check_palette(report.page, "dark" if dark else "light")
        looks.check_axe(report.page, report.axe, "dark report" if dark else "light report")
    if report.shots:
        report.page.screenshot(f"{report.shots}/report-dark.png")
    report.page.emulate(width=360, height=740, phone=True, scale=2)
    looks.check_width(report.page, 360, beside=".wide")
    report.page.emulate()


def every_row_is_there(report):
    rows = [row["method"] for row in report.summary["methods"]]
    shown = report.page.run("return $$('.wide tbody th').map((cell) => cell.textContent)")
    expect(set(rows) <= set(shown), f"rows without a line: {set(rows) - set(shown)}")
    shown = report.page.run("return $$('#with option').map((option) => option.value)")
    expect(set(shown) - {"", "*"} <= set(rows), f"the page compares with {shown}")
    expect({"*", *report.experts} <= set(shown), f"the page does not compare with the experts: {shown}")
    return f"{len(rows)} rows"


def filters_agree_with_the_answers(report):
    tried = 0
    tasks = ["", *report.summary["tasks"]]
    others = [name for name in ("no-complement", "per-prompt", "collab", "*") if name == "*" or name in report.records]
    for task in tasks:
        report.choose(task=task)
        for other in ["", *others]:
            report.choose(show="", **{"with": other})
            for show in ["", "right", "wrong", "several", *(["won", "lost", "both", "neither"] if other else [])]:
                report.choose(show=show)
                wanted = report.fitting(task, other, show)
                listed = report.page.run("return $$('#prompt option').map((option) => option.textContent)")
                expect_equal(len(listed), len(set(listed)), "prompts without those that are listed twice")
                expect_equal(set(listed) ^ wanted, set(), f"prompts of {task, other, show} that should (not) be listed")
                expect_equal(report.count(), len(wanted), f"the count of {task, other, show}")
                tried += 1
    report.choose(task="", show="", **{"with": ""})
    return f"{tried} choices"


def links_lead_to_what_they_count(report):
    links = report.page.run("return $$(\"a[href^='#task=']\").map((a) => [a.getAttribute('href'), a.textContent])")
    expect(len(links) > 20, f"there are only {len(links)} links from the table to answers")
    for target, text in links:
        report.page.run("location.hash = arguments[0]", target)
        asked = {name: values[0] for name, values in urllib.parse.parse_qs(target[1:]).items()}
        shown = report.page.wait(
            f"{target} is shown",
            """
            const shown = Object.fromEntries(["task", "with", "show"].map((id) => [id, document.getElementById(id).value]));
            return Object.entries(arguments[0]).every(([id, value]) => shown[id] === value) && $("#count").textContent;""",
            asked,
        )
        expect_equal(shown.split()[0], text, f"prompts behind {target}")
    # With the mouse, from the top of the page.
    report.page.run("scrollTo(0, 0)")
    report.page.click("a[href^='#task=']")
    report.page.wait("the answers are in sight", "return $('#answers').getBoundingClientRect().top < innerHeight")
    return f"{len(links)} links"


def answers_are_coloured(report):
    """A right answer that several experts decided: every run of tokens has the look of its expert."""
    report.page.run("location.hash = ''")
    report.choose(task="mixed", show="several", **{"with": "no-complement"})
    identifier = report.page.run("return $('#prompt').selectedOptions[0].textContent")
    shown = report.page.run(ANSWERS)
    expect_equal([answer["method"] for answer in shown[:2]], [report.reference, "no-complement"], "who stands first")
    wanted = {name for name, answers in report.records.items() if identifier in answers}
    expect(wanted <= {answer["method"] for answer in shown}, f"answers to {identifier} are missing")
    seen = {}
    for answer in shown:
        record = report.records.get(answer["method"], {}).get(identifier)
        if record is None:
            # The oracle's is another row's.
            continue
        expect_equal(answer["text"], "".join(record["tokens"]) or record["text"], f"{answer['method']}'s answer")
        expect("✓ right" in answer["verdict"] if record["passed"] else "✗ wrong" in answer["verdict"], answer["verdict"])
        runs = []
        for token, by in zip(record["tokens"], record["decided_by"]):
            name = record["experts"][by] if by is not None else ""
            if runs and runs[-1][0] == name:
                runs[-1][1] += token
            else:
                runs.append([name, token])
        if record["tokens"]:
            found = [[span["expert"], span["text"]] for span in answer["spans"]]
            expect_equal(found, runs, f"who decided {answer['method']}'s tokens")
        for span in answer["spans"]:
            seen.setdefault(span["expert"], set()).add(span["look"])
    named = {name: each for name, each in seen.items() if name}
    expect(len(named) > 1, f"all answers to {identifier} are by one expert")
    expect(all(len(each) == 1 for each in named.values()), f"an expert has two looks: {named}")
    expect_equal(len(set().union(*named.values())), len(named), "looks of as many experts")
    if report.shots:
        report.page.run("$('#answers').scrollIntoView()")
        report.page.screenshot(f"{report.shots}/report-answers.png")
    return identifier


def prompts_can_be_leafed_through(report):
    listed = report.page.run("return $$('#prompt option').map((option) => option.textContent)")
    current = "return $('#prompt').selectedOptions[0].textContent"
    report.page.click("#before")
    expect_equal(report.page.run(current), listed[-1], "before the first")
    report.page.click("#after")
    expect_equal(report.page.run(current), listed[0], "after the last")
    report.page.click("#after")
    expect_equal(report.page.run(current), listed[1], "after the first")
    # The address leads back to it.
    address = report.page.run("return location.href")
    report.page.open("about:blank")
    report.page.open(address)
    expect_equal(report.page.run(current), listed[1], "what the address leads to")
    report.choose(task="", show="", find=listed[1], **{"with": ""})
    expect_equal(report.count(), 1, f"prompts that contain {listed[1]}")
    report.choose(find="no prompt contains these words")
    expect_equal(report.page.run("return $('#shown').textContent"), "No such prompt.", "nothing found")
    report.choose(find="")
    return f"{len(listed)} prompts"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path, help="of the evaluation")
    parser.add_argument("--axe", required=True, help="axe.min.js")
    parser.add_argument("--screenshots", help="where to put pictures")
    options = parser.parse_args()
    folder, page, succeeded = tempfile.mkdtemp(prefix="fusionroute-report-"), None, False
    try:
        page = Browser(folder)
        axe = pathlib.Path(options.axe).read_text(encoding="utf-8")
        report = Report(page, options.folder.resolve(), axe, options.screenshots)
        page.emulate()
        # Those of Chromium's own first page.
        page.requests()
        page.all_requests.clear()
        page.open(report.url)
        for check in (
            looks_right,
            every_row_is_there,
            filters_agree_with_the_answers,
            links_lead_to_what_they_count,
            answers_are_coloured,
            prompts_can_be_leafed_through,
        ):
            said = check(report)
            print(f"  {check.__name__}{f': {said}' if said else ''}", flush=True)
        expect_equal([message["message"] for message in page.console()], [], "messages in the console")
        page.requests()
        elsewhere = {url for url in page.all_requests if not url.startswith((report.url, "about:", "data:"))}
        expect_equal(elsewhere, set(), "what the report asked for")
        succeeded = True
    except (CheckFailure, BrowserError) as failure:
        print(f"FAILED: {failure}", file=sys.stderr)
        if page and page.session:
            page.screenshot(f"{folder}/failed.png")
            print(f"the report then: {folder}/failed.png", file=sys.stderr)
    finally:
        if page:
            page.close()
        if succeeded:
            shutil.rmtree(folder, ignore_errors=True)
    return 0 if succeeded else 1


if __name__ == "__main__":
    sys.exit(main())
