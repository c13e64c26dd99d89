"""saerl.adapters in stand-ins of their trainers: killed in mid-epoch and resumed, the sequence of
prompts is that of a run nobody killed, and no reward is lost or counted twice.

With SAERL_PROGRAM=path/to/saerl the sidecar is the real one.
"""

import asyncio
import collections
import logging
import os
import threading
import types
import unittest

from support import FolderCase, need, program

need("numpy", "zmq")

import stand_ins  # noqa: E402

stand_ins.install()

from mock_sidecar import MockSidecar  # noqa: E402
from real_sidecar import RealSidecar  # noqa: E402

import saerl.adapters.slime as slime  # noqa: E402
import saerl.adapters.verl as verl  # noqa: E402
from saerl import Curator, CuratorError, SidecarAway  # noqa: E402
from stand_ins import Columns, Killed  # noqa: E402

try:
    import torch

    torch.set_num_threads(1)
    import saerl.adapters.trl as trl
except ImportError:
    torch = trl = None

logging.disable(logging.CRITICAL)

ROWS = 200


class AdapterCase(FolderCase):
    def setUp(self):
        super().setUp()
        self.sidecar = RealSidecar(program(), self.dir, rows=ROWS) if program() else \
            MockSidecar("ipc://%s/s" % self.dir, rows=ROWS)
        self.addCleanup(self.sidecar.stop)
        self.told = collections.Counter()  # (run, seq, sid): rollouts that were accepted
        self.doubled = 0
        real, real_restore, case = Curator.feedback, Curator.restore, self

        def feedback(curator, seq, sid, reward, **more):
            result = real(curator, seq, sid, reward, **more)
            case.assertEqual(result.unknown, 0)
            case.doubled += result.duplicate
            if result.accepted == len(sid):
                case.told.update((curator.run, seq, int(s)) for s in sid)
            return result

        def restore(curator, *args, **more):
            result = real_restore(curator, *args, **more)
            # The branch that is left takes its feedback along.
            for key in [k for k in case.told if k[0] == curator.run and k[1] >= case.resume_seq]:
                del case.told[key]
            return result

        self.resume_seq = 0
        Curator.feedback, Curator.restore = feedback, restore
        self.addCleanup(setattr, Curator, "feedback", real)
        self.addCleanup(setattr, Curator, "restore", real_restore)

    def environment(self, run, **more):
        values = {"SAERL_ENDPOINT": self.sidecar.endpoint, "SAERL_RUN": run, "SAERL_TIMEOUT_S": "20", **more}
        for name in [n for n in os.environ if n.startswith("SAERL_") and n != "SAERL_PROGRAM"]:
            del os.environ[name]
        os.environ.update(values)
        self.addCleanup(lambda: [os.environ.pop(name, None) for name in values])

    def new_worker(self):
        """A reward worker of verl, as a new process would be."""
        def close():
            if verl._curator is not None:
                verl._curator.close()
            verl._curator = None

        close()
        self.addCleanup(close)

    def curator(self, run, **more):
        more.setdefault("timeout_s", 20)
        curator = Curator(self.sidecar.endpoint, run, **more)
        self.addCleanup(curator.close)
        return curator

    def plan(self, run, sizes):
        """What a run of its own is given."""
        curator = self.curator(run)
        return [["row %d" % s for s in curator.next_batch(n).sid.tolist()] for n in sizes]

    def assert_told(self, run, each):
        """Every prompt of every batch has `each` rollouts that were counted."""
        counts = {k: v for k, v in self.told.items() if k[0] == run}
        self.assertTrue(counts)
        self.assertEqual(set(counts.values()), {each})
        return len(counts)


