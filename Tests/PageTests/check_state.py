"""The page around the answers: its files, settings, the cluster's state, looks, and what may go wrong."""

import os
import re
import subprocess
import sys
import time

import looks
from cluster import EXPERTS
from fixtures import SITE, TYPES
from scene import expect, expect_equal


def files(scene):
    for file in sorted(SITE.iterdir()):
        path = "" if file.name == "index.html" else f"page/{file.name}"
        status, headers, body = scene.cluster.get(path)
        expect_equal(status, 200, file.name)
        expect(body == file.read_bytes(), f"{file.name} in the program is not the one in the sources")
        expect(headers["content-type"].startswith(TYPES[file.suffix]), f"{file.name} is {headers['content-type']}")
        policy = headers.get("content-security-policy", "")
        expect("default-src 'none'" in policy and "unsafe" not in policy, f"{file.name} has the policy {policy!r}")
        expect_equal(headers.get("x-content-type-options"), "nosniff", file.name)
        status, _, body = scene.cluster.get(path, {"if-none-match": headers["etag"]})
        expect_equal((status, body), (304, b""), f"{file.name} that the browser has already")
    for path in ("page/none.js", "page/..%2findex.html", "page/"):
        expect_equal(scene.cluster.get(path)[0], 404, path)


def settings(scene):
    page = scene.page
    page.click("#show-settings")
    for name, bad in (("temperature", "9"), ("maxTokens", "0"), ("topP", "-1")):
        before = page.run("return document.getElementById(arguments[0]).value", f"set-{name}")
        page.run(
            "const f = document.getElementById(arguments[0]);"
            "f.value = arguments[1]; f.dispatchEvent(new Event('input'))",
            f"set-{name}",
            bad,
        )
        expect_equal(
            page.run("return document.getElementById(arguments[0]).getAttribute('aria-invalid')", f"set-{name}"),
            "true",
            name,
        )
        page.run("document.getElementById(arguments[0]).dispatchEvent(new Event('change'))", f"set-{name}")
        expect_equal(
            page.run("return document.getElementById(arguments[0]).value", f"set-{name}"), before, f"{name} goes back"
        )
    scene.shoot("settings")
    page.click("#show-cluster")


def panel(scene):
    page = scene.page
    shown = page.run("""
      return {
        tags: $$("#cluster .name .tag").map((t) => t.textContent),
        states: $$("#cluster .replica .state b").map((b) => b.textContent),
        split: $$("#cluster .split span").length, text: $("#cluster").textContent };""")
    expect_equal(shown["tags"], EXPERTS, "experts in the panel")
    expect_equal(shown["states"], ["serving"] * len(EXPERTS), "states in the panel")
    expect_equal(shown["split"], 6, "parts of the latency")
    pids = re.findall(r"pid (\d+)", shown["text"])
    expect(
        all(os.path.exists(f"/proc/{pid}") or sys.platform != "linux" for pid in pids) and len(set(pids)) == 3,
        f"processes {pids}",
    )
    # Asked only while somebody can see it.
    questions = lambda: sum("fusionroute/status" in url for url in page.requests())
    questions()
    while questions() == 0:
        time.sleep(0.2)
    page.in_another_tab(lambda: (questions(), time.sleep(2.5), expect_equal(questions(), 0, "questions while hidden")))
    page.click("#close-side")
    scene.set("maxTokens", 4)
    scene.ask("Hello")
    scene.finish()
    time.sleep(0.5)
    questions()
    time.sleep(2.5)
    expect_equal(questions(), 0, "questions of a closed panel")
    page.click("#show-cluster")


