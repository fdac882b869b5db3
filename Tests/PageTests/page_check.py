"""Drives the page at `/` of a real cluster in headless Chromium. See Deploy/checks/page."""

import argparse
import os
import pathlib
import random
import shutil
import sys
import tempfile
import time

import check_answers
import check_state
from browser import Browser, BrowserError
from cluster import Cluster, demo_models, make_models
from fixtures import Fixtures
from scene import CheckFailure, Scene, expect_equal


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--axe", required=True, help="axe.min.js")
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
        run_checks(
            Scene(page, cluster, pathlib.Path(options.axe).read_text(), options.screenshots, bool(options.demo_models))
        )
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


# In the order in which they build on each other.
CHECKS = [
    check_state.files,
    check_answers.first_answer,
    check_answers.card,
    check_answers.keyboard,
    check_answers.conversation,
    check_answers.hidden,
    check_answers.stop,
    check_state.settings,
    check_answers.compare,
    check_state.panel,
    check_state.appearance,
    check_state.sizes,
    check_state.pictures,
    check_state.lost_connection,
    check_state.api_key,
]
# What these are about is reported by the browser itself: that something could not be loaded.
LOSSES = [check_state.lost_connection, check_state.api_key]


def run_checks(scene):
    complaints = []
    for check in CHECKS:
        timed(check.__name__, lambda: check(scene))
        complaints += [
            f"{check.__name__}: {message['message']}"
            for message in scene.page.console()
            if check not in LOSSES or message["source"] != "network"
        ]
    expect_equal(complaints, [], "messages in the console")
    check_state.origin(scene)


if __name__ == "__main__":
    sys.exit(main())
