"""Each grader accepts what it must and refuses what it must."""

import random
import time
import unittest
from decimal import Decimal
from unittest import mock

from fusionroute_evaluation.graders import Grader
from fusionroute_evaluation.graders.answers import final_number, python_blocks, python_code
from fusionroute_evaluation.graders.code import same
from fusionroute_evaluation.tasks import formats, mixed


class GraderTests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.graders = Grader()

    @classmethod
    def tearDownClass(cls):
        cls.graders.sandbox.close()

    def assertGrades(self, grader, accepted, refused, prompt=""):
        for text in accepted:
            verdict = self.graders.grade(grader, text, prompt)
            self.assertTrue(verdict.passed, (text, verdict))
            self.assertEqual(verdict.score, 1.0)
        for text in refused:
            verdict = self.graders.grade(grader, text, prompt)
            self.assertFalse(verdict.passed, (text, verdict))
            self.assertLess(verdict.score, 1.0)
            self.assertNotEqual(verdict.reason, "")


class MathTests(GraderTests):
    def test_the_number_behind_the_last_mark_counts(self):
        self.assertGrades(
            {"name": "math", "answer": 1092},
            [
                "#### 1092",
                "4 boxes with 273 each: 4*273=1092\n#### 1092",
                "####1,092",
                "#### 1092.0",
                "#### $1092 in all",
                "#### 7\nNo, wait.\n#### 1092",
                '"#### 1092"',
                "Good.\n#### 1092.\nHope this helps.",
            ],
            [
                "",
                "1092",
                "The answer is 1092.",
                "#### 1093",
                "#### 109",
                "#### 10920",
                "#### -1092",
                "#### 1092\n#### 3",
                "#### twelve",
                "####",
                "## 1092",
                "#### 1092e3 #### 5",
            ],
        )

    def test_the_expected_number_may_be_a_text(self):
        for answer, text in (("80", "80"), ("1,092", "1092"), ("-3", "-3.0"), ("2.5", "2.5"), (2.5, "2.5")):
            self.assertGrades({"name": "math", "answer": answer}, [f"#### {text}"], ["#### 81", f"#### {text}1", ""])

    def test_a_number_must_stand_alone(self):
        for text, number in (
            ("#### 12", 12),
            ("#### 12  \r\n", 12),
            ("#### 12 apples", 12),
            ("#### 12kg", 12),
            ("#### $12.", 12),
            ("#### 50%", 50),
            ("#### 60 km/h", 60),
            ("**#### 12**", 12),
            ("#### 12\n3 more", 12),
            ("#### 1,234,567", 1234567),
            ("#### 12*7=84", None),
            ("#### 12 * x", None),
            ("#### 80 or 92", None),
            ("#### 80, 92", None),
            ("#### 80,92", None),
            ("####5/2", None),
            ("#### 12 + apples", None),
            ("#### 12 = twelve", None),
            ("#### 2^n", None),
            ("#### 12 - 3", None),
            ("#### 12-3", None),
            ("#### 1e3", None),
            ("#### 1.2.3", None),
            ("#### 12\n#### 80 or 92", None),
            ("#### 7 #### 12", 12),
            ("#### **80**", 80),
            ("#### **$1,280**", 1280),
            ("#### **80** * 2", None),
            ("#### __80__", 80),
        ):
            self.assertEqual(final_number(text), number, text)

    def test_extreme_texts_are_no_errors(self):
        for text in (
            "#### " + "9" * 5000,
            "####" * 100_000,
            "#### 1" * 50_000,
            "#### 1" + "* " * 50_000,
            "#### -",
            "#### 1" + ",," * 1000,
            "\ud800#### \x00",
            "#### ١٢",
        ):
            self.assertFalse(self.graders.grade({"name": "math", "answer": 5}, text).passed)
        self.assertEqual(final_number("#### -1,234.5"), -1234.5)


