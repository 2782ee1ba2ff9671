"""A run goes on bit for bit from where it stood, whatever killed it, and is never mixed with another experiment."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import yaml
from listening import Listening

import llmkit
from llmkit.core.errors import UserError
from llmkit.train.loop import train
from llmkit.train.run import write_initialised
from llmkit.train.signals import Interrupted


def driver(tmp_path: Path, spec: dict, out: str, sabotage: str) -> subprocess.CompletedProcess[str]:
    """Train in a process of its own, which first arranges its own end."""
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec))
    script = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        import llmkit
        from llmkit.train import checkpoint, loop, run
        spec, out = llmkit.load_spec(sys.argv[1]), Path(sys.argv[2])
        def die():
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    script += textwrap.dedent(sabotage) + "\nloop.train(spec, out=out)\n"
    command = [sys.executable, "-c", script, str(tmp_path / "spec.yaml"), str(tmp_path / out)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


SABOTAGES = {
    "while the run's first file is written": """
        replace = Path.replace
        def dying(self, target):
            if "spec.yaml" in str(target): die()
            return replace(self, target)
        Path.replace = dying
        """,
    "while the tokenizer is copied": """
        import shutil
        copytree = shutil.copytree
        def dying(source, target, **rest):
            copytree(source, target, **rest)
            die()
        shutil.copytree = dying
        """,
    "after step 5 was told": """
        append = run.RunDirectory.append
        def dying(self, name, row):
            append(self, name, row)
            if name == "metrics" and row["step"] == 5: die()
        run.RunDirectory.append = dying
        """,
    "between the ledger and the metrics of step 4": """
        append = run.RunDirectory.append
        def dying(self, name, row):
            if name == "metrics" and row["step"] == 4: die()
            append(self, name, row)
        run.RunDirectory.append = dying
        """,
    "while the weights of step 6 are written": """
        save = checkpoint.write_tensors
        def dying(path, tensors):
            if "step-00000006" in str(path):
                path.write_bytes(b"half")
                die()
            return save(path, tensors)
        checkpoint.write_tensors = dying
        """,
    "just before the checkpoint of step 6 gets its name": """
        rename = Path.rename
        def dying(self, target):
            if "step-00000006" in str(target): die()
            return rename(self, target)
        Path.rename = dying
        """,
    "just after the checkpoint of step 6 got its name": """
        rename = Path.rename
        def dying(self, target):
            found = rename(self, target)
            if "step-00000006" in str(target): die()
            return found
        Path.rename = dying
        """,
}


@pytest.mark.slow
@pytest.mark.parametrize("moment", SABOTAGES)
def test_a_run_killed_and_resumed_ends_as_one_that_was_left_alone(tiny, tmp_path, moment):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train(llmkit.load_spec(tiny), out=tmp_path / "undisturbed")
        done = driver(tmp_path, tiny, "killed", SABOTAGES[moment])
        assert done.returncode == -signal.SIGKILL, done.stderr
        result = train(llmkit.load_spec(tiny), out=tmp_path / "killed")
    finally:
        torch.set_num_threads(threads)
    assert result["resumed_from"] in (None, 3, 6)
    left, right = (llmkit.load_run(tmp_path / name).model.state_dict() for name in ("undisturbed", "killed"))
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert told(tmp_path / "killed") == told(tmp_path / "undisturbed")
    assert not list((tmp_path / "killed").rglob(".*"))


def told(run: Path) -> list[tuple]:
    """What was told of every step and evaluation, without the clock."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row.get("loss"), row.get("grad_norm"), row.get("val_loss")) for row in rows]


def test_a_longer_run_goes_on_from_the_end_of_the_shorter_one(tiny, tmp_path):
    train(llmkit.load_spec(tiny), out=tmp_path / "run")
    tiny["train"]["steps"] = 14
    result = train(llmkit.load_spec(tiny), out=tmp_path / "run")
    assert (result["resumed_from"], result["step"]) == (10, 14)
    assert [row[0] for row in told(tmp_path / "run") if row[1] is not None] == list(range(1, 15))


def test_a_run_resumed_with_other_micro_batches_goes_on(tiny, tmp_path):
    train(llmkit.load_spec(tiny), out=tmp_path / "run")
    tiny["train"] |= {"steps": 12, "micro_batch_size": 2}
    assert train(llmkit.load_spec(tiny), out=tmp_path / "run")["resumed_from"] == 10


