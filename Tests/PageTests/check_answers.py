"""Asking and answering: texts and numbers are the API's, everything works from the keyboard."""

import json
import re
import time

import looks
from cluster import EXPERTS
from scene import SEED, expect, expect_equal, score

MODES = [
    "fusionroute",
    "fusionroute:no-complement",
    "fusionroute:router",
    *(f"fusionroute:expert:{e}" for e in EXPERTS),
]


def first_answer(scene):
    """Streams, in colours; the text and the numbers are the API's."""
    scene.open()
    scene.page.run("$('#tab-settings').click()")
    tokens = 180 if scene.real else 90
    for name, value in (("seed", SEED), ("maxTokens", tokens), ("temperature", 0.7)):
        scene.set(name, value)
    scene.page.run("$('#tab-cluster').click()")
    scene.shoot("welcome")
    # How many tokens stood there at each change, while the answer was under way.
    scene.page.run("""
      window.lengths = new Set();
      const look = () => $("#stop").checkVisibility() && window.lengths.add($$(".t").length);
      new MutationObserver(look).observe($("#log"), { childList: true, subtree: true });""")
    scene.ask(scene.prompt)
    if scene.real:
        scene.page.wait("tokens stream", "return $$('.t').length > 60")
        scene.shoot("streaming")
    scene.finish()
    seen = scene.last("""
      const styles = $$(".t", turn).map((t) => getComputedStyle(t));
      return {
        backs: [...new Set(styles.map((s) => s.backgroundColor))],
        marks: [...new Set(styles.map((s) => `${s.textDecorationLine} ${s.textDecorationStyle}`))],
        text: turn.querySelector(".text").textContent,
        legend: $$(".chip", turn).map((chip) => [$(".tag", chip).textContent, $(".number", chip).textContent]),
        strip: turn.querySelector("canvas.strip").checkVisibility(),
        stats: turn.querySelector(".stats").textContent,
      };""")
    lengths = scene.page.run("return window.lengths.size")
    expect(lengths > 5, f"the answer did not stream: it was seen at {lengths} lengths")
    expect(len(seen["backs"]) >= 2, f"the tokens have the colours {seen['backs']}")
    expect_equal(len(seen["marks"]), len(seen["backs"]), f"kinds of underline {seen['marks']}")
    expect(seen["strip"], "there is no strip of routing weights")
    scene.api = scene.answer_of_api("fusionroute", [{"role": "user", "content": scene.prompt}], tokens)
    expect_equal(seen["text"], scene.api["choices"][0]["message"]["content"], "streamed text")
    counts = {name: n for name, n in scene.api["fusionroute"]["tokens_per_expert"].items() if n > 0}
    legend = {name: int(number.split(" ")[0].replace(",", "")) for name, number in seen["legend"]}
    expect_equal(legend, counts, "legend")
    expect(f"seed {SEED}" in seen["stats"] and "tokens/s" in seen["stats"], f"facts: {seen['stats']}")
    return f"{scene.api['usage']['completion_tokens']} tokens by {counts}"


