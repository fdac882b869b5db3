"""The files of published problems, and GSM-Symbolic's among them."""

import io
import random
import re
import tempfile
import unittest
from contextlib import redirect_stderr, redirect_stdout
from fractions import Fraction
from pathlib import Path
from unittest import mock

from fusionroute_evaluation import benchmarks, references

from .agreement import BenchmarkTests


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
