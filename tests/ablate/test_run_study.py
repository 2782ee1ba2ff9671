"""A study from end to end, through real processes: paired, run once, resumed, judged, reported."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file
from small_study import Listening, small_study, write_study

import llmkit
from llmkit.ablate.cells import Identities, read_json, seeded
from llmkit.ablate.directory import StudyDirectory
from llmkit.ablate.plan import make_plan
from llmkit.ablate.results import StudyResult
from llmkit.ablate.run import looks, run_study
from llmkit.ablate.study import load_study
from llmkit.ablate.worker import run_cells
from llmkit.core.errors import UserError
from llmkit.runtime import catalog


def rows(directory: Path, name: str = "ledger") -> list[dict]:
    return [json.loads(line) for line in (directory / f"{name}.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A study that ran: where, what it was, and what was told."""
    place = tmp_path_factory.mktemp("finished")
    study, listening = load_study(small_study(place, seeds=3)), Listening()
    result = run_study(study, place / "study", workers=1, reporter=listening, command="llmkit ablate norms.yaml")
    return place, study, result, listening


def copied(finished, place: Path) -> Path:
    """The study's directory, to be changed."""
    return Path(shutil.copytree(finished[0] / "study", place / "study"))


def test_every_cell_is_a_complete_run_and_seeds_come_first(finished):
    place, _, result, listening = finished
    assert [(cell.seed, cell.arm) for cell in listening.cells] == [(seed, arm) for seed in range(3) for arm in ("rms", "layer")]
    for arm in result.arms:
        for one in arm.cells:
            assert one.ending == "finished" and one.value == read_json(place / "study" / one.directory / "result.json")["val_bits_per_byte"]
            assert llmkit.load_run(place / "study" / one.directory).step == 6


def test_the_same_seed_reads_the_same_sequences_in_every_arm_and_another_seed_others(finished):
    place, _, result, _ = finished
    orders = {
        (arm.name, one.seed): [row["items"] for row in rows(place / "study" / one.directory)] for arm in result.arms for one in arm.cells
    }
    for seed in range(3):
        assert orders["rms", seed] == orders["layer", seed]
    assert orders["rms", 0] != orders["rms", 1] != orders["rms", 2]


def test_the_same_seed_begins_with_the_same_weights_at_every_address_that_arms_share(tmp_path):
    still = {"optimizer": {"type": "sgd", "lr": 1e-30}, "steps": 1, "eval_every": None}
    plan = make_plan(load_study(small_study(tmp_path, train=still)))
    identities, weights = Identities(catalog(), "val_loss"), {}
    for arm in plan.arms:
        for seed in (0, 1):
            one = identities.cell(arm.name, seed, seeded(arm.spec, seed))
            run_cells([one], tmp_path, catalog(), [].append)
            weights[arm.name, seed] = load_file(next((tmp_path / one.directory).rglob("model.safetensors")))
    shared = weights["rms", 0].keys() & weights["layer", 0].keys()
    assert {"embedding.weight", "blocks.1.ffn.down.weight", "blocks.0.attention_norm.weight"} <= shared
    assert weights["layer", 0].keys() - shared
    for seed in (0, 1):
        assert all(weights["rms", seed][name].equal(weights["layer", seed][name]) for name in shared)
    assert not weights["rms", 0]["embedding.weight"].equal(weights["rms", 1]["embedding.weight"])


def test_the_results_hold_what_was_judged_and_what_reproduces_it(finished):
    place, study, result, _ = finished
    assert StudyResult.model_validate_json((place / "study" / "results.json").read_text()) == result
    assert result.hash == study.hash and result.command == "llmkit ablate norms.yaml" and result.complete and not result.sequential
    rms, layer = result.arms
    assert rms.judgement.difference is None and layer.judgement.seeds == [0, 1, 2]
    mean = sum(one.value for one in layer.cells) / 3 - sum(one.value for one in rms.cells) / 3
    assert layer.judgement.difference == pytest.approx(mean) and layer.judgement.verdict is not None
    assert layer.tokens == 6 * 4 * 16 and layer.parameters["total"] > rms.parameters["total"]
    assert layer.worth is not None and "training tokens" in layer.worth.words
    for name in ("study.yaml", "report.html", "report.md", "results.csv", "table.tex"):
        assert (place / "study" / name).stat().st_size > 0


def test_what_has_run_never_runs_again_and_judging_it_imports_no_torch(finished, tmp_path):
    out = copied(finished, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in (out / "cells").rglob("*") if path.is_file()}
    (finished[0] / "norms.json").write_text(json.dumps(small_study(finished[0], seeds=3)))
    code = (
        "import json, sys; from pathlib import Path\n"
        "from llmkit.ablate.run import run_study; from llmkit.ablate.study import load_study\n"
        "result = run_study(load_study(json.loads(Path(sys.argv[1]).read_text())), Path(sys.argv[2]))\n"
        "print(json.dumps([result.complete, 'torch' in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(finished[0] / "norms.json"), str(out)], capture_output=True, text=True, check=True, timeout=120
    )
    assert json.loads(done.stdout) == [True, False]
    assert {path: path.stat().st_mtime_ns for path in (out / "cells").rglob("*") if path.is_file()} == before
    first, second = (StudyResult.model_validate_json((place / "results.json").read_text()) for place in (finished[0] / "study", out))
    assert first.arms == second.arms and second.seconds > first.seconds


