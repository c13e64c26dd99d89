#!/usr/bin/env python3
"""The judge of plans is judged by a folder worked out by hand."""

import contextlib
import io
import json
import pathlib
import tempfile
import unittest

import check_plan

# Two clusters. 0: chunks (1, 0) and (5, 3), 7 is left over; 1: (4, 2), 6 is left over. Row 8 is
# dropped. In round 0 the chunk of cluster 1 is easier: 13 + 16 < 10 + 20.
DIFFICULTIES = [20, 10, 16, 40, 13, 30, 33, 50, None]
CLUSTERS = [0, 0, 1, 0, 1, 0, 1, 0, 1]
PLAN = [(1, [4, 2]), (0, [1, 0]), (0, [5, 3]), (None, [6, 7])]


def write_folder(folder, plan, rest=(), batches="", shift=0):
    folder = pathlib.Path(folder)
    places, position = {}, 0
    for b, (_, rows) in enumerate(plan):
        for row in rows:
            places[row] = (b, position)
            position += 1
    scores = []
    for row, difficulty in enumerate(DIFFICULTIES):
        batch, position = places.get(row, (None, None))
        scores.append(
            {
                "row": row,
                "id": "r%d" % row,
                "kept": row != 8,
                "cluster": CLUSTERS[row],
                "difficulty": None if difficulty is None else (difficulty + shift) / 64,
                "batch": batch,
                "position": position,
            }
        )
    (folder / "scores.jsonl").write_text("".join(json.dumps(s) + "\n" for s in scores))
    (folder / "batches.jsonl").write_text(
        "".join(
            json.dumps({"batch": b, "cluster": c, "rows": rows, "ids": ["r%d" % r for r in rows]})
            + "\n"
            for b, (c, rows) in enumerate(plan)
        )
    )
    lines = ['{"n":%d}\n' % row for _, rows in plan for row in rows]
    lines += ['{"n":%d}\n' % row for row in rest]
    (folder / "kept.jsonl").write_text("".join(lines))
    (folder / "data.jsonl").write_text("".join('{"n":%d}\n' % row for row in range(9)))
    (folder / "recipe.lock.yaml").write_text(
        "version: 1\nname: hand # made\nseed: 42\nquality:\n  size: 7\n"
        + (
            batches
            or "batches:\n  size: 2\n  order: easy_to_hard\n  grouping: cluster\n"
            "  mixing: 0\n  mixing_chain: false\n  drop_last: false\n"
        )
        + "online:\n  size: 9\n"
    )


class CheckPlan(unittest.TestCase):
    def verdict(self, *arguments, data=True, **keywords):
        with tempfile.TemporaryDirectory() as folder:
            write_folder(folder, *arguments, **keywords)
            said = io.StringIO()
            with contextlib.redirect_stdout(said):
                options = ["--data", folder + "/data.jsonl"] if data else []
                status = check_plan.main([folder] + options)
            return status, said.getvalue().strip()

    def test_the_plan_by_hand_is_identical(self):
        self.assertEqual(self.verdict(PLAN), (0, "identical: 8 rows, 4 batches"))
        self.assertEqual(self.verdict(PLAN, shift=-100)[0], 0)
        self.assertEqual(self.verdict(PLAN, data=False)[0], 0)

    def test_rows_in_other_order_are_told(self):
        plan = [PLAN[0], (0, [0, 1]), PLAN[2], PLAN[3]]
        self.assertEqual(
            self.verdict(plan), (1, "row 0: (batch, position): (1, 2), expected (1, 3)")
        )

    def test_batches_in_other_order_are_told(self):
        status, said = self.verdict([PLAN[1], PLAN[0], PLAN[2], PLAN[3]])
        self.assertEqual(status, 1)
        self.assertIn("row 0", said)

    def test_a_wrong_cluster_is_told(self):
        plan = PLAN[:3] + [(1, [6, 7])]
        self.assertEqual(self.verdict(plan), (1, "batch 3: cluster: 1, expected None"))

    def test_other_settings_have_other_plans(self):
        flow = (
            "batches: {size: 3, order: hard_to_easy, grouping: none, mixing: 0.5,"
            " mixing_chain: true, drop_last: true}\n"
        )
        self.assertEqual(self.verdict(PLAN, batches=flow)[0], 1)
        plan = [(None, [7, 3, 6]), (None, [5, 0, 2])]
        self.assertEqual(
            self.verdict(plan, [4, 1], batches=flow), (0, "identical: 8 rows, 2 batches")
        )
        turns = flow.replace("none", "spread").replace("hard_to_easy", "none")
        plan = [(None, [0, 2, 1]), (None, [4, 3, 6])]
        self.assertEqual(self.verdict(plan, [5, 7], batches=turns)[0], 0)

    def test_mixing_swaps_tails(self):
        flow = (
            "batches: {size: 2, order: easy_to_hard, grouping: cluster, mixing: 0.25,"
            " mixing_chain: false, drop_last: false}\n"
        )
        plan = [(1, [4, 0]), (0, [1, 2]), (0, [5, 7]), (None, [6, 3])]
        self.assertEqual(self.verdict(plan, batches=flow)[0], 0)
        chain = [(1, [4, 0]), (0, [1, 7]), (0, [5, 2]), (None, [6, 3])]
        flow = flow.replace("mixing_chain: false", "mixing_chain: true")
        self.assertEqual(self.verdict(chain, batches=flow)[0], 0)

    def test_hashes_equal_those_of_xxhash(self):
        # XXH3_64bits_withSeed of libxxhash 0.8.1
        for row, seed, expected in (
            (0x0, 0x0, 0xC77B3ABB6F87ACD9),
            (0x1, 0x2A, 0xE3ACD5DEC7D7D3FB),
            (0x2, 0x7, 0x5548D62560EB7951),
            (0x4D, 0xDEADBEEFCAFEBABE, 0x60632370E8270B53),
            (0x75BCD15, 0x1, 0x9A50464131FAE77D),
            (0xFEDCBA9876543210, 0x123456789ABCDEF, 0xDA592158C24712AF),
            (0xFFFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF, 0xDA8F77A4D5C399EA),
        ):
            self.assertEqual(check_plan.xxh3_64_of_row(row, seed), expected)


if __name__ == "__main__":
    unittest.main()
