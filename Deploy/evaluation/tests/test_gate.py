"""What must hold before stage 2."""

import unittest

from fusionroute_evaluation import gate


def rows(**changes):
    """Accuracies just at every bound, but for changes as METHOD_TASK."""
    methods = {
        "math": {"math": 0.60}, "code": {"code": 0.50}, "instruct": {"instruct": 0.40},
        "no-complement": {"math": 0.57, "code": 0.47, "instruct": 0.37}, "fine-tuned": {"math": 0.45},
        "fusion": {"mixed": 0.10},
    }
    for name, value in changes.items():
        method, _, task = name.rpartition("_")
        methods[method.replace("_", "-")][task] = value
    return methods


class Gate(unittest.TestCase):
    def held(self, **changes):
        return [holds for _, holds in gate.verdict(rows(**changes))]

    def test_bounds_are_inclusive(self):
        self.assertEqual(self.held(), [True] * 5)

    def test_each_bound_is_looked_at(self):
        for index, change in enumerate([
            {"no_complement_math": 0.56}, {"no_complement_code": 0.46}, {"no_complement_instruct": 0.36},
            {"fine_tuned_math": 0.46}, {"fusion_mixed": 0.09},
        ]):
            self.assertEqual([place for place, holds in enumerate(self.held(**change)) if not holds], [index], change)

    def test_reads_what_eval_writes(self):
        summary = {"methods": [{"method": "math", "tasks": [{"task": "math", "prompts": 5, "passed": 3, "accuracy": 0.6}]}]}
        self.assertEqual(gate.accuracies(summary), {"math": {"math": 0.6}})


if __name__ == "__main__":
    unittest.main()
