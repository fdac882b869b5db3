"""Verdicts on GSM8K and MATH-500."""

import re
import unittest

from fusionroute_evaluation import benchmarks

from .agreement import BenchmarkTests


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


if __name__ == "__main__":
    unittest.main()