def appearance(scene):
    page, said = scene.page, []
    for theme in ("light", "dark"):
        page.emulate(dark=theme == "dark")
        time.sleep(0.2)
        said.append(looks.check_palette(page, theme))
        looks.check_axe(page, scene.axe, f"{theme}, comparison and cluster")
        page.click("#show-settings")
        looks.check_axe(page, scene.axe, f"{theme}, settings")
        page.click("#show-cluster")
    page.emulate(dark=False)
    for theme in ("light", "dark"):
        page.click("#theme")
        expect_equal(page.run("return getComputedStyle(document.documentElement).colorScheme"), theme, "the toggle")
    looks.check_palette(page, "dark")
    page.click("#theme")
    page.emulate(calm=True)
    expect_equal(
        page.run("return matchMedia('(prefers-reduced-motion: reduce)').matches && document.getAnimations().length"),
        0,
        "animations of a calm page",
    )
    page.emulate()
    return "; ".join(said)


def sizes(scene):
    page = scene.page
    for width, height in ((360, 740), (3840, 2160)):
        page.emulate(width=width, height=height, phone=width < 500, scale=2 if width < 500 else 1)
        time.sleep(0.2)
        page.run("$('#scroller').scrollTo(0, 0)")
        looks.check_width(page, width)
        looks.check_axe(page, scene.axe, f"{width} pixels")
    page.emulate()


def pictures(scene):
    """Dark and phone, after a fresh question."""
    page = scene.page
    page.click("#new-chat")
    page.run("$('#toast').hidden = true")
    scene.set("maxTokens", 180 if scene.real else 90)
    scene.ask(scene.prompt)
    scene.finish()
    page.emulate(dark=True)
    page.run("$('#scroller').scrollTo(0, 0)")
    # Scrolling closes cards.
    time.sleep(0.3)
    page.hover(".t[data-i='11']")
    time.sleep(0.3)
    scene.shoot("dark")
    page.unhover()
    page.emulate(width=360, height=740, phone=True, scale=2)
    time.sleep(0.3)
    page.run("$('#scroller').scrollTo(0, 0)")
    scene.shoot("phone")
    page.emulate()


def lost_connection(scene):
    page = scene.page
    page.click("#close-side")
    scene.cluster.stop()
    scene.ask("Are you there?")
    page.wait("the loss is said", "return $('#offline').checkVisibility()")
    page.wait(
        "the error is said",
        "return $$('.notice.error').some((n) => /cannot be reached/.test(n.textContent))",
    )
    scene.cluster.start()
    page.wait("it is connected again", "return !$('#offline').checkVisibility()")
    page.run("$('.notice.error button').click()")
    page.wait(
        "the second try is answered",
        "return $$('.notice.error').length === 0 && $('#send').checkVisibility()",
    )


def api_key(scene):
    page = scene.page
    scene.cluster.stop()
    file = os.path.join(scene.cluster.folder, "api-keys")
    made = subprocess.run(
        [scene.cluster.program, "keys", "api", "add", "page", "--file", file],
        check=True,
        capture_output=True,
        text=True,
    )
    key = re.search(r"fr-[\w-]{43}", made.stdout)[0]
    scene.cluster.start(keys=file)
    page.open(scene.cluster.url)
    page.wait("the key is asked for", "return $('#key-dialog').open")
    looks.check_axe(page, scene.axe, "asking for the key")
    page.write("fr-wrong")
    page.type("enter")
    page.wait(
        "the wrong key is refused",
        "return $('#key-dialog').open && /not accepted/.test($('#key-reason').textContent)",
    )
    page.write(key)
    page.type("enter")
    page.wait(
        "the key is taken",
        "return !$('#key-dialog').open && $$('#set-model option').length > 1",
    )
    scene.ask("Hello")
    scene.finish()
    expect(page.run("return $$('.t').length > 0"), "no answer with the key")
    kept = page.run(
        "return [JSON.stringify(sessionStorage), JSON.stringify(localStorage) + document.cookie + location.href]"
    )
    expect(key in kept[0] and key not in kept[1], "where the key is kept")


def origin(scene):
    scene.page.requests()
    foreign = [url for url in scene.page.all_requests if not url.startswith((scene.cluster.url, "data:"))]
    expect(len(scene.page.all_requests) > 100, "the requests were not seen")
    expect_equal(foreign, [], "requests to elsewhere")