@pytest.mark.parametrize(
    ("override", "address"),
    [
        ("model.d_model=64", "model.d_model"),
        ("train.optimizer.lr=1.0", "train.optimizer.lr"),
        ("train.seed=3", "train.seed"),
        ("model.block.norm=layernorm", "model.block.norm.type"),
    ],
)
def test_another_experiment_is_refused_with_the_address(tiny, tmp_path, override, address):
    train(llmkit.load_spec(tiny), out=tmp_path / "run")
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    with pytest.raises(UserError, match=address.replace(".", r"\.")):
        train(llmkit.load_spec(tiny, overrides=[override]), out=tmp_path / "run")
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before


def test_a_finished_run_called_again_returns_what_it_recorded(tiny, tmp_path):
    first = train(llmkit.load_spec(tiny), out=tmp_path / "run")
    assert train(llmkit.load_spec(tiny), out=tmp_path / "run") == first


def test_resume_never_refuses_a_directory_that_is_not_empty(tiny, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    for resume in ("never", "auto"):
        with pytest.raises(UserError, match="not empty"):
            train(llmkit.load_spec(tiny), out=tmp_path / "run", resume=resume)
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"


def test_resuming_from_a_named_checkpoint_forgets_what_came_after_it(tiny, tmp_path):
    train(llmkit.load_spec(tiny), out=tmp_path / "run")
    before = told(tmp_path / "run")
    result = train(llmkit.load_spec(tiny), out=tmp_path / "run", resume=str(tmp_path / "run" / "checkpoints" / "step-00000003"))
    assert result["resumed_from"] == 3
    assert told(tmp_path / "run") == before


def test_a_checkpoint_of_one_run_never_overwrites_another_run(tiny, tmp_path):
    train(llmkit.load_spec(tiny), out=tmp_path / "a")
    train(llmkit.load_spec(tiny, overrides=["train.steps=4"]), out=tmp_path / "b")
    before = told(tmp_path / "b")
    with pytest.raises(UserError, match="choose another --out"):
        train(llmkit.load_spec(tiny), out=tmp_path / "b", resume=str(tmp_path / "a" / "checkpoints" / "step-00000003"))
    assert told(tmp_path / "b") == before


def test_a_run_goes_on_in_the_precision_that_auto_became_where_it_began(tiny, tmp_path):
    from llmkit.train.precision import resolve

    here = resolve("auto", torch.device("cpu"))
    tiny["train"]["precision"] = other = "fp32" if here == "bf16" else "bf16"
    train(llmkit.load_spec(tiny), out=tmp_path / "run")
    tiny["train"] |= {"precision": "auto", "steps": 12}
    train(llmkit.load_spec(tiny), out=tmp_path / "run")
    assert llmkit.load_run(tmp_path / "run").spec.train.precision == other


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tiny, tmp_path):
    first = train(llmkit.load_spec(tiny), out=tmp_path / "run")
    weights = tmp_path / "run" / "checkpoints" / "step-00000010" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    (tmp_path / "run" / "result.json").unlink()

    listening = Listening()
    result = train(llmkit.load_spec(tiny), out=tmp_path / "run", reporter=listening)
    assert result["resumed_from"] == 9
    assert any("step-00000010" in text and "model.safetensors does not have its checksum" in text for text in listening.said)
    assert result["train_loss"] == first["train_loss"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_a_complete_checkpoint_and_says_how_to_go_on(tiny, tmp_path, number, code):
    tiny["train"] |= {"steps": 100_000, "checkpoint_every": None}
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(tiny))
    command = [sys.executable, "-m", "llmkit", "train", str(tmp_path / "spec.yaml"), "--out", str(tmp_path / "run"), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    metrics = tmp_path / "run" / "metrics.jsonl"
    while not metrics.exists() and process.poll() is None:
        pass
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "same command again" in err or "the same command goes on" in err
    assert out == "" and "Traceback" not in err
    run = llmkit.load_run(tmp_path / "run")
    assert run.step == told(tmp_path / "run")[-1][0]


def test_ctrl_c_while_data_are_prepared_stops_at_once_and_a_handler_of_the_callers_is_back_afterwards(tiny, tmp_path):
    class Impatient:
        def say(self, text): ...

        def preparing(self, stage, done, total):
            os.kill(os.getpid(), signal.SIGTERM)

        def step(self, row, total): ...

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match="the same command goes on") as stopped:
        train(llmkit.load_spec(tiny), out=tmp_path / "run", reporter=Impatient())
    assert stopped.value.exit_code == 143 and isinstance(stopped.value, KeyboardInterrupt)
    assert signal.getsignal(signal.SIGTERM) is before
    assert train(llmkit.load_spec(tiny), out=tmp_path / "run")["resumed_from"] is None