def card(scene):
    """Points at tokens: the card has the API's numbers."""
    tokens = scene.api["choices"][0]["fusionroute"]["tokens"]
    logprobs = scene.api["choices"][0]["logprobs"]["content"]
    for index in (len(tokens) // 2, 3, 11):
        scene.page.unhover()
        scene.page.run(
            "$$('.t').find((t) => t.dataset.i === arguments[0]).scrollIntoView({ block: 'center' })",
            str(index),
        )
        scene.page.hover(f".t[data-i='{index}']")
        shown = scene.page.wait(
            "the card opens",
            """
          const card = $("#card");
          return !card.hidden && {
            expert: card.querySelector(".head .tag").textContent,
            scores: $$(".scores dd", card).map((d) => d.textContent),
            weights: $$(".weights tr", card).map((row) => [
              $(".tag", row).textContent, row.lastElementChild.textContent, parseFloat($(".fill", row).style.width)]),
            runners: card.querySelectorAll(".runners tbody tr").length,
          };""",
        )
        token = tokens[index]
        expect_equal(shown["expert"], token["expert"], f"expert of token {index}")
        expect_equal(
            shown["scores"][1:],
            [score(logprobs[index]["logprob"]), *(score(token[k]) for k in ("logit", "router_logit", "expert_logit"))],
            f"scores of token {index}",
        )
        expect_equal(
            [w[:2] for w in shown["weights"]],
            [[e, score(w, 2)] for e, w in zip(EXPERTS, token["weights"])],
            f"weights of token {index}",
        )
        expect(abs(sum(w[2] for w in shown["weights"]) - 100) < 0.1, f"bars of token {index}: {shown['weights']}")
        expect_equal(shown["runners"], 5, f"runners-up of token {index}")
        expect(
            abs(token["router_logit"] + token["expert_logit"] - token["logit"]) < 2e-3,
            f"token {index} is not the sum of both logits",
        )
    time.sleep(0.2)
    looks.check_axe(scene.page, scene.axe, "card")
    scene.shoot("light")
    scene.page.unhover()
    scene.page.wait("the card closes", "return $('#card').hidden")


def keyboard(scene):
    page = scene.page
    focus = "const e = document.activeElement; const index = e.classList.contains('t') ? Number(e.dataset.i) : null;"
    page.run("$('.chip').focus()")
    for _ in range(8):
        page.type("tab")
        if page.run(focus + "return index") is not None:
            break
    expect_equal(page.run(focus + "return index"), 0, "Tab leads to the first token")
    expect(page.run("return getComputedStyle(document.activeElement).outlineStyle !== 'none'"), "the focus is not seen")
    page.type("right", "right", "right", "left")
    expect_equal(page.run(focus + "return index"), 2, "arrow keys lead")
    expect(page.run("return !$('#card').hidden"), "focus opens no card")
    page.wait("the token is spoken", "return /token 3 of/.test($('#live').textContent)", seconds=5)
    page.type("end")
    last = page.run(focus + "return index")
    expect_equal(last, page.run("return Math.max(...$$('.t').map((t) => +t.dataset.i))"), "End leads")
    page.type("home", "down")
    line = page.run(focus + "return [index, e.getBoundingClientRect().top > $('.t').getBoundingClientRect().top]")
    expect(line[0] > 0 and line[1], f"arrow down leads to {line}")
    page.type("up")
    expect_equal(page.run(focus + "return index"), 0, "arrow up leads back")
    page.type(("shift", "right"))
    experts = page.run(focus + "return [$('.t').className, e.className]")
    expect(experts[0] != experts[1], "Shift and arrow lead to the same expert")
    page.type("enter")
    expect(page.run("return $('#card').classList.contains('pinned')"), "Enter keeps no card")
    page.type("escape")
    expect(page.run("return $('#card').hidden"), "Esc closes no card")
    page.run("$('canvas.strip').focus()")
    page.type("home", "right", "right")
    expect_equal(page.run("return document.activeElement.ariaValueNow"), "3", "the strip's arrow keys lead")
    page.type("enter")
    expect_equal(page.run(focus + "return index"), 2, "the strip leads to its token")
    page.type("escape")
    # Chips light up one expert's tokens.
    page.run("$('.chip').focus()")
    page.type("enter")
    dimmed = page.run("return [$$('.t.on').length, $$('.t').length, $('.chip').ariaPressed]")
    expect(0 < dimmed[0] < dimmed[1] and dimmed[2] == "true", f"highlighted: {dimmed}")
    page.type("enter")
    expect_equal(page.run("return $$('.filtered').length"), 0, "highlighting ends")


def conversation(scene):
    """A second question with the first as its history; hostile text; again, edit, undo, new chat."""
    page = scene.page
    page.requests()
    hostile = "<img src=x onerror=document.title='broken'> & <b>bold</b>"
    scene.set("maxTokens", 12)
    scene.ask(hostile, ("control", "enter"))
    scene.finish()
    expect_equal(scene.last("return turn.querySelector('.prompt').textContent"), hostile, "the prompt's text")
    expect_equal(
        page.run("return [document.title, $$('#log img').length]"),
        ["FusionRoute", 0],
        "markup in a prompt",
    )
    history = [
        {"role": "user", "content": scene.prompt},
        {"role": "assistant", "content": scene.api["choices"][0]["message"]["content"]},
        {"role": "user", "content": hostile},
    ]
    expect_equal(
        scene.last("return turn.querySelector('.text').textContent"),
        scene.answer_of_api("fusionroute", history, 12)["choices"][0]["message"]["content"],
        "an answer with history",
    )
    before = scene.last("return turn.querySelector('.text').textContent")
    page.run("$$('.turn').at(-1).querySelector('.answer [aria-label=\"Answer again\"]').click()")
    page.wait(
        "it answers again",
        "return $('#stop').checkVisibility() || $$('.answer.ended').length === 2",
    )
    scene.finish()
    expect_equal(scene.last("return turn.querySelector('.text').textContent"), before, "the same seed again")
    # Edit the first question: the second goes, and comes back.
    page.run("$('[aria-label=\"Edit and ask again\"]').click()")
    page.run("$('textarea.edit').value = 'Count to three.'")
    page.type("enter")
    page.wait(
        "one question is left",
        "return $$('.turn').length === 1 && $('.prompt').textContent === 'Count to three.'",
    )
    scene.finish()
    page.click("#toast button")
    expect_equal(
        page.run("return $$('.prompt').map((p) => p.textContent)"),
        [scene.prompt, hostile],
        "undo",
    )
    page.devtools(
        "Browser.grantPermissions",
        permissions=["clipboardReadWrite", "clipboardSanitizedWrite"],
        origin=scene.cluster.url.rstrip("/"),
    )
    page.run("$('.answer [aria-label=\"Copy the answer\"]').click()")
    page.wait("the answer is copied", "return /copied/.test($('#toast').textContent)")
    expect_equal(page.run_async("return navigator.clipboard.readText()"), history[1]["content"], "copied text")
    page.click("#new-chat")
    expect(
        page.run("return $$('.turn').length === 0 && $('#welcome').checkVisibility()"),
        "a new chat is not empty",
    )
    page.run("$('#toast').hidden = true")


def hidden(scene):
    """A hidden page gets no animation frames; its answers go on."""
    tokens = 300
    scene.set("maxTokens", tokens)
    scene.page.run("""
      window.drawnHidden = 0;
      const look = () => (window.drawnHidden += document.hidden ? 1 : 0);
      new MutationObserver(look).observe($("#log"), { childList: true, subtree: true });""")
    scene.ask(scene.prompt)
    scene.page.in_another_tab(lambda: time.sleep(1))
    scene.finish()
    expect(scene.page.run("return window.drawnHidden") > 0, "nothing was drawn while the page was hidden")
    api = scene.answer_of_api("fusionroute", [{"role": "user", "content": scene.prompt}], tokens)
    expect_equal(scene.last("return $('.text', turn).textContent"), api["choices"][0]["message"]["content"], "text")
    scene.page.click("#new-chat")
    scene.page.run("$('#toast').hidden = true")


def stop(scene):
    page = scene.page
    cancelled = lambda: json.loads(scene.cluster.get("fusionroute/status")[2])["requests"]["cancelled"]
    before = cancelled()
    scene.set("maxTokens", 1500)
    scene.ask(scene.prompt)
    page.wait("tokens stream", "return $$('.t').length > 5")
    page.type("escape")
    scene.finish(seconds=20)
    expect_equal(
        scene.last("return turn.querySelector('.notice.stopped p').textContent"),
        "Stopped.",
        "what a stopped answer says",
    )
    deadline = time.monotonic() + 20
    while cancelled() == before:
        expect(time.monotonic() < deadline, "the cluster still answers what was stopped")
        time.sleep(0.1)
    page.click("#new-chat")
    page.run("$('#toast').hidden = true")


def compare(scene):
    page = scene.page
    tokens = 60 if scene.real else 30
    scene.set("maxTokens", tokens)
    page.click("#compare")
    scene.ask(scene.prompt)
    scene.finish(seconds=300)
    shown = scene.last("""
      return {
        rows: $$(".compare-table tbody tr", turn).map((r) => [...r.children].map((c) => c.textContent)),
        texts: $$(".column .text", turn).map((t) => t.textContent),
        routed: $$(".column", turn).map((c) => !c.querySelector(".strip-box").hidden),
      };""")
    expect_equal(len(shown["rows"]), len(MODES), "modes compared")
    for mode, row, text in zip(MODES, shown["rows"], shown["texts"]):
        api = scene.answer_of_api(mode, [{"role": "user", "content": scene.prompt}], tokens)
        expect_equal(text, api["choices"][0]["message"]["content"], f"text of {mode}")
        expect(
            re.fullmatch(r"[\d.,]+ (ms|s|µs)", row[2])
            and re.fullmatch(r"[\d.,]+", row[3])
            and re.search(r"\d", row[4]),
            f"timings of {mode}: {row}",
        )
    expect_equal(shown["routed"], [True, True] + [False] * (len(MODES) - 2), "strips")
    page.run("$('.turn').scrollIntoView({ block: 'start' })")
    time.sleep(0.1)
    scene.shoot("compare")
    # Going on with another answer puts that one into the history.
    page.run("$$('.continue input')[2].click()")
    page.click("#compare")
    scene.set("maxTokens", 8)
    scene.ask("And then?")
    scene.finish()
    history = [
        {"role": "user", "content": scene.prompt},
        {"role": "assistant", "content": shown["texts"][2]},
        {"role": "user", "content": "And then?"},
    ]
    expect_equal(
        scene.last("return turn.querySelector('.text').textContent"),
        scene.answer_of_api("fusionroute", history, 8)["choices"][0]["message"]["content"],
        "going on with the router's answer",
    )