class Verl(AdapterCase):
    def setUp(self):
        super().setUp()
        train = [{"prompt": "row %d" % i} for i in range(ROWS)]
        # In another order than the recipe's, and with a prompt that verl finds too long.
        train = train[50:] + [{"prompt": "long " * 20}] + train[:50]
        val = [{"prompt": "val %d" % i} for i in range(6)]
        self.config = types.SimpleNamespace(train_files="train", val_files="val",
                                            files={"train": train, "val": val})
        self.score = verl.with_feedback(lambda data_source, solution_str, ground_truth, extra_info=None:
                                        {"score": float(int(solution_str) % 2), "acc": 1})

    def trainer(self, run, folder=None, score=None, **more):
        settings = {"n": 3, "batch": 8, "gen_batch": 8, "save_every": 2, **more}
        self.environment(run, SAERL_LENGTH="4000")
        folder = self.dir / (folder or run)
        folder.mkdir(exist_ok=True)
        self.new_worker()
        made = stand_ins.VerlTrainer(verl.CuratedDataset, self.config, folder, score or self.score, **settings)
        self.addCleanup(made.train.position.curator.close)
        return made

    def test_batches_are_the_sidecars_whatever_the_loader_asks_for(self):
        trained = []
        self.trainer("a").fit(4, trained)
        self.assertEqual([rows for _, rows in trained], self.plan("b", [8] * 4))
        self.assertEqual(self.assert_told("a", 3), 32)

    def test_resumed_in_mid_epoch_it_is_the_run_nobody_killed(self):
        whole = []
        self.trainer("whole").fit(9, whole)
        for name, death in (("between", dict(die_after=5)), ("within", dict(die_in=5))):
            with self.subTest(name):
                trained = []
                with self.assertRaises(Killed):
                    self.trainer(name).fit(9, trained, **death)
                self.resume_seq = 4
                self.sidecar.restart()
                again = self.trainer(name)
                self.assertEqual(again.step, 4)
                del trained[4:]
                again.fit(9, trained)
                self.assertEqual(trained, whole)
                self.assertEqual(self.assert_told(name, 3), 72)
        self.assertEqual(self.doubled, 0)

    def test_one_prompt_at_a_time_as_with_dapo(self):
        trained = []
        with self.assertRaises(Killed):
            self.trainer("a", gen_batch=1).fit(6, trained, die_after=3)
        self.resume_seq = 16
        again = self.trainer("a", gen_batch=1)
        del trained[2:]
        again.fit(6, trained)
        self.assertEqual([rows for _, rows in trained], self.plan("b", [8] * 6))
        self.assert_told("a", 3)

    def test_validation_rows_pass_through_and_are_not_told(self):
        trainer = self.trainer("a")
        got = trainer.validate()
        self.assertEqual(sorted(p for p, _ in got), ["val %d" % i for i in range(6)])
        self.assertEqual(len(trainer.val), 6)
        self.assertEqual(trainer.val.state_dict(), {})
        self.assertEqual(self.told, {})

    def test_reward_functions_may_be_async(self):
        async def score(data_source, solution_str, ground_truth, extra_info=None):
            await asyncio.sleep(0)
            return 0.5

        wrapped = verl.with_feedback(score)
        self.assertTrue(asyncio.iscoroutinefunction(wrapped))
        self.trainer("a", score=lambda **kw: asyncio.run(wrapped(**kw))).fit(1, [])
        self.assert_told("a", 3)

    def test_a_prompt_the_trainer_threw_away_is_told(self):
        self.config.files["train"] = self.config.files["train"][:100]
        with self.assertRaisesRegex(CuratorError, "not among the trainer's rows"):
            self.trainer("a").fit(20, [])
        self.config.files["train"] = [{"prompt": "other %d" % i} for i in range(9)]
        with self.assertRaisesRegex(CuratorError, "none of the trainer's 9 prompts"):
            self.trainer("a")

    def test_without_settings_it_says_which(self):
        self.environment("a")
        del os.environ["SAERL_RUN"]
        with self.assertRaisesRegex(CuratorError, "SAERL_RUN is not set"):
            verl.CuratedDataset(data_files="train", tokenizer=None, config=self.config)


