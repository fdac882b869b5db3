"""Properties of the generators, each with seeds of its own that are printed when it fails."""

import ast
import collections
import itertools
import json
import random
import re
import unittest

from fusionroute_evaluation import contamination
from fusionroute_evaluation.graders import Grader
from fusionroute_evaluation.tasks import code, common, formats, instruct, math, mixed
from fusionroute_evaluation.tasks.code_operations import NUMBERS, TEXTS
from fusionroute_evaluation.tasks.math_templates import TEMPLATES
from fusionroute_evaluation.tasks.topics import TOPICS

TASKS = {"math": math, "code": code, "instruct": instruct, "mixed": mixed}


def prompts(lines):
    return [contamination.prompt_of(line) for line in lines]


def with_a_number_off_by_one(source):
    """The source once for each of its numbers and each direction."""
    count = sum(isinstance(node, ast.Constant) and type(node.value) is int for node in ast.walk(ast.parse(source)))
    for at in range(count):
        for step in (-1, 1):
            tree = ast.parse(source)
            number = [n for n in ast.walk(tree) if isinstance(n, ast.Constant) and type(n.value) is int][at]
            number.value += step
            yield ast.unparse(tree)


class TaskTests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.seed = random.SystemRandom().randrange(1 << 32)
        cls.grader = Grader()

    @classmethod
    def tearDownClass(cls):
        cls.grader.sandbox.close()

    def message(self, *rest):
        return f"seed {self.seed}: {rest}"

    def test_there_is_enough_of_each(self):
        self.assertGreaterEqual(sum(not t.is_held_out for t in TEMPLATES), 20)
        self.assertGreaterEqual(sum(t.is_held_out for t in TEMPLATES), 5)
        self.assertGreaterEqual(len(NUMBERS) + len(TEXTS), 40)
        self.assertGreaterEqual(code.CASES, 5)
        for names in ([t.name for t in TEMPLATES], [o.name for o in NUMBERS], [o.name for o in TEXTS], TOPICS):
            self.assertEqual(len(set(names)), len(names))

    def test_the_same_seed_gives_the_same_lines_and_another_one_others(self):
        for name, task in TASKS.items():
            a, b, c = (json.dumps(task.examples("test", 20, seed)) for seed in (self.seed, self.seed, self.seed + 1))
            self.assertEqual(a, b, self.message(name))
            self.assertNotEqual(a, c, self.message(name))

    def test_reference_answers_pass_their_graders(self):
        lines = [
            *math.examples("train", 200, self.seed),
            *code.examples("train", 40, self.seed),
            *mixed.examples("train", 60, self.seed),
        ]
        for line in lines:
            verdict = self.grader.grade(line["grader"], line["completion"])
            self.assertTrue(verdict.passed, self.message(line, verdict))

    def test_constants_and_copies_fail(self):
        for name, task in (("math", math), ("code", code), ("mixed", mixed)):
            for line in task.examples("test", 10, self.seed):
                prompt = contamination.prompt_of(line)
                texts = [prompt, f"{prompt}\n#### {prompt.split()[0]}", ""]
                content = line["grader"].get("content", line["grader"])
                if content["name"] == "math":
                    texts += [f"#### {number}" for number in re.findall(r"\d+", prompt)]
                else:
                    function = content["function"]
                    expected = content["cases"][0]["expected"]
                    texts += [f"def {function}(x):\n    return {body}" for body in ("x", repr(expected), "None", "[]")]
                for text in texts:
                    self.assertFalse(self.grader.grade(line["grader"], text).passed, self.message(name, line, text))

    def test_hidden_cases_tell_an_operation_from_its_absence(self):
        for line in code.examples("test", 40, self.seed):
            cases = line["grader"]["cases"]
            self.assertGreaterEqual(len(cases), code.CASES)
            results = collections.Counter(json.dumps(case["expected"]) for case in cases[: code.CASES])
            self.assertLessEqual(max(results.values()), code.CASES // 2, self.message(line))
            self.assertTrue(any(case["arguments"][0] != case["expected"] for case in cases), self.message(line))

    def test_hidden_cases_tell_a_number_and_an_order_from_others(self):
        rng = random.Random(self.seed)
        drawn = [code.problem(rng, "test", count) for count in (2, 3) for _ in range(150)]
        compared = collections.Counter()
        for _, source, grader, tags in filter(None, drawn):
            head, *body = source.split("\n")
            variable = head.partition("(")[2].partition(")")[0]
            expressions = [line.strip().removeprefix("return ").removeprefix(f"{variable} = ") for line in body]
            orders = itertools.permutations(expressions)
            others = [("order", code.source_of(grader["function"], variable, order)) for order in orders][1:]
            others += [("bound", source.replace(f" {sign} ", f" {sign}= ")) for sign in "<>" if f" {sign} " in source]
            others += [("number", changed) for changed in with_a_number_off_by_one(source)]
            hidden = [case["arguments"][0] for case in grader["cases"]]
            arguments = [code._value(rng, tags["kind"]) for _ in range(100)]
            right = [self.outcome(source, grader["function"], a) for a in arguments]
            for what, other in others:
                differs = sum(self.outcome(other, grader["function"], a) != r for a, r in zip(arguments, right))
                # What is hardly ever wrong may pass.
                if differs >= 10:
                    compared[what] += 1
                    told = [self.outcome(other, grader["function"], a) for a in hidden]
                    expected = [case["expected"] for case in grader["cases"]]
                    self.assertNotEqual(told, expected, self.message(source, other))
        # About 350, 250 and 18 of them: with none compared nothing would have been asserted.
        for what, least in (("number", 50), ("order", 50), ("bound", 1)):
            self.assertGreaterEqual(compared[what], least, self.message(what, compared))

    @staticmethod
    def outcome(source, function, argument):
        namespace = {}
        exec(source, namespace)
        try:
            return namespace[function](argument)
        except Exception as error:
            return type(error)

    def test_steps_are_written_out_and_true(self):
        for line in math.examples("train", 400, self.seed):
            steps = [s for s in line["completion"].split("\n") if "=" in s]
            self.assertEqual(len(steps), line["tags"]["steps"], self.message(line))
            for step in steps:
                left, right = step.rpartition(": ")[2].split("=")
                self.assertRegex(left, r"^\d+[*/+-]\d+$", self.message(line))
                self.assertEqual(eval(left), int(right), self.message(line))
            self.assertEqual(line["completion"].split("\n")[-1], f"#### {line['grader']['answer']}")
            self.assertNotIn(str(line["grader"]["answer"]), re.findall(r"\d+", contamination.prompt_of(line)))

    def test_splits_are_disjoint_in_prompts_and_in_what_they_are_split_by(self):
        for name, task in TASKS.items():
            parts = {split: task.examples(split, 150, self.seed + at) for at, split in enumerate(common.SPLITS)}
            for a in common.SPLITS:
                for b in common.SPLITS:
                    if a < b:
                        shared = set(prompts(parts[a])) & set(prompts(parts[b]))
                        self.assertEqual(shared, set(), self.message(name, a, b))
                        keys = contamination.keys(parts[a]) & contamination.keys(parts[b])
                        self.assertEqual(keys, set(), self.message(name, a, b))

    def test_numbers_and_operations_belong_to_their_split(self):
        for split in common.SPLITS:
            for line in math.examples(split, 60, self.seed):
                numbers = sorted(int(n) for n in re.findall(r"\d+", contamination.prompt_of(line)))
                self.assertEqual(common.split_of("math", *numbers), split, self.message(line))
            for line in code.examples(split, 60, self.seed):
                if line["tags"]["count"] == 2:
                    names = line["tags"]["operations"].split("+")
                    self.assertEqual(common.split_of("code", *names), split, self.message(line))
            for line in instruct.examples(split, 40, self.seed):
                self.assertEqual(common.split_of("topic", line["tags"]["topic"]), split, self.message(line))

    def test_what_is_held_out_is_nowhere_else(self):
        def kinds(lines, *names):
            return {tuple(line["tags"][name] for name in names) for line in lines}

        for task, names in ((math, ["template"]), (mixed, ["content", "format"]), (instruct, ["format"])):
            held = kinds(task.examples("test", 100, self.seed, held_out=True), *names)
            for split in common.SPLITS:
                self.assertEqual(held & kinds(task.examples(split, 300, self.seed), *names), set(), self.message(split))
        self.assertTrue(all(line["tags"]["count"] == 3 for line in code.examples("test", 40, self.seed, held_out=True)))
        self.assertFalse(any(line["tags"]["count"] > 2 for line in code.examples("train", 200, self.seed)))
        unseen = set(formats.UNSEEN_STARTS + formats.UNSEEN_ENDS)
        self.assertEqual(unseen & set(formats.STARTS + formats.ENDS), set())

    def test_experts_of_math_and_code_see_no_format(self):
        markers = ("<<", "P.S", "P.P.S", "quotation", "bullet", *formats.ENDS, *formats.STARTS)
        for task in (math, code):
            for line in task.examples("train", 300, self.seed):
                text = contamination.prompt_of(line) + line["completion"]
                self.assertFalse(any(marker in text for marker in markers), self.message(line))

    def test_a_part_of_the_training_data_begins_with_neutral_text(self):
        leads = sum("=" not in line["completion"].split("\n")[0] for line in math.examples("train", 500, self.seed))
        self.assertTrue(100 < leads < 200, self.message(leads))

    def test_instruct_answers_are_formed_from_samples_and_pass(self):
        requests = instruct.requests(60, self.seed)
        text = (
            "Many people care about this, and they talk about it often. It is part of daily life in most places. "
            "Some say it is the best thing of all.\n\nMore of it here."
        )
        lines, _ = instruct.training([(request, text) for request in requests], 150, self.seed)
        self.assertEqual(len(lines), 150)
        for line in lines:
            verdict = self.grader.grade(line["grader"], line["completion"])
            self.assertTrue(verdict.passed, self.message(line, verdict))
            self.assertNotIn(instruct.BRIEFLY, contamination.prompt_of(line))
        self.assertGreater(len({line["tags"]["format"] for line in lines}), 8)

    def test_samples_that_are_no_text_are_left_out(self):
        for text in (
            "",
            "No end",
            "<b>x</b> is bold, they say.",
            "1. First of a list. 2. Second of it all.",
            "Yes. No. Ok.",
            "`code` is what it is all about.",
        ):
            self.assertIsNone(instruct.sentences(text), text)

    def test_lines_have_the_form_that_is_documented(self):
        for name, task in TASKS.items():
            for split in ("test", "train"):
                for line in task.examples(split, 5, self.seed):
                    self.assertRegex(line["id"], rf"^{name}/{split}/\d{{4}}$")
                    self.assertEqual(line["task"], name)
                    self.assertTrue(all(isinstance(v, (str, int, float, bool)) for v in line["tags"].values()))
                    is_data = split == "train" and name != "instruct"
                    self.assertEqual("completion" in line, is_data)
                    self.assertEqual("messages" in line, not is_data)


class ContaminationTests(unittest.TestCase):
    def lines(self, *texts):
        return [{"messages": [{"role": "user", "content": text}], "tags": {}} for text in texts]

    def test_duplicates_are_found(self):
        long = (
            "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
            "sixteen seventeen eighteen nineteen twenty twentyone twentytwo twentythree 5"
        )
        found = contamination.compare(
            self.lines(long, long.upper() + "!", long.replace("5", "6"), "quite another text"),
            self.lines(long, "nothing of the kind"),
        )
        self.assertEqual((found["exact"], found["near"]), (2, 3))
        self.assertGreater(found["ngrams"], 0.9)
        none = contamination.compare(self.lines("a b c d e f g h i j"), self.lines("k l m n o p q r s t"))
        self.assertEqual((none["exact"], none["near"], none["ngrams"]), (0, 0, 0.0))

    def test_numbers_are_shared_in_any_order_and_template(self):
        def keys(text, template):
            (line,) = self.lines(text)
            return contamination.keys([{**line, "tags": {"template": template}}])

        self.assertEqual(keys("4 boxes with 23 each", "a"), keys("23 coins and 4 more", "b"))
        self.assertNotEqual(keys("4 boxes with 23 each", "a"), keys("4 boxes with 24 each", "a"))
        # A form's own number is none of the problem's.
        self.assertEqual(keys("4 and 23. Your answer must contain 3 bullet points.", "a"), keys("4 and 23.", "a"))


if __name__ == "__main__":
    unittest.main()