def test_training_works_in_a_thread_which_can_have_no_signal_handlers(tiny, tmp_path):
    with ThreadPoolExecutor() as pool:
        assert pool.submit(train, llmkit.load_spec(tiny), out=tmp_path / "run").result()["step"] == 10


def test_a_run_whose_text_has_changed_is_refused_and_one_whose_files_were_only_touched_goes_on(tiny, tmp_path):
    train(llmkit.load_spec(tiny), out=tmp_path / "run")
    text = Path(tiny["data"]["source"]["paths"][0])
    tiny["train"]["steps"] = 11
    text.write_text(text.read_text())
    assert train(llmkit.load_spec(tiny), out=tmp_path / "run")["resumed_from"] == 10
    tiny["train"]["steps"] = 12
    text.write_text(text.read_text().replace("token", "taken"))
    with pytest.raises(UserError, match=r"training_tokens and validation_tokens are no longer those of the run.*data\.source.*--out"):
        train(llmkit.load_spec(tiny), out=tmp_path / "run")


def test_a_run_without_one_whole_checkpoint_is_not_silently_begun_anew(tiny, tmp_path):
    train(llmkit.load_spec(tiny), out=tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    for checkpoint in (tmp_path / "run" / "checkpoints").iterdir():
        (checkpoint / "checksums.json").unlink()
    with pytest.raises(UserError, match=r"no checkpoint of the run .* is whole"):
        train(llmkit.load_spec(tiny), out=tmp_path / "run")


def test_a_run_that_was_built_loads_and_says_that_its_tokenizer_is_missing_only_where_it_is_asked_for(tiny, tmp_path):
    spec = llmkit.load_spec(tiny)
    write_initialised(spec, tmp_path / "run")
    run = llmkit.load_run(tmp_path / "run")
    assert all(torch.equal(found, made) for found, made in zip(run.model.parameters(), llmkit.build(spec).parameters(), strict=True))
    with pytest.raises(UserError, match="no tokenizer yet: it was built, not trained"):
        _ = run.tokenizer
    assert train(spec, out=tmp_path / "run")["resumed_from"] == 0
    assert llmkit.load_run(tmp_path / "run").tokenizer.decode([104, 105]) == "hi"


def test_a_run_is_never_cut_shorter_than_where_it_stands(tiny, tmp_path):
    train(llmkit.load_spec(tiny), out=tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    tiny["train"]["steps"] = 7
    with pytest.raises(UserError, match=r"stands at step 10 already, and the spec ends at step 7; give train\.steps of at least 10"):
        train(llmkit.load_spec(tiny), out=tmp_path / "run")


def test_the_manifest_tells_every_session_of_a_run_and_what_it_changed(tiny, tmp_path):
    train(llmkit.load_spec(tiny), out=tmp_path / "run")
    tiny["train"] |= {"steps": 12, "micro_batch_size": 2}
    train(llmkit.load_spec(tiny), out=tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    first, second = manifest["sessions"]
    assert (first["from_step"], first["changes"]) == (0, [])
    assert second["from_step"] == 10
    assert {(change["address"], change["was"], change["now"]) for change in second["changes"]} == {
        ("train.steps", 10, 12),
        ("train.micro_batch_size", None, 2),
    }
    assert {"llmkit", "components", "git", "hardware", "catalog", "fingerprints"} <= set(manifest)


def test_a_run_whose_component_has_another_revision_now_is_refused_with_what_to_install(tiny, tmp_path):
    train(llmkit.load_spec(tiny), out=tmp_path / "run")
    path = tmp_path / "run" / "manifest.json"
    manifest = json.loads(path.read_text())
    next(row for row in manifest["components"] if row["name"] == "mha")["revision"] = 2
    path.write_text(json.dumps(manifest))
    tiny["train"]["steps"] = 12
    for call in (lambda: llmkit.load_run(tmp_path / "run"), lambda: train(llmkit.load_spec(tiny), out=tmp_path / "run")):
        with pytest.raises(UserError, match=r"attention 'mha' was saved at revision 2 and revision 1 is installed.*pip install"):
            call()


def test_loading_a_run_whose_latest_checkpoint_is_damaged_warns_and_takes_the_one_before(tiny, tmp_path):
    train(llmkit.load_spec(tiny), out=tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "step-00000010" / "trainer.json").unlink()
    with pytest.warns(UserWarning, match=r"step-00000010.*trainer\.json is missing"):
        assert llmkit.load_run(tmp_path / "run").step == 9
    with pytest.raises(UserError, match=r"trainer\.json is missing"):
        llmkit.load_run(tmp_path / "run" / "checkpoints" / "step-00000010")
