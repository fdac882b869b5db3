"""What the checks share: the browser, the cluster, and what a person does with the page."""

import os

SEED = 3


class CheckFailure(Exception):
    pass


def expect(condition, message):
    if not condition:
        raise CheckFailure(message)


def expect_equal(actual, expected, what):
    if actual != expected:
        raise CheckFailure(f"{what}: {actual!r}, expected {expected!r}")


def score(number, digits=3):
    """A number as the page writes it."""
    return "–" if number is None else f"{number:.{digits}f}".replace("-", "−")


class Scene:
    def __init__(self, page, cluster, axe, shots, real):
        self.page, self.cluster, self.axe, self.shots = page, cluster, axe, shots
        # Models that were trained, whose answers mean something.
        self.real = real
        self.prompt = "Explain how bread is made." if real else "What is a river?"
        # The API's answer to the prompt.
        self.api = None

    def shoot(self, name):
        if self.shots:
            self.page.screenshot(os.path.join(self.shots, f"{name}.png"))

    def open(self):
        self.page.open(self.cluster.url)
        self.page.wait("the modes are listed", "return $$('#set-model option').length > 1")
        self.page.wait("the cluster's state is shown", "return $('#cluster .replica')")

    def set(self, name, value):
        self.page.run(
            """
          const field = document.getElementById(`set-${arguments[0]}`);
          field.value = arguments[1];
          field.dispatchEvent(new Event("input", { bubbles: true }));
          field.dispatchEvent(new Event("change", { bubbles: true }));""",
            name,
            str(value),
        )

    def ask(self, text, *keys):
        self.page.click("#prompt")
        self.page.write(text)
        self.page.type(*(keys or ("enter",)))

    def finish(self, seconds=180):
        self.page.wait("the answer ended", "return $('#send').checkVisibility()", seconds=seconds)

    def last(self, script):
        """Runs `script` with `turn`, the last question and its answer."""
        return self.page.run("const turn = $$('.turn').at(-1);" + script)

    def answer_of_api(self, model, messages, tokens, **more):
        return self.cluster.post(
            "v1/chat/completions",
            {
                "model": model,
                "messages": messages,
                "max_tokens": tokens,
                "temperature": 0.7,
                "top_p": 1,
                "seed": SEED,
                "logprobs": True,
                "top_logprobs": 5,
                "fusionroute": {"alternatives": 5},
                **more,
            },
        )