def test_a_study_that_says_something_else_is_amended_never_silently_and_only_new_cells_run(finished, tmp_path):
    out, listening = copied(finished, tmp_path), Listening()
    place = finished[0]
    more = load_study(small_study(place, seeds=4, alpha=0.1))
    result = run_study(more, out, workers=1, reporter=listening)
    assert [(one.arm, one.seed) for one in listening.cells] == [("rms", 3), ("layer", 3)]
    told = {one.address: (one.was, one.now) for one in result.amendments}
    assert told["alpha"] == (0.05, 0.1) and any(address.startswith("seeds") for address in told)
    assert result.hash == finished[1].hash and len([text for text in listening.said if text.startswith("amended")]) == len(told)
    frozen = (out / "study.yaml").read_bytes()
    assert frozen == (place / "study" / "study.yaml").read_bytes()
    again = run_study(more, out, workers=1)
    assert again.amendments == result.amendments
    back = run_study(finished[1], out, workers=1)
    assert {one.address: one.now for one in back.amendments}["alpha"] == 0.05
    assert len(back.amendments) == 2 * len(told)
    assert [one.judgement for one in back.arms] == [one.judgement for one in finished[2].arms]


def test_more_seeds_after_a_look_are_told_as_such_and_no_more_once_they_are_taken_back(finished, tmp_path):
    out, place = copied(finished, tmp_path), finished[0]
    more = run_study(load_study(small_study(place, seeds=4)), out, workers=1, command="llmkit ablate norms.yaml --set seeds=4")
    assert [text for text in more.warnings if "amended after the first run: seeds;" in text and "--until-resolved" in text]
    assert more.command.splitlines() == ["llmkit ablate norms.yaml", "llmkit ablate norms.yaml --set seeds=4"]
    back = run_study(finished[1], out, workers=1, command="llmkit ablate norms.yaml")
    assert not [text for text in back.warnings if "amended" in text] and len(back.amendments) == 2 * len(more.amendments)


def test_a_text_that_was_edited_between_two_calls_is_an_amendment_and_every_cell_runs_anew(tmp_path):
    study, listening = load_study(small_study(tmp_path)), Listening()
    first = run_study(study, tmp_path / "study", workers=1)
    text = tmp_path / "text.txt"
    text.write_text(text.read_text().replace("model", "mould"))
    second = run_study(study, tmp_path / "study", workers=1, reporter=listening)
    assert len(listening.cells) == 4 and second.arms[0].judgement.mean != first.arms[0].judgement.mean
    assert [one.address.split(".")[0] for one in second.amendments] == ["text"] and second.hash == first.hash
    assert [warning for warning in second.warnings if "amended after the first run: text" in warning]
    assert run_study(study, tmp_path / "study", workers=1).amendments == second.amendments


def test_an_amendment_whose_record_was_never_written_is_neither_lost_nor_told_twice(finished, tmp_path):
    """A kill between the two files."""
    out, place = copied(finished, tmp_path), finished[0]
    directory, record = StudyDirectory(out), (out / "record.json").read_bytes()
    more = load_study(small_study(place, seeds=3, alpha=0.1))
    amended = directory.freeze(more, catalog(), max_seeds=7, command="")
    (out / "record.json").write_bytes(record)
    assert [one.address for one in amended] == ["alpha", "max_seeds"] and directory.max_seeds == 7
    assert directory.freeze(more, catalog(), max_seeds=7, command="") == amended
    back = directory.freeze(finished[1], catalog(), max_seeds=None, command="")
    assert [(one.address, one.now) for one in back] == [("alpha", 0.1), ("max_seeds", 7), ("alpha", 0.05)]


def test_the_directory_of_another_study_is_refused_and_stays_as_it_was(finished, tmp_path):
    out, place = copied(finished, tmp_path), finished[0]
    before = {path: path.read_bytes() for path in out.iterdir() if path.is_file()}
    with pytest.raises(UserError, match=r"holds the study 'norms', and this one is 'other'; choose another directory with --out"):
        run_study(load_study(small_study(place, name="other", seeds=2)), out)
    assert {path: path.read_bytes() for path in out.iterdir() if path.is_file()} == before
    assert run_study(load_study(small_study(place, name="other", seeds=3)), out).amendments == [], "the same study under another name"