@unittest.skipIf(trl is None, "no torch")
class Trl(AdapterCase):
    def trainers(self, run, ranks=1, on_failure="error", rows=None, **more):
        """One a rank, as threads; function(list of generated prompts) -> None."""
        class Trainer(trl.Curated, stand_ins.GRPOTrainer):
            pass

        world = {"n": ranks, "barrier": threading.Barrier(ranks), "parts": {}}
        made = []
        for rank in range(ranks):
            args = types.SimpleNamespace(**{
                "num_generations": 4, "num_iterations": 1, "steps_per_generation": 2,
                "per_device_train_batch_size": 8 // ranks, "gradient_accumulation_steps": 2,
                "generation_batch_size": 16, "reward_weights": [1.0, 0.5], "save_steps": 2,
                "output_dir": str(self.dir / run), "resume_from_checkpoint": None, **more})
            funcs = [lambda prompts, completions: [1.0] * len(prompts),
                     lambda prompts, completions: [None if i % 2 else 1.0 for i in range(len(prompts))]]
            made.append(Trainer(
                types.SimpleNamespace(training=True), funcs, args,
                Columns(rows or [{"prompt": "row %d" % i} for i in range(ROWS)]),
                stand_ins.Accelerator(rank, world), curator=self.curator(run, on_failure=on_failure,
                                                                         spool=str(self.dir / "spool"))))
        return made

    def run_all(self, trainers, generated, until, **more):
        errors = []

        def one(trainer):
            try:
                trainer.train(generated, until, **more)
            except Exception as error:  # noqa: BLE001
                errors.append(error)

        threads = [threading.Thread(target=one, args=(t,)) for t in trainers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]

    def test_generates_from_the_sidecars_batches_and_tells_their_rewards(self):
        generated = []
        self.run_all(self.trainers("a"), generated, 6)
        self.assertEqual(generated, self.plan("b", [4] * 6))
        self.assertEqual(self.assert_told("a", 4), 24)

    def test_over_the_end_of_an_epoch(self):
        generated = []
        self.run_all(self.trainers("a", save_steps=1000), generated, ROWS // 4 + 3)
        self.assertEqual(generated, self.plan("b", [4] * (ROWS // 4 + 3)))

    def test_resumed_in_mid_epoch_it_is_the_run_nobody_killed(self):
        for ranks in (1, 2):
            with self.subTest(ranks=ranks):
                run = "ranks-%d" % ranks
                generated = []
                with self.assertRaises(Killed):
                    self.run_all(self.trainers(run, ranks), generated, 12, die_after=5)
                self.resume_seq = 4
                self.sidecar.restart()
                del generated[4:]
                self.run_all(self.trainers(run, ranks), generated, 12, resume=4)
                # Rank 0 sees the first prompts of each batch.
                self.assertEqual(generated, [b[:4 // ranks] for b in self.plan("plan" + run, [4] * 12)])
                self.assertEqual(self.assert_told(run, 4), 48)
        self.assertEqual(self.doubled, 0)

    def test_a_checkpoint_within_a_batchs_steps_generates_it_anew_and_counts_it_once(self):
        # Eight micro-steps a generation, two an optimizer step: step 6 is in the middle of batch 1.
        more = dict(num_iterations=2, steps_per_generation=4, per_device_train_batch_size=4, save_steps=3)
        generated = []
        with self.assertRaises(Killed):
            self.run_all(self.trainers("a", **more), generated, 20, die_after=7)
        self.assertEqual(len(generated), 2)
        self.resume_seq = 2
        self.run_all(self.trainers("a", **more), generated, 20, resume=6)
        plan = self.plan("b", [4] * 6)
        self.assertEqual(generated[:2], plan[:2])
        self.assertEqual(generated[2:], plan[1:1 + len(generated) - 2])
        self.assertEqual(self.doubled, 16)
        self.assert_told("a", 4)

    def test_evaluation_is_not_told(self):
        (trainer,) = self.trainers("a")
        self.run_all([trainer], [], 1)
        before = dict(self.told)
        trainer.evaluate([{"prompt": "row 1"}] * 4)
        self.assertEqual(self.told, before)

    def test_a_row_number_column_serves_where_prompts_changed(self):
        rows = [{"prompt": "changed %d" % i, "sid": i} for i in reversed(range(ROWS))]
        generated = []
        self.run_all(self.trainers("a", rows=rows), generated, 3)
        self.assertEqual(generated, [[p.replace("row", "changed") for p in b] for b in self.plan("b", [4] * 3)])

    def test_several_ranks_must_agree(self):
        with self.assertRaisesRegex(CuratorError, "must be 'error'"):
            self.trainers("a", ranks=2, on_failure="passthrough")


class Slime(AdapterCase):
    def args(self, run, **more):
        folder = self.dir / ("slime-" + run)
        folder.mkdir(exist_ok=True)
        return types.SimpleNamespace(**{
            "rows": [{"prompt": "row %d" % i} for i in range(ROWS)], "n_samples_per_prompt": 2,
            "rollout_batch_size": 4, "over_sampling_batch_size": 6, "apply_chat_template": False,
            "reward_key": None, "save": str(folder), "load": str(folder), **more})

    def source(self, run, **more):
        self.environment(run)
        source = slime.CuratedDataSource(self.args(run, **more))
        self.addCleanup(source.position.curator.close)
        return source

    def rollout(self, source, i, abort=True):
        # Every fifth prompt is dropped by the filter; it is told all the same.
        data, everything = stand_ins.slime_rollout(
            source.args, i, source, slime.send_feedback,
            keep=lambda group: int(str(group[0].prompt).split()[-1]) % 5 != 0, abort=abort)
        return [g[0].prompt for g in everything], [g[0].prompt for g in data]

    def test_draws_the_sidecars_samples_and_tells_dropped_groups_too(self):
        source = self.source("a")
        self.assertEqual(len(source), ROWS)
        seen = [p for i in range(5) for p in self.rollout(source, i)[0]]
        drawn = [p for b in self.plan("b", [n for _, n in self.draws(source, "a")]) for p in b]
        self.assertEqual(seen, drawn[:len(seen)])
        self.assertEqual(self.assert_told("a", 2), len(seen))

    def draws(self, source, run):
        """What was fetched: (seq, n), asked of the sidecar again."""
        out = []
        for seq in range(source.position.seq):
            for n in range(1, 13):
                try:
                    out.append((seq, len(source.position.curator.fetch(seq, n).sid)))
                    break
                except CuratorError:
                    continue
        return out

    def test_resumed_it_is_the_run_nobody_killed(self):
        def run(name, kill):
            source = self.source(name)
            seen = []
            for i in range(4):
                seen.append(self.rollout(source, i))
                if i == 2:
                    source.save(i)
                    self.resume_seq = source.position.seq
            if kill:
                del seen[3:]
                self.sidecar.restart()
                source = self.source(name)
                source.load(2)
                for key in [k for k in self.told if k[0] == name and k not in saved[name]]:
                    del self.told[key]
                for i in range(3, 4):
                    seen.append(self.rollout(source, i))
            for i in range(4, 7):
                seen.append(self.rollout(source, i))
            return seen, source

        saved = collections.defaultdict(dict)
        real = slime.CuratedDataSource.save

        def save(source, rollout_id):
            real(source, rollout_id)
            saved[source.position.curator.run] = dict(self.told)

        slime.CuratedDataSource.save = save
        self.addCleanup(setattr, slime.CuratedDataSource, "save", real)
        whole, _ = run("whole", kill=False)
        resumed, source = run("killed", kill=True)
        self.assertEqual(resumed, whole)
        self.assert_told("killed", 2)
        self.assertEqual(self.doubled, 0)
        self.assertEqual({k[1:] for k in self.told if k[0] == "killed"},
                         {k[1:] for k in self.told if k[0] == "whole"})
        self.assertNotIn("saerl", source.metadata)

    def test_a_chat_template_hides_the_prompt_and_metadata_tells(self):
        rows = [{"prompt": "<user>row %d" % i, "metadata": {"sid": i}} for i in range(5, ROWS)]
        source = self.source("a", rows=rows, apply_chat_template=True)
        with self.assertRaisesRegex(CuratorError, "not among"):
            for _ in range(60):
                source.get_samples(6)
        source = self.source("b", rows=[{"prompt": "<user>row %d" % i} for i in range(ROWS)],
                             apply_chat_template=True)
        self.assertEqual([g[0].prompt for g in source.get_samples(3)],
                         ["<user>" + p for p in self.plan("c", [3])[0]])
        for row in rows:
            del row["metadata"]
        with self.assertRaisesRegex(CuratorError, "give each row"):
            self.source("b", rows=rows, apply_chat_template=True)


class Away(AdapterCase):
    def test_a_verl_run_goes_on_without_the_sidecar_and_comes_back(self):
        config = types.SimpleNamespace(train_files="train", val_files="val", files={
            "train": [{"prompt": "row %d" % i} for i in range(ROWS)], "val": [{"prompt": "v"}]})
        self.environment("a", SAERL_ON_FAILURE="passthrough", SAERL_SPOOL=str(self.dir / "spool"),
                         SAERL_TIMEOUT_S="0.6")
        self.new_worker()
        (self.dir / "out").mkdir()
        score = verl.with_feedback(lambda **kw: 1.0)
        trainer = stand_ins.VerlTrainer(verl.CuratedDataset, config, self.dir / "out", score, n=2, batch=8,
                                        gen_batch=8, save_every=2)
        curator = trainer.train.position.curator
        self.addCleanup(curator.close)
        trained = []
        curator.timeout_s = 20
        trainer.fit(2, trained)
        curator.timeout_s = 0.6
        self.sidecar.stop()
        trainer.fit(4, trained)  # with a checkpoint that has no state of the curriculum
        self.assertTrue(all(curator.fetch(seq, 8).local for seq in (2, 3)))
        state = trainer.loader.state_dict()["dataset"]
        self.assertIsNone(state["state"])
        self.sidecar.start()
        for at in (curator, verl._curator):
            at.timeout_s, at._breaker_until = 20, 0.0
        trainer.fit(6, trained)
        plan = self.plan("b", [8] * 6)
        self.assertEqual([rows for _, rows in trained[:2] + trained[4:]], plan[:2] + plan[4:])
        self.assertEqual({k[1] for k in self.told}, {0, 1, 4, 5})
        self.assert_told("a", 2)

    def test_with_errors_a_checkpoint_without_a_sidecar_fails(self):
        self.environment("a", SAERL_TIMEOUT_S="0.5")
        from saerl.adapters import Position, from_environment

        position = Position(from_environment())
        self.addCleanup(position.curator.close)
        position.next(2)
        self.sidecar.stop()
        with self.assertRaises(SidecarAway):
            position.save()


if __name__ == "__main__":
    unittest.main()
