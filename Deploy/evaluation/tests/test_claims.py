"""What is claimed of the table."""

import contextlib
import copy
import io
import json
import tempfile
import unittest

from fusionroute_evaluation import claims

TASKS = ("math", "code", "instruct", "mixed")


def row(method, accuracies, difference=None, mixed=None, missing=0):
    """A row of summary.json. `difference`: FusionRoute minus it, as lower, point and upper; `mixed`: the same on mixed."""
    comparison = None
    if difference is not None:
        lower, point, upper = difference
        comparison = {
            "difference": point, "interval": [lower, upper],
            "tasks": [{"task": "mixed", "difference": mixed, "interval": [mixed - 0.01, mixed + 0.01]}],
        }
    cells = [
        {
            "task": task, "prompts": claims.least_prompts(method), "accuracy": value, "passed": 100,
            "passed_with_several_experts": 80,
        }
        for task, value in zip(TASKS, accuracies)
    ]
    return {
        "method": method, "tasks": cells, "average": None, "average_spread": None, "missing_answers": missing,
        "reference_minus_method": comparison,
    }


def summary():
    """Every claim holds by the least that makes it hold."""
    names = [name for name in claims.BASELINES if name not in claims.OPTIONAL]
    rows = [row(name, (0.83, 0.93, 0.73, 0.1), (0.001, 0.02, 0.04), 0.002) for name in names]
    return {"methods": [*rows, row("fusionroute", (0.80, 0.90, 0.70, 0.5))]}


class Claims(unittest.TestCase):
    def broken(self, change):
        """Texts of the claims that do not hold after a change, and of those that are open."""
        changed = copy.deepcopy(summary())
        change({row["method"]: row for row in changed["methods"]}, changed["methods"])
        found = claims.verdict(changed)
        return [t for t, holds in found if holds is False], [t for t, holds in found if holds is None]

    def test_bounds_are_inclusive(self):
        found = claims.verdict(summary())
        self.assertTrue(all(holds for _, holds in found), found)
        # A mean and a mixed difference for each baseline, three domains, and the share of answers by several experts.
        self.assertEqual(len(found), 2 * 12 + 3 + 1)

    def test_each_claim_can_fail(self):
        def mean(rows, _):
            rows["ties"]["reference_minus_method"]["interval"][0] = 0

        def domain(rows, _):
            rows["fusionroute"]["tasks"][1]["accuracy"] = 0.899

        def mixed(rows, _):
            rows["collab"]["reference_minus_method"]["tasks"][0]["difference"] = 0

        def experts(rows, _):
            rows["fusionroute"]["tasks"][3]["passed_with_several_experts"] = 79

        for change, words in [
            (mean, "mean above ties"), (domain, "code: 89.9%"), (mixed, "mixed above collab"), (experts, "79 of 100"),
        ]:
            failed, left_open = self.broken(change)
            self.assertEqual(len(failed), 1, failed)
            self.assertIn(words, failed[0])
            self.assertEqual(left_open, [])

    def test_what_is_missing_is_open(self):
        def unfinished(rows, _):
            rows["router"]["missing_answers"] = 3

        def absent(rows, methods):
            methods.remove(rows["dare"])

        failed, left_open = self.broken(unfinished)
        self.assertEqual((failed, len(left_open)), ([], 2))
        def own(rows, _):
            rows["fusionroute"]["missing_answers"] = 1

        for change in (own, lambda rows, methods: methods.remove(rows["fusionroute"])):
            self.assertEqual(self.broken(change), ([], ["fusionroute has not answered all prompts yet"]))
        failed, left_open = self.broken(absent)
        self.assertEqual((failed, left_open), ([], ["mean above dare: not evaluated", "mixed above dare: not evaluated"]))

    def test_too_few_prompts_leave_a_claim_open(self):
        def few(method):
            def change(rows, _):
                rows[method]["tasks"][2]["prompts"] -= 1

            return self.broken(change)

        self.assertEqual(few("fusionroute"), ([], ["fusionroute answered 499 prompts of a task, 500 are needed"]))
        for method, least in [("router", 500), ("dare", 300), ("collab", 50)]:
            failed, left_open = few(method)
            text = f"above {method}: {least - 1} prompts of a task, {least} are needed"
            self.assertEqual((failed, left_open), ([], [f"mean {text}", f"mixed {text}"]))
        # The expert of that domain, which has a claim of its own.
        self.assertEqual(len(few("instruct")[1]), 3)

    def test_optional_rows_count_where_they_are(self):
        def tuned(_, methods):
            methods.append(row("ties-tuned", (0, 0, 0, 0), (-0.01, 0.02, 0.05), -0.1))

        failed, _ = self.broken(tuned)
        self.assertEqual([text.split(":")[0] for text in failed], ["mean above ties-tuned", "mixed above ties-tuned"])

    def test_variants_are_told_without_a_claim(self):
        table = summary()
        for name in ("no-cdpo", "no-cdpo-seed-2", "sft-continued-seed-2", "router-seed-2"):
            table["methods"].append(row(name, (0, 0, 0, 0), (-0.03, -0.02, -0.01), -0.1))
        seeds = row("routers", (0, 0, 0, 0))
        seeds["average"] = 0.5
        seeds["average_spread"] = {"lowest": 0.49, "highest": 0.51, "standard_deviation": 0.01}
        table["methods"].append(seeds)
        self.assertTrue(all(holds for _, holds in claims.verdict(table)))
        lines = claims.reported(table)
        self.assertEqual(lines[0], "mean minus no-cdpo: -2.0 (-3.0 … -1.0)")
        self.assertEqual(
            [line.split(":")[0] for line in lines[1:4]],
            ["mean minus no-cdpo-seed-2", "mean minus sft-continued-seed-2", "mean minus router-seed-2"],
        )
        self.assertIn("49.0% … 51.0%", lines[4])

    def run_on(self, text):
        """(exit code, output, errors) of the command on a summary.json."""
        output, errors = io.StringIO(), io.StringIO()
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".json") as file:
            file.write(text)
            file.flush()
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
                return claims.main([file.name]), output.getvalue(), errors.getvalue()

    def test_the_command_prints_a_line_for_each_claim(self):
        code, output, errors = self.run_on(json.dumps(summary()))
        self.assertEqual((code, errors), (0, ""))
        self.assertEqual(output.count("holds  "), 2 * 12 + 3 + 1)

    def test_what_is_no_summary_is_refused_in_one_line(self):
        old, halved, bare = summary(), summary(), summary()
        del old["methods"][0]["missing_answers"]
        del halved["methods"][-1]["tasks"]
        bare["methods"] = [5]
        for text, words in (
            ("{", "is no summary"), ("", "is no summary"), ("{}", 'it lacks "methods"'), ("[]", "is no summary"),
            (json.dumps(halved), 'it lacks "tasks"'), (json.dumps(bare), "is no summary"),
            (json.dumps(old), "older fusionroute"),
            # Differences of another row are no claims.
            (json.dumps({**summary(), "reference": "router"}), "compares with router"),
        ):
            code, output, errors = self.run_on(text)
            self.assertEqual((code, output, errors.count("\n")), (65, "", 1), (text[:40], errors))
            self.assertRegex(errors, rf"^claims: /.*\.json .*{words}")
        with contextlib.redirect_stderr(io.StringIO()) as errors:
            self.assertEqual(claims.main(["/nowhere/summary.json"]), 65)
        self.assertIn("/nowhere/summary.json", errors.getvalue())


if __name__ == "__main__":
    unittest.main()