def test_an_arm_that_diverges_is_unstable_its_cells_are_results_and_what_confounds_is_told_before_any_compute(tmp_path):
    blown = {"train.optimizer": {"type": "sgd", "lr": 1e30}, "train.grad_clip": None, "model.block.norm": "layernorm"}
    study = load_study(small_study(tmp_path, axes={"norm": {"adamw": {}, "sgd": blown}}, baseline={"norm": "adamw"}))
    listening = Listening()
    result = run_study(study, tmp_path / "study", workers=1, reporter=listening)
    sgd = result.arms[1]
    assert [one.ending for one in sgd.cells] == ["diverged"] * 2 and sgd.judgement.verdict == "unstable"
    assert result.complete and any("sgd seed 0 diverged" in text for text in result.warnings)
    assert [text for text in listening.before if text.startswith("confounded: sgd")]
    quiet = Listening()
    run_study(study, tmp_path / "study", workers=1, reporter=quiet)
    assert quiet.cells == []


def test_looking_after_every_seed_stops_where_all_is_settled_and_stays_so(tmp_path):
    slow = {"slow": {"train.optimizer.lr": 1e-9}, "usual": {}}
    study = load_study(small_study(tmp_path, axes={"rate": slow}, baseline={"rate": "usual"}, train={"steps": 12}))
    result = run_study(study, tmp_path / "study", workers=1, until_resolved=True, max_seeds=12)
    judged = next(arm.judgement for arm in result.arms if arm.name == "slow")
    assert judged.verdict == "worse" and 3 <= len(judged.seeds) < 12 and judged.e_value is not None
    assert result.sequential
    later = run_study(study, tmp_path / "study", workers=1, until_resolved=True)
    assert later.amendments == [], "as many seeds as before, and not those of a default"
    listening = Listening()
    again = run_study(study, tmp_path / "study", workers=1, reporter=listening)
    assert again.sequential and again.arms == result.arms and listening.cells == [] and again.amendments == []


def test_the_looks_are_at_the_first_seeds_then_at_whole_numbers_that_are_not_tuned_on(tmp_path):
    study = load_study(small_study(tmp_path, seeds=[7, 3], tune={"train.optimizer.lr": [1e-3, 2e-3]}, tune_seeds=[9]))
    assert list(looks(study, 5)) == [[7, 3, 8], [7, 3, 8, 10], [7, 3, 8, 10, 11]]


def test_a_directory_that_holds_something_else_is_refused(tmp_path):
    (tmp_path / "spec.yaml").write_text("a run")
    with pytest.raises(UserError, match="something else than a study"):
        run_study(load_study(small_study(tmp_path)), tmp_path)


def start(study: Path, out: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "llmkit", "ablate", str(study), "--out", str(out), "--workers", "1", *more]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)


def cells_of(out: Path) -> dict[str, list[tuple]]:
    """What each cell's files tell of its steps, without the clock."""
    return {
        str(path.parent.relative_to(out)): [(row["step"], row.get("loss"), row.get("val_loss")) for row in rows(path.parent, "metrics")]
        for path in sorted(out.rglob("metrics.jsonl"))
    }


def verdicts(out: Path) -> list[dict]:
    return [arm["judgement"] for arm in json.loads((out / "results.json").read_text())["arms"]]


@pytest.mark.slow
def test_a_study_that_is_killed_anywhere_ends_as_one_that_was_left_alone(tmp_path):
    path = write_study(tmp_path, train={"steps": 80, "eval_every": 40, "checkpoint_every": 20})
    alone = start(path, tmp_path / "alone")
    assert alone.wait(timeout=300) == 0, alone.stderr.read().decode()
    chance, out = random.Random(1), tmp_path / "killed"
    for attempt in range(3):
        process = start(path, out)
        until = time.monotonic() + 120
        known = len(cells_of(out)) if out.exists() else 0
        while process.poll() is None and time.monotonic() < until and (not out.exists() or len(cells_of(out)) < known + (attempt > 0)):
            time.sleep(0.02)
        time.sleep(chance.uniform(0.0, 0.6))
        if attempt == 2:
            process.terminate()
            assert process.wait(timeout=120) in (0, 143)
        else:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    process = start(path, out)
    assert process.wait(timeout=300) == 0, process.stderr.read().decode()
    assert cells_of(out) == cells_of(tmp_path / "alone")
    assert verdicts(out) == verdicts(tmp_path / "alone")


@pytest.mark.slow
def test_two_studies_that_race_for_the_same_cells_run_each_once_and_come_to_one_verdict(tmp_path):
    path = write_study(tmp_path, seeds=4, train={"steps": 20})
    out = tmp_path / "study"
    processes = [start(path, out), start(path, out)]
    for process in processes:
        assert process.wait(timeout=300) == 0, process.stderr.read().decode()
    told = cells_of(out)
    assert len(told) == 8
    for directory, steps in told.items():
        assert len(steps) == 30, directory
        manifest = json.loads((out / directory / "manifest.json").read_text())
        assert len(manifest["sessions"]) == 1
    assert all(one["seeds"] == [0, 1, 2, 3] for one in verdicts(out))
    assert yaml.safe_load((out / "study.yaml").read_text())["name"] == "norms"