class CodeTests(GraderTests):
    def test_the_score_of_a_constant_and_of_the_argument_is_0(self):
        cases = [{"arguments": [n], "expected": n // 2} for n in (0, 1, 2, 3, 4, 5)]
        grader = {"name": "code", "function": "f", "cases": cases}
        # Two results are 0, two are 1; the argument is right on 0.
        for body, score in (("0", 0.0), ("1", 0.0), ("n", 0.0), ("max(0, n - 1)", 0.25), ("n // 2", 1.0)):
            verdict = self.graders.grade(grader, f"def f(n):\n    return {body}")
            self.assertEqual((verdict.score, verdict.passed), (score, score == 1), body)

    def test_right_functions_in_all_forms(self):
        grader = {
            "name": "code",
            "function": "solve",
            "cases": [
                {"arguments": [[1, 2, 3, 4]], "expected": 6},
                {"arguments": [[2, 2]], "expected": 4},
                {"arguments": [[1]], "expected": 0},
                {"arguments": [[-2, 8, 5]], "expected": 6},
                {"arguments": [[]], "expected": 0},
            ],
        }
        right = "def solve(numbers):\n    return sum(n for n in numbers if n % 2 == 0)"
        self.assertGrades(
            grader,
            [
                f"```python\n{right}\n```",
                f"Here you go:\n```\n{right}\n```\nP.S. Good luck!",
                right,
                f"Sure.\n{right}\nHope this helps.",
                f'"```python\n{right}\n```"',
                f"```py\n{right}",
                f"```python\n# Even numbers\n{right}\n\nprint(solve([1]))\n```",
                "```python\nimport re\nsolve = lambda n: sum(m for m in n if m % 2 < 1)\ndef g(): pass\n```",
            ],
            [
                "",
                "```python\n```",
                "6",
                "def solve(numbers):\n    return 6",
                "def solve(numbers):\n    return numbers",
                "def solve(numbers):\n    return sum(numbers)",
                right.replace("solve", "other"),
                right.replace(":", "", 1),
                "def solve(numbers):\n    return str(sum(n for n in numbers if n % 2 == 0))",
                "def solve(numbers):\n    print(sum(n for n in numbers if n % 2 == 0))",
                "def solve():\n    return 6",
                "def solve(numbers):\n    return float('nan')",
                "def solve(numbers):\n    raise 1",
                "Write a Python function `solve(numbers)` for a list of integers: keep the even numbers.",
            ],
        )

    def test_kinds_matter(self):
        for result, expected, is_same in (
            (1, 1, True),
            (True, 1, False),
            (1, True, False),
            (1.0, 1, False),
            (1, 1.0, True),
            (0.1 + 0.2, 0.3, True),
            ([1], (1,), False),
            ([1, [True]], [1, [1]], False),
            ("1", 1, False),
            ({"a": 1}, {"a": 1}, True),
            ({"a": True}, {"a": 1}, False),
            ({"a": Decimal("0.5")}, {"a": 0.5}, False),
            ({"a": Decimal("sNaN")}, {"a": 0.5}, False),
            ({"a": 1, "b": 1}, {"a": 1}, False),
            ({"a": [0.1 + 0.2]}, {"a": [0.3]}, True),
            ("", None, False),
        ):
            self.assertEqual(same(result, expected), is_same, (result, expected))

    def test_code_is_found(self):
        self.assertEqual(
            python_code("text\n```python\nf()\n```\n```python\ndef f():\n    pass\n```"), "def f():\n    pass"
        )
        self.assertEqual(
            python_code("1. So:\n   ```python\n   def f():\n       pass\n   ```"), "def f():\n    pass"
        )
        self.assertEqual(python_code("I think def is a word."), "")
        self.assertEqual(python_code("from your text:\nimport the data:\ndef f():\n    pass"), "def f():\n    pass")
        self.assertEqual(python_code("import math as m, re\ndef f():\n    pass"), "import math as m, re\ndef f():\n    pass")
        named = "f = lambda n: n"
        self.assertEqual(python_code(f"So:\n```python\nf(1)\n```\n```python\n{named}\n```", "f"), named)
        self.assertEqual(python_code(f"So:\n{named}\n\nThat is it.", "f"), named)

    def test_constants_before_a_function_are_kept(self):
        constants, function = "import re\nVOWELS = set('aeiou')", "def f(t):\n    return [c for c in t if c in VOWELS]"
        grader = {"name": "code", "function": "f", "cases": [{"arguments": ["queue"], "expected": list("ueue")}]}
        blocks = f"```python\n{constants}\n```\nand\n```python\n{function}\n```"
        plain = f"I keep them:\n\nVOWELS = 'aeiou'\n\n{function}\n\nThat is it."
        # What runs, and may fail, is not kept; nor is prose.
        calls = f"```python\nn = int(input())\nimport numpy\n```\n```python\n{function.replace('VOWELS', repr('aeu'))}\n```"
        prose = f"x = what the text has\n{function.replace('VOWELS', repr('aeu'))}"
        self.assertGrades(grader, [blocks, plain, calls, prose], [plain.replace("aeiou", "aei")])
        self.assertEqual(python_code("def f(x):\n    return x\n\nThat was it."), "def f(x):\n    return x")

    def test_the_block_with_the_wanted_function_is_the_answer(self):
        f, g = "def f():\n    return 1", "def g():\n    return 2"
        two = f"```python\n{g}\n```\nAnd now:\n```python\n{f}\n```"
        self.assertEqual(python_code(two), g)
        self.assertEqual(python_code(two, "f"), f)
        self.assertEqual(python_code(two, "ff"), g)
        grader = {"name": "code", "function": "f", "cases": [{"arguments": [], "expected": 1}]}
        self.assertGrades(grader, [two, f"```text\n{g}\n```\n{two}"], [two.replace("return 1", "return 2")])

    def test_long_lines_come_to_an_end(self):
        # A search that tries every split of such a line would take hours.
        for line in ["```" + "a" * 300_000 + "`", "```" + " " * 300_000 + "`", "`" * 300_000, "x" * 300_000 + "``"]:
            self.assertIn(python_blocks(line + "\ndef f():\n    pass"), ([], ["def f():\n    pass"]))

    def test_long_white_space_comes_to_an_end(self):
        postscript = {"id": "detectable_content:postscript", "arguments": {"postscript_marker": "P.S."}}
        record = {"prompt": "x", "instruction_id_list": [postscript["id"]], "kwargs": [postscript["arguments"]]}
        began = time.process_time()
        for spaces in ("\n" * 100_000, " " * 100_000):
            for grader in ({"name": "instruct", "instructions": [postscript]}, {"name": "ifeval", "record": record}):
                self.graders.grade(grader, f"Text{spaces}P.S. A word.", "x")
        # The square of it takes minutes.
        self.assertLess(time.process_time() - began, 20)

    def test_fences_open_and_close_in_turn(self):
        for text, blocks in (
            ("```text\nfirst\n```\nwords\n```python\ncode\n```\nmore", ["code"]),
            ("```text\nfirst\n```\ndef f(): pass", []),
            ("```\na\n```\n```py\nb\n```", ["a", "b"]),
            ("```Python\na\n\nb\n  ```\"", ["a\n\nb"]),
            ("\"```python\r\na\r\n```\"", ["a\r"]),
            ("So: ```python title=x\na", ["a"]),
            ("````python\na\n````", ["a"]),
            ("``` x ```\n```python\n```", [""]),
            ("", []),
        ):
            self.assertEqual(python_blocks(text), blocks, text)


class InstructTests(GraderTests):
    TEXT = "Rivers carry water to the sea and many animals live in them."

    def grader(self, *instructions):
        return {"name": "instruct", "instructions": [i.fields for i in instructions]}

    def test_local_formats(self):
        t = self.TEXT
        made = formats.Instruction
        for instruction, accepted, refused in (
            (
                made("multi-turn:constrained_start", {"starter": "Here we go:"}),
                [
                    f"Here we go:\n{t}",
                    f"Here we go: {t}",
                    f"\n  Here we go: {t}",
                    f"<<Rivers>>\nHere we go:\n{t}",
                    f'"Here we go:\n{t}"',
                    f'"<<Rivers>>\nHere we go:\n{t}"',
                ],
                [
                    t,
                    f"{t} Here we go:",
                    f"{t}\nHere we go: {t}",
                    f"I can help.\nHere we go:\n{t}",
                    f"So, here we go: Here we go: {t}",
                    f"Here we went: {t}",
                    f"here we go: {t}",
                    f'"Here we go: {t}',
                    f"<<Rivers>> Here we go: {t}",
                    f"<<Rivers>>\n<<Seas>>\nHere we go: {t}",
                ],
            ),
            (
                made("multi-turn:constrained_start", {"starter": "Good morning."}),
                [f"Good morning. {t}"],
                [f"Good morningX {t}"],
            ),
            (made("multi-turn:constrained_start", {"starter": "(Hm"}), [f"(Hm) {t}"], [f"Hm {t}"]),
            (
                made("startend:end_checker", {"end_phrase": "That is all."}),
                [f"{t}\nThat is all.", f"{t} That is all.\n"],
                [t, f"That is all. {t}", f"{t} That is all. Bye."],
            ),
            (
                made("detectable_format:title"),
                [f"<<Rivers>>\n{t}"],
                [t, f"<Rivers>\n{t}", f"<<>>\n{t}", f"# Rivers\n{t}"],
            ),
            (
                made("detectable_content:postscript", {"postscript_marker": "P.S."}),
                [f"{t}\nP.S. More soon."],
                [t, f"{t}\nPS More soon."],
            ),
            (
                made("detectable_content:postscript", {"postscript_marker": "P.P.S"}),
                [f"{t}\nP.P.S More."],
                [f"{t}\nP.S. M."],
            ),
            (made("startend:quotation"), [f'"{t}"', f' "{t}"\n'], [t, f'"{t}', f"'{t}'"]),
            (formats.bullets(2), [f"* {t}\n* {t}", f"Two:\n- {t}\n- {t}"], [t, f"* {t}", f"* {t}\n* {t}\n* {t}"]),
            (made("punctuation:no_comma"), [t], [t + " So, there."]),
            (made("change_case:english_lowercase"), [t.lower()], [t]),
            (
                made("detectable_format:number_highlighted_sections", {"num_highlights": 1}),
                [t.replace("water", "*water*")],
                [t],
            ),
        ):
            with self.subTest(instruction=instruction):
                self.assertGrades(self.grader(instruction), accepted, [*refused, ""])

    def test_all_instructions_must_hold_and_the_score_is_the_share(self):
        grader = self.grader(formats.title(), formats.Instruction("startend:end_checker", {"end_phrase": "Bye."}))
        self.assertTrue(self.graders.grade(grader, f"<<R>>\n{self.TEXT} Bye.").passed)
        half = self.graders.grade(grader, f"<<R>>\n{self.TEXT}")
        self.assertFalse(half.passed)
        self.assertEqual(half.score, 0.5)

    def test_a_format_without_words_and_a_copy_of_the_prompt_fail(self):
        instruction = formats.title()
        grader = self.grader(instruction)
        self.assertGrades(
            grader, [], ["<<Rivers>>", "<<a>> 1 2 3 4 5", f"Tell me about rivers. {instruction.description}"]
        )

    def test_what_is_copied_from_the_prompt_is_no_answer(self):
        lower = formats.Instruction("change_case:english_lowercase")
        end = formats.Instruction("startend:end_checker", {"end_phrase": "That is all."})
        for instruction, request, accepted, refused in (
            (lower, "Tell me something about rivers.", [self.TEXT.lower()], ["tell me something about rivers."]),
            (
                end,
                "Give a short description of public transport.",
                [
                    "Public transport takes many people to work. That is all.",
                    "A short description of public transport: it takes many people to work. That is all.",
                    "Give a short description of public transport. It takes many people to work. That is all.",
                ],
                [
                    "Give a short description of public transport. That is all.",
                    "give  a short\ndescription of *public transport*! That is all.",
                    "A short description of public transport. That is all.",
                ],
            ),
        ):
            prompt = f"{request} {instruction.description}"
            copies = [prompt, prompt.lower(), prompt.upper(), prompt.replace(" ", "\n")]
            copies += [f"{copy} That is all." for copy in copies]
            self.assertGrades(self.grader(instruction), accepted, [*refused, *copies], prompt)

    def test_filler_is_no_answer(self):
        grader = self.grader(formats.Instruction("punctuation:no_comma"))
        line = "One thing after the other."
        self.assertGrades(
            grader,
            [f"{line}\n" * 3 + self.TEXT, "Oh yes. " * 9 + self.TEXT, "\n".join(f"{n} is a number." for n in range(9))],
            [
                f"{line}\n" * 4,
                f"{line} " * 30,
                f"A good question.\n{line}\n" * 20,
                f"{self.TEXT}\n" + "* one thing  after the other\n" * 4,
                "One. Two. Three.\n" * 9,
            ],
        )

    def test_what_the_instructions_demand_is_no_answer(self):
        made = formats.Instruction
        title, start = formats.title(), made("multi-turn:constrained_start", {"starter": "Here is what I know:"})
        end = made("startend:end_checker", {"end_phrase": "I hope that this helps you."})
        postscript = made("detectable_content:postscript", {"postscript_marker": "P.S."})
        self.assertGrades(
            self.grader(title, postscript),
            [f"<<Rivers of the world>>\n{self.TEXT}\nP.S. More soon."],
            ["<<Rivers of the world and more>>\n\nP.S. Keep this for later, it is long."],
        )
        self.assertGrades(
            self.grader(start, end),
            [f"Here is what I know: {self.TEXT} I hope that this helps you."],
            ["Here is what I know: 7. I hope that this helps you."],
        )


class MixedTests(GraderTests):
    def test_parts_are_graded_apart_and_together(self):
        grader = {"name": "mixed", "instructions": [formats.title().fields], "content": {"name": "math", "answer": 12}}
        steps = "3 bags with 4 each: 3*4=12\n#### "
        for text, form, content in (
            (f"<<A sum>>\n{steps}12", True, True),
            (f"<<A sum>>\n{steps}13", True, False),
            (f"{steps}12", False, True),
            ("twelve", False, False),
        ):
            verdict = self.graders.grade(grader, text)
            self.assertEqual(verdict.parts, {"format": form, "content": content})
            self.assertEqual(verdict.passed, form and content)
            self.assertEqual(verdict.score, (form + content) / 2)

    def test_the_example_of_a_prompt_is_no_form(self):
        """An instruction shows what it asks for, so that a copy of it would have it."""
        for line in mixed.examples("validation", 60, 1):
            prompt = line["messages"][0]["content"]
            self.assertFalse(self.graders.grade(line["grader"], prompt, prompt).parts["format"], prompt)
        for instruction in (formats.title(), formats.postscript(random.Random(1))):
            grader = {"name": "mixed", "instructions": [instruction.fields], "content": {"name": "math", "answer": 12}}
            own = {"detectable_format:title": "<<A sum>>\n#### 12"}.get(
                instruction.identifier, f"#### 12\n{instruction.arguments.get('postscript_marker')} Well counted."
            )
            for text, form in ((f"{instruction.description}\n#### 12", False), (own, True)):
                verdict = self.graders.grade(grader, text)
                self.assertEqual((verdict.parts["format"], verdict.passed), (form, form), text)

    def test_code_in_a_form(self):
        grader = {
            "name": "mixed",
            "instructions": [formats.quotation().fields],
            "content": {
                "name": "code",
                "function": "f",
                "cases": [{"arguments": [n], "expected": n * n} for n in range(2, 8)],
            },
        }
        code = "```python\ndef f(n):\n    return n * n\n```"
        self.assertGrades(
            grader, [f'"{code}"', f'"Sure.\n{code}\n"'], [code, f'"{code.replace("n * n", "n + n")}"', '""']
        )


class LineTests(GraderTests):
    def test_lines_that_no_grader_can_use_are_said_to_be_so(self):
        for grader in (
            None,
            {},
            {"name": "chess"},
            {"name": 5},
            {"name": "math"},
            {"name": "math", "answer": "eighty"},
            {"name": "math", "answer": ""},
            {"name": "math", "answer": None},
            {"name": "math", "answer": True},
            {"name": "math", "answer": [80]},
            {"name": "math", "answer": float("nan")},
            {"name": "formal", "answer": ""},
            {"name": "formal", "answer": " \n"},
            {"name": "code", "function": "f"},
            {"name": "instruct"},
            {"name": "instruct", "instructions": []},
            {"name": "instruct", "instructions": [{"id": "no:such", "arguments": {}}]},
            {"name": "instruct", "instructions": [{"id": "startend:end_checker", "arguments": {}}]},
            {"name": "instruct", "instructions": [{"id": "startend:end_checker", "arguments": {"end_phrase": None}}]},
            {"name": "instruct", "instructions": [{"id": formats.START, "arguments": {}}]},
            {"name": "instruct", "instructions": [formats.bullets(-1).fields]},
            {"name": "instruct", "instructions": [{"id": "length_constraints:number_words", "arguments": {"num_words": 5}}]},
            {"name": "mixed", "instructions": []},
            {"name": "mixed", "instructions": [], "content": {"name": "any"}},
            {"name": "gsm8k", "record": {}},
            {"name": "gsm8k"},
            {"name": "humaneval", "record": {"prompt": "x"}},
            {"name": "ifeval", "record": []},
        ):
            # Whatever the answer is.
            for text in ("#### 5 def f", ""):
                with self.assertRaises(ValueError, msg=(grader, text)):
                    self.graders.grade(grader, text)

    def test_a_division_by_zero_is_an_error_of_its_line(self):
        with mock.patch.object(Grader, "_math", lambda *_: 1 // 0), self.assertRaises(ValueError):
            self.graders.grade({"name": "math", "answer": 5}, "#### 5")
        # What is too large is the answer's.
        with mock.patch.object(Grader, "_math", lambda *_: 2.0**5000), self.assertRaises(OverflowError):
            self.graders.grade({"name": "math", "answer": 5}, "#### 5")


if __name__ == "__main__":
    unittest.main()
