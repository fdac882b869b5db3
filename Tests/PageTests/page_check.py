"""Drives the page at `/` of a real cluster in headless Chromium. See Deploy/checks/page."""

import argparse
import json
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time

import looks
from browser import Browser, BrowserError
from cluster import EXPERTS, Cluster, demo_models, make_models
from fixtures import SITE, TYPES, Fixtures
from scene import CheckFailure, expect, expect_equal, score

MODES = ["fusionroute", "fusionroute:no-complement", "fusionroute:router", *(f"fusionroute:expert:{e}" for e in EXPERTS)]
SEED = 7


class Check:
    def __init__(self, page, cluster, shots, real):
        self.page, self.cluster, self.shots, self.real = page, cluster, shots, real
        self.prompt = "Why is the sky blue?" if real else "What is a river?"

    def shoot(self, name):
        if self.shots:
            self.page.screenshot(os.path.join(self.shots, f"{name}.png"))

    # What the person does.

    def open(self):
        self.page.open(self.cluster.url)
        self.page.wait("the modes are listed", "return document.querySelectorAll('#set-model option').length > 1")
        self.page.wait("the cluster's state is shown", "return document.querySelector('#cluster .replica')")

    def set(self, name, value):
        self.page.run("""
          const field = document.getElementById(`set-${arguments[0]}`);
          field.value = arguments[1];
          field.dispatchEvent(new Event("input", { bubbles: true }));
          field.dispatchEvent(new Event("change", { bubbles: true }));""", name, str(value))

    def ask(self, text, *keys):
        self.page.click("#prompt")
        self.page.write(text)
        self.page.type(*(keys or ("enter",)))

    def finish(self, seconds=180):
        self.page.wait("the answer ended", "return document.querySelector('#send').checkVisibility()", seconds=seconds)

    def last(self, script):
        """Runs `script` with `turn`, the last question and its answer."""
        return self.page.run("const turn = [...document.querySelectorAll('.turn')].at(-1);" + script)

    def answer_of_api(self, model, messages, tokens, **more):
        return self.cluster.post("v1/chat/completions", {
            "model": model, "messages": messages, "max_tokens": tokens, "temperature": 0.7, "top_p": 1, "seed": SEED,
            "logprobs": True, "top_logprobs": 5, "fusionroute": {"alternatives": 5}, **more})

    # What must hold.

    def files(self):
        for file in sorted(SITE.iterdir()):
            path = "" if file.name == "index.html" else f"page/{file.name}"
            status, headers, body = self.cluster.get(path)
            expect_equal(status, 200, file.name)
            expect(body == file.read_bytes(), f"{file.name} in the program is not the one in the sources")
            expect(headers["content-type"].startswith(TYPES[file.suffix]), f"{file.name} is {headers['content-type']}")
            policy = headers.get("content-security-policy", "")
            expect("default-src 'none'" in policy and "unsafe" not in policy, f"{file.name} has the policy {policy!r}")
            expect_equal(headers.get("x-content-type-options"), "nosniff", file.name)
            status, _, body = self.cluster.get(path, {"if-none-match": headers["etag"]})
            expect_equal((status, body), (304, b""), f"{file.name} that the browser has already")
        for path in ("page/none.js", "page/..%2findex.html", "page/"):
            expect_equal(self.cluster.get(path)[0], 404, path)

    def first_answer(self):
        """Streams, in colours; the text and the numbers are the API's."""
        self.open()
        self.page.run("document.getElementById('tab-settings').click()")
        tokens = 180 if self.real else 90
        for name, value in (("seed", SEED), ("maxTokens", tokens), ("temperature", 0.7)):
            self.set(name, value)
        self.page.run("document.getElementById('tab-cluster').click()")
        self.shoot("welcome")
        self.ask(self.prompt)
        self.page.wait("tokens stream", """
          return document.querySelectorAll('.t').length > 10 && document.querySelector('#stop').checkVisibility()""")
        self.shoot("streaming")
        self.finish()
        seen = self.last("""
          const styles = [...turn.querySelectorAll(".t")].map((t) => getComputedStyle(t));
          return {
            backs: [...new Set(styles.map((s) => s.backgroundColor))],
            marks: [...new Set(styles.map((s) => `${s.textDecorationLine} ${s.textDecorationStyle}`))],
            text: turn.querySelector(".text").textContent,
            legend: [...turn.querySelectorAll(".chip")].map((c) => [c.querySelector(".tag").textContent, parseInt(c.querySelector(".number").textContent.replace(/,/g, ""))]),
            strip: turn.querySelector("canvas.strip").checkVisibility(),
            stats: turn.querySelector(".stats").textContent,
          };""")
        expect(len(seen["backs"]) >= 2, f"the tokens have the colours {seen['backs']}")
        expect_equal(len(seen["marks"]), len(seen["backs"]), f"kinds of underline {seen['marks']}")
        expect(seen["strip"], "there is no strip of routing weights")
        self.api = self.answer_of_api("fusionroute", [{"role": "user", "content": self.prompt}], tokens)
        expect_equal(seen["text"], self.api["choices"][0]["message"]["content"], "streamed text")
        counts = {name: n for name, n in self.api["fusionroute"]["tokens_per_expert"].items() if n > 0}
        expect_equal(dict(seen["legend"]), counts, "legend")
        expect(f"seed {SEED}" in seen["stats"] and "tokens/s" in seen["stats"], f"facts: {seen['stats']}")
        return f"{self.api['usage']['completion_tokens']} tokens by {counts}"

    def card(self):
        """Points at tokens: the card has the API's numbers."""
        tokens = self.api["choices"][0]["fusionroute"]["tokens"]
        logprobs = self.api["choices"][0]["logprobs"]["content"]
        for index in (3, 11, len(tokens) // 2):
            self.page.unhover()
            self.page.run("[...document.querySelectorAll('.t')].find((t) => t.dataset.i === arguments[0]).scrollIntoView({ block: 'center' })", str(index))
            self.page.hover(f".t[data-i='{index}']")
            shown = self.page.wait("the card opens", """
              const card = document.getElementById("card");
              return !card.hidden && {
                expert: card.querySelector("header .tag").textContent,
                scores: [...card.querySelectorAll(".scores dd")].map((d) => d.textContent),
                weights: [...card.querySelectorAll(".weights tr")].map((r) => [r.querySelector(".tag").textContent, r.lastElementChild.textContent, parseFloat(r.querySelector(".fill").style.width)]),
                runners: card.querySelectorAll(".runners tbody tr").length,
              };""")
            token = tokens[index]
            expect_equal(shown["expert"], token["expert"], f"expert of token {index}")
            expect_equal(shown["scores"][1:], [score(logprobs[index]["logprob"]), *(score(token[k]) for k in ("logit", "router_logit", "expert_logit"))], f"scores of token {index}")
            expect_equal([w[:2] for w in shown["weights"]], [[e, score(w, 2)] for e, w in zip(EXPERTS, token["weights"])], f"weights of token {index}")
            expect(abs(sum(w[2] for w in shown["weights"]) - 100) < 0.1, f"bars of token {index}: {shown['weights']}")
            expect_equal(shown["runners"], 5, f"runners-up of token {index}")
            expect(abs(token["router_logit"] + token["expert_logit"] - token["logit"]) < 2e-3, f"token {index} is not the sum of both logits")
        time.sleep(0.2)
        self.shoot("light")
        self.page.unhover()
        self.page.wait("the card closes", "return document.getElementById('card').hidden")

    def keyboard(self):
        page = self.page
        focus = "const e = document.activeElement; const index = e.classList.contains('t') ? Number(e.dataset.i) : null;"
        page.run("document.querySelector('.chip').focus()")
        for _ in range(8):
            page.type("tab")
            if page.run(focus + "return index") is not None:
                break
        expect_equal(page.run(focus + "return index"), 0, "Tab leads to the first token")
        expect(page.run("return getComputedStyle(document.activeElement).outlineStyle !== 'none'"), "the focus is not seen")
        page.type("right", "right", "right", "left")
        expect_equal(page.run(focus + "return index"), 2, "arrow keys lead")
        expect(page.run("return !document.getElementById('card').hidden"), "focus opens no card")
        page.wait("the token is spoken", "return /token 3 of/.test(document.getElementById('live').textContent)", seconds=5)
        page.type("end")
        last = page.run(focus + "return index")
        expect_equal(last, page.run("return Math.max(...[...document.querySelectorAll('.t')].map((t) => +t.dataset.i))"), "End leads")
        page.type("home", "down")
        line = page.run(focus + "return [index, e.getBoundingClientRect().top > document.querySelector('.t').getBoundingClientRect().top]")
        expect(line[0] > 0 and line[1], f"arrow down leads to {line}")
        page.type("up")
        expect_equal(page.run(focus + "return index"), 0, "arrow up leads back")
        page.type(("shift", "right"))
        experts = page.run(focus + "return [document.querySelector('.t').className, e.className]")
        expect(experts[0] != experts[1], "Shift and arrow lead to the same expert")
        page.type("enter")
        expect(page.run("return document.getElementById('card').classList.contains('pinned')"), "Enter keeps no card")
        page.type("escape")
        expect(page.run("return document.getElementById('card').hidden"), "Esc closes no card")
        page.run("document.querySelector('canvas.strip').focus()")
        page.type("home", "right", "right")
        expect_equal(page.run("return document.activeElement.ariaValueNow"), "3", "the strip's arrow keys lead")
        page.type("enter")
        expect_equal(page.run(focus + "return index"), 2, "the strip leads to its token")
        page.type("escape")
        # Chips light up one expert's tokens.
        page.run("document.querySelector('.chip').focus()")
        page.type("enter")
        dimmed = page.run("return [document.querySelectorAll('.t.on').length, document.querySelectorAll('.t').length, document.querySelector('.chip').ariaPressed]")
        expect(0 < dimmed[0] < dimmed[1] and dimmed[2] == "true", f"highlighted: {dimmed}")
        page.type("enter")
        expect_equal(page.run("return document.querySelectorAll('.filtered').length"), 0, "highlighting ends")

    def conversation(self):
        """A second question with the first as its history; hostile text; again, edit, undo, new chat."""
        page = self.page
        page.requests()
        hostile = "<img src=x onerror=document.title='broken'> & <b>bold</b>"
        self.set("maxTokens", 12)
        self.ask(hostile, ("control", "enter"))
        self.finish()
        expect_equal(self.last("return turn.querySelector('.prompt').textContent"), hostile, "the prompt's text")
        expect_equal(page.run("return [document.title, document.querySelectorAll('#log img').length]"), ["FusionRoute", 0], "markup in a prompt")
        history = [{"role": "user", "content": self.prompt}, {"role": "assistant", "content": self.api["choices"][0]["message"]["content"]},
                   {"role": "user", "content": hostile}]
        expect_equal(self.last("return turn.querySelector('.text').textContent"),
                     self.answer_of_api("fusionroute", history, 12)["choices"][0]["message"]["content"], "an answer with history")
        before = self.last("return turn.querySelector('.text').textContent")
        page.run("[...document.querySelectorAll('.turn')].at(-1).querySelector('.answer [aria-label=\"Answer again\"]').click()")
        page.wait("it answers again", "return document.querySelector('#stop').checkVisibility() || document.querySelectorAll('.answer.ended').length === 2")
        self.finish()
        expect_equal(self.last("return turn.querySelector('.text').textContent"), before, "the same seed again")
        # Edit the first question: the second goes, and comes back.
        page.run("document.querySelector('[aria-label=\"Edit and ask again\"]').click()")
        page.run("document.querySelector('textarea.edit').value = 'Count to three.'")
        page.type("enter")
        page.wait("one question is left", "return document.querySelectorAll('.turn').length === 1 && document.querySelector('.prompt').textContent === 'Count to three.'")
        self.finish()
        page.click("#toast button")
        expect_equal(page.run("return [...document.querySelectorAll('.prompt')].map((p) => p.textContent)"), [self.prompt, hostile], "undo")
        page.devtools("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"], origin=self.cluster.url.rstrip("/"))
        page.run("document.querySelector('.answer [aria-label=\"Copy the answer\"]').click()")
        page.wait("the answer is copied", "return /copied/.test(document.getElementById('toast').textContent)")
        expect_equal(page.run_async("return navigator.clipboard.readText()"), history[1]["content"], "copied text")
        page.click("#new-chat")
        expect(page.run("return document.querySelectorAll('.turn').length === 0 && document.querySelector('#welcome').checkVisibility()"), "a new chat is not empty")
        page.run("document.getElementById('toast').hidden = true")

    def stop(self):
        page = self.page
        cancelled = lambda: json.loads(self.cluster.get("fusionroute/status")[2])["requests"]["cancelled"]
        before = cancelled()
        self.set("maxTokens", 1500)
        self.ask(self.prompt)
        page.wait("tokens stream", "return document.querySelectorAll('.t').length > 5")
        page.type("escape")
        self.finish(seconds=20)
        expect_equal(self.last("return turn.querySelector('.notice.stopped p').textContent"), "Stopped.", "what a stopped answer says")
        deadline = time.monotonic() + 20
        while cancelled() == before:
            expect(time.monotonic() < deadline, "the cluster still answers what was stopped")
            time.sleep(0.1)
        page.click("#new-chat")
        page.run("document.getElementById('toast').hidden = true")

    def settings(self):
        page = self.page
        page.click("#show-settings")
        for name, bad in (("temperature", "9"), ("maxTokens", "0"), ("topP", "-1")):
            before = page.run("return document.getElementById(arguments[0]).value", f"set-{name}")
            page.run("const f = document.getElementById(arguments[0]); f.value = arguments[1]; f.dispatchEvent(new Event('input'))", f"set-{name}", bad)
            expect_equal(page.run("return document.getElementById(arguments[0]).getAttribute('aria-invalid')", f"set-{name}"), "true", name)
            page.run("document.getElementById(arguments[0]).dispatchEvent(new Event('change'))", f"set-{name}")
            expect_equal(page.run("return document.getElementById(arguments[0]).value", f"set-{name}"), before, f"{name} goes back")
        self.shoot("settings")
        page.click("#show-cluster")

    def compare(self):
        page = self.page
        tokens = 60 if self.real else 30
        self.set("maxTokens", tokens)
        page.click("#compare")
        self.ask(self.prompt)
        self.finish(seconds=300)
        shown = self.last("""
          return {
            rows: [...turn.querySelectorAll(".compare-table tbody tr")].map((r) => [...r.children].map((c) => c.textContent)),
            texts: [...turn.querySelectorAll(".column .text")].map((t) => t.textContent),
            routed: [...turn.querySelectorAll(".column")].map((c) => !c.querySelector(".strip-box").hidden),
          };""")
        expect_equal(len(shown["rows"]), len(MODES), "modes compared")
        for mode, row, text in zip(MODES, shown["rows"], shown["texts"]):
            api = self.answer_of_api(mode, [{"role": "user", "content": self.prompt}], tokens)
            expect_equal(text, api["choices"][0]["message"]["content"], f"text of {mode}")
            expect(re.fullmatch(r"[\d.,]+ (ms|s|µs)", row[2]) and re.fullmatch(r"[\d.,]+", row[3]) and re.search(r"\d", row[4]), f"timings of {mode}: {row}")
        expect_equal(shown["routed"], [True, True] + [False] * (len(MODES) - 2), "strips")
        page.run("document.querySelector('.turn').scrollIntoView({ block: 'start' })")
        time.sleep(0.1)
        self.shoot("compare")
        # Going on with another answer puts that one into the history.
        page.run("document.querySelectorAll('.continue input')[2].click()")
        page.click("#compare")
        self.set("maxTokens", 8)
        self.ask("And then?")
        self.finish()
        history = [{"role": "user", "content": self.prompt}, {"role": "assistant", "content": shown["texts"][2]}, {"role": "user", "content": "And then?"}]
        expect_equal(self.last("return turn.querySelector('.text').textContent"),
                     self.answer_of_api("fusionroute", history, 8)["choices"][0]["message"]["content"], "going on with the router's answer")

    def panel(self):
        page = self.page
        shown = page.run("""
          return { tags: [...document.querySelectorAll("#cluster .name .tag")].map((t) => t.textContent), states: [...document.querySelectorAll("#cluster .replica .state b")].map((b) => b.textContent),
            split: document.querySelectorAll("#cluster .split span").length, text: document.getElementById("cluster").textContent };""")
        expect_equal(shown["tags"], EXPERTS, "experts in the panel")
        expect_equal(shown["states"], ["serving"] * len(EXPERTS), "states in the panel")
        expect_equal(shown["split"], 6, "parts of the latency")
        pids = re.findall(r"pid (\d+)", shown["text"])
        expect(all(os.path.exists(f"/proc/{pid}") or sys.platform != "linux" for pid in pids) and len(set(pids)) == 3, f"processes {pids}")
        # Asked only while somebody can see it.
        counted = lambda: sum("fusionroute/status" in url for url in page.requests())
        page.requests()
        page.wait("it asks again", "window.start ??= performance.now(); return performance.now() - window.start > 2500")
        expect(counted() >= 2, "the open panel does not ask")
        page.click("#close-side")
        page.requests()
        page.wait("time passes", "window.second ??= performance.now(); return performance.now() - window.second > 2500")
        expect_equal(counted(), 0, "questions of a closed panel")
        page.click("#show-cluster")

    def appearance(self):
        page, said = self.page, []
        for theme in ("light", "dark"):
            page.emulate(dark=theme == "dark")
            time.sleep(0.2)
            said.append(looks.check_palette(page, theme))
            looks.check_text_contrast(page, theme)
            page.click("#show-settings")
            looks.check_text_contrast(page, theme)
            page.click("#show-cluster")
        page.emulate(dark=False)
        for theme in ("light", "dark"):
            page.click("#theme")
            expect_equal(page.run("return getComputedStyle(document.documentElement).colorScheme"), theme, "the toggle")
        looks.check_palette(page, "dark")
        page.click("#theme")
        page.emulate(calm=True)
        expect_equal(page.run("return matchMedia('(prefers-reduced-motion: reduce)').matches && document.getAnimations().length"), 0, "animations of a calm page")
        page.emulate()
        said.append(f"{looks.check_names(page)} named controls")
        looks.check_targets(page)
        return "; ".join(said)

    def sizes(self):
        page = self.page
        for width, height in ((360, 740), (3840, 2160)):
            page.emulate(width=width, height=height, phone=width < 500, scale=2 if width < 500 else 1)
            time.sleep(0.2)
            page.run("document.getElementById('scroller').scrollTo(0, 0)")
            looks.check_width(page, width)
            looks.check_targets(page)
        page.emulate()

    def pictures(self):
        """Dark and phone, after a fresh question."""
        page = self.page
        page.click("#new-chat")
        page.run("document.getElementById('toast').hidden = true")
        self.set("maxTokens", 180 if self.real else 90)
        self.ask(self.prompt)
        self.finish()
        page.emulate(dark=True)
        page.run("document.getElementById('scroller').scrollTo(0, 0)")
        page.hover(".t[data-i='11']")
        time.sleep(0.3)
        self.shoot("dark")
        page.unhover()
        page.emulate(width=360, height=740, phone=True, scale=2)
        time.sleep(0.3)
        page.run("document.getElementById('scroller').scrollTo(0, 0)")
        self.shoot("phone")
        page.emulate()

    def lost_connection(self):
        page = self.page
        self.cluster.stop()
        page.wait("the loss is said", "return document.querySelector('#offline').checkVisibility()")
        self.ask("Are you there?")
        page.wait("the error is said", "return [...document.querySelectorAll('.notice.error')].some((n) => /cannot be reached/.test(n.textContent))")
        self.cluster.start()
        page.wait("it is connected again", "return !document.querySelector('#offline').checkVisibility()")
        page.run("document.querySelector('.notice.error button').click()")
        page.wait("the second try is answered", "return document.querySelectorAll('.notice.error').length === 0 && document.querySelector('#send').checkVisibility()")

    def api_key(self):
        page = self.page
        self.cluster.stop()
        file = os.path.join(self.cluster.folder, "api-keys")
        made = subprocess.run([self.cluster.program, "keys", "api", "add", "page", "--file", file], check=True, capture_output=True, text=True)
        key = re.search(r"fr-[\w-]{43}", made.stdout)[0]
        self.cluster.start(keys=file)
        page.open(self.cluster.url)
        page.wait("the key is asked for", "return document.querySelector('#key-dialog').open")
        looks.check_names(page, least=4)
        page.write("fr-wrong")
        page.type("enter")
        page.wait("the wrong key is refused", "return document.querySelector('#key-dialog').open && /not accepted/.test(document.querySelector('#key-reason').textContent)")
        page.write(key)
        page.type("enter")
        page.wait("the key is taken", "return !document.querySelector('#key-dialog').open && document.querySelectorAll('#set-model option').length > 1")
        self.ask("Hello")
        self.finish()
        expect(page.run("return document.querySelectorAll('.t').length > 0"), "no answer with the key")
        kept = page.run("return [JSON.stringify(sessionStorage), JSON.stringify(localStorage) + document.cookie + location.href]")
        expect(key in kept[0] and key not in kept[1], "where the key is kept")

    def origin(self):
        self.page.requests()
        foreign = [url for url in self.page.all_requests if not url.startswith((self.cluster.url, "data:"))]
        expect(len(self.page.all_requests) > 100, "the requests were not seen")
        expect_equal(foreign, [], "requests to elsewhere")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--demo-models", help="folder of the demo's models, instead of generated ones")
    parser.add_argument("--screenshots", help="where to put pictures")
    parser.add_argument("--seed", type=int, default=random.randrange(2**31))
    options = parser.parse_args()
    if options.screenshots:
        os.makedirs(options.screenshots, exist_ok=True)
    folder = tempfile.mkdtemp(prefix="fusionroute-page-")
    page = cluster = None
    succeeded = False
    try:
        models = demo_models(options.demo_models) if options.demo_models else make_models(options.program, folder)
        page = Browser(folder)
        print(f"Chromium {page.version}, seed {options.seed}", flush=True)
        run_logic(page, options.seed)
        cluster = Cluster(options.program, folder, models)
        timed("start the cluster", cluster.start)
        page.emulate()
        page.requests()
        page.all_requests.clear()
        page.console()
        run_checks(Check(page, cluster, options.screenshots, bool(options.demo_models)))
        succeeded = True
    except (CheckFailure, BrowserError) as failure:
        print(f"FAILED: {failure}", file=sys.stderr)
        if page and page.session:
            page.screenshot(os.path.join(folder, "failed.png"))
            print(f"the page then: {folder}/failed.png", file=sys.stderr)
    finally:
        if page:
            page.close()
        if cluster:
            cluster.stop()
        if succeeded:
            shutil.rmtree(folder, ignore_errors=True)
    return 0 if succeeded else 1


def timed(name, work):
    start = time.monotonic()
    said = work()
    print(f"  {name}: {time.monotonic() - start:.1f} s{f' ({said})' if said else ''}", flush=True)


def run_logic(page, seed):
    def work():
        with Fixtures() as fixtures:
            page.open(fixtures.url)
            count = page.run_async("const logic = await import('/logic.js'); return logic.run(args[0]);", seed)
            return f"{count} tests"
    timed("logic", work)


def run_checks(check):
    complaints = []
    quiet = ("files", "first_answer", "card", "keyboard", "conversation", "stop", "settings", "compare", "panel", "appearance", "sizes", "pictures")
    for name in (*quiet, "lost_connection", "api_key"):
        timed(name, getattr(check, name))
        messages = check.page.console()
        # A browser itself reports what it could not load; elsewhere that is an error.
        if name in quiet:
            complaints += [f"{name}: {message['message']}" for message in messages]
        else:
            complaints += [f"{name}: {m['message']}" for m in messages if m["source"] != "network"]
    expect_equal(complaints, [], "messages in the console")
    check.origin()


if __name__ == "__main__":
    sys.exit(main())
