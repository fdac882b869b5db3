"""What validation chooses."""

import unittest

from fusionroute_evaluation import choice

TASKS = ("math", "code", "instruct", "mixed")
EXPERTS = {"math": (0.80, 0, 0, 0), "code": (0, 1.0, 0, 0), "instruct": (0, 0, 0.87, 0)}


def chosen(rows):
    return choice.choice({"methods": [
        {"method": name, "tasks": [{"task": t, "accuracy": v} for t, v in zip(TASKS, values)]}
        for name, values in {**EXPERTS, **rows}.items()
    ]})


class Choice(unittest.TestCase):
    def test_the_bound_goes_before_the_mean(self):
        rows = {"c-1": (0.769, 1.0, 0.91, 0.95), "c-0.5": (0.77, 1.0, 0.87, 0.80), "c-0.25": (0.82, 1.0, 0.88, 0.70)}
        self.assertEqual(chosen(rows), {"--scale": "c-0.5"})
        # Also of code and instruct.
        rows["c-0.5"] = (0.77, 0.96, 0.87, 0.80)
        self.assertEqual(chosen(rows), {"--scale": "c-0.25"})
        rows["c-0.25"] = (0.82, 1.0, 0.83, 0.70)
        # None keeps it: 0.001, 0.01 and 0.01 beyond.
        self.assertEqual(chosen(rows), {"--scale": "c-1"})

    def test_lambda_is_the_best_mean(self):
        rows = {
            "c-1": (0.8, 1.0, 0.9, 0.8), "lambda-0.3": (0.1, 0.5, 0, 0), "lambda-1": (0, 0.5, 0, 0),
            "ties-1": (0.2, 0.6, 0, 0), "ties-2": (0.2, 0.6, 0, 0), "dare-0.5": (0, 0, 0, 0.1),
        }
        self.assertEqual(
            chosen(rows), {"--scale": "c-1", "--lambda": "lambda-0.3", "--ties-lambda": "ties-1", "--dare-lambda": "dare-0.5"}
        )

    def test_experts_are_needed(self):
        with self.assertRaisesRegex(ValueError, "math, code, instruct"):
            choice.choice({"methods": [{"method": "c-1", "tasks": []}]})


if __name__ == "__main__":
    unittest.main()
