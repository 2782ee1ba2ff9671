"""A study is read whole and checked whole, and every mistake is told where it stands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llmkit.ablate.study import amendments, load_study
from llmkit.core.compose import study_names
from llmkit.core.filled import to_yaml
from llmkit.core.problems import SpecError
from llmkit.runtime import RECIPES

BASE = """\
tokenizer: bytes
model:
  d_model: 32
  n_layers: 2
  max_seq_len: 32
  block: {attention: {type: mha, n_heads: 4}, ffn: {type: swiglu, d_ff: 64}}
train: {steps: 10, batch_size: 4}
"""

STUDY = """\
extends: base.yaml
axes:
  attention:
    mha: {}
    mqa: {model.block.attention: {type: mqa, n_heads: 4}}
  norm:
    rms: {}
    layer: {model.block.norm: layernorm}
baseline: {attention: mha, norm: rms}
seeds: 3
"""


BASELINE = "baseline: {attention: mha, norm: rms}"
LAYER = "model.block.norm: layernorm"


def write(directory: Path, study: str = STUDY, base: str = BASE, name: str = "s.yaml") -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "base.yaml").write_text(base)
    (directory / name).write_text(study)
    return directory / name


def test_arms_are_the_product_of_the_axes_and_named_by_their_choices(tmp_path: Path) -> None:
    study = load_study(write(tmp_path))
    assert [arm.name for arm in study.arms] == ["mha/rms", "mha/layer", "mqa/rms", "mqa/layer"]
    assert (study.name, study.baseline, study.seeds, study.metric) == ("s", "mha/rms", (0, 1, 2), "val_bits_per_byte")
    assert study.arm("mqa/layer").choices == {"attention": "mqa", "norm": "layer"}


def test_named_arms_take_the_baselines_alternative_where_they_name_none(tmp_path: Path) -> None:
    arms = "arms: {control: {attention: mha, norm: rms}, new: {attention: mqa}}\n"
    study = load_study(write(tmp_path, STUDY + arms))
    assert {arm.name: dict(arm.choices) for arm in study.arms} == {
        "control": {"attention": "mha", "norm": "rms"},
        "new": {"attention": "mqa", "norm": "rms"},
    }
    assert study.baseline == "control"


def test_a_list_of_arms_is_named_by_its_choices(tmp_path: Path) -> None:
    arms = "arms: [{attention: mha, norm: rms}, {attention: mqa, norm: layer}]\n"
    assert [arm.name for arm in load_study(write(tmp_path, STUDY + arms)).arms] == ["mha/rms", "mqa/layer"]


@pytest.mark.parametrize(
    ("was", "now", "expected"),
    [
        ("seeds: 3", "sedes: 3", r"10:1: sedes: unknown key 'sedes'; did you mean 'seeds'\?"),
        ("seeds: 3", "seeds: 0", r"10:8: seeds: .*at least 1.*got 0"),
        ("seeds: 3", "seeds: true", r"10:8: seeds: .*got true"),
        ("seeds: 3", "seeds: [1, 2, 1]", r"10:15: seeds\.2: seed 1 is given twice"),
        ("attention: mha, norm", "atention: mha, norm", r"9:12: baseline\.atention: no axis is called 'atention'; did you mean"),
        ("attention: mha, norm: rms}", "attention: mla, norm: rms}", r"9:23: baseline\.attention: .*no alternative 'mla'"),
        (BASELINE, "baseline: mha/rmz", r"9:11: baseline: no arm is called 'mha/rmz'; did you mean 'mha/rms'"),
        (BASELINE, "baseline: {attention: mha}", r"9:1: baseline: names no alternative of axis norm"),
        (BASELINE + "\n", "", r"baseline: is missing .*add `baseline:` here"),
        (LAYER, "model.block.nrom: layernorm", r"8:13: model\.block\.nrom: .*'mha/layer', 'mqa/layer'.*did you mean 'norm'"),
        ("norm: layernorm", "norm: layernrom", r"8:31: model\.block\.norm: arm .*did you mean 'layernorm'"),
        ("rms: {}", "rms: {model.block.norm: layernorm}", r"8:5: axes\.norm\.layer: says the same as 'rms'"),
        ("norm: layernorm", "norm: rmsnorm", r"8:5: axes\.norm\.layer: arms 'mha/rms' and 'mha/layer' are one spec"),
        (LAYER, "train.seed: 3, model.block.norm: rmsnorm", r"8:13: axes\.norm\.layer\.train\.seed: cannot differ"),
        ("    rms: {}", "    r/ms: {}", r"7:5: axes\.norm\.r/ms: .*directory"),
        (LAYER, "model.block.attention: mqa, model.block.norm: rmsnorm", r"8:13: axes\.norm.*set by axis 'attention' too"),
        ("seeds: 3", "metric: val_los", r"10:9: metric: no metric is called 'val_los'; did you mean 'val_loss'"),
        ("seeds: 3", "metric: perplexiti.loss", r"10:9: metric: no evaluator is called 'perplexiti'; did you mean 'perplexity'"),
        ("seeds: 3", "tune: {train.optimiser.lr: [1, 2]}", r"10:8: tune\.train\.optimiser\.lr: no arm has .*'train\.optimizer\.lr'"),
        ("seeds: 3", "tune: {train.optimizer.lr: [1e-3, -1]}", r"10:35: train\.optimizer\.lr: .*greater than 0"),
        ("seeds: 3", "tune: {train.optimizer.lr: [1e-3]}", r"10:8: tune\.train\.optimizer\.lr: needs at least 2"),
        ("seeds: 3", "tune_seeds: [0]", r"10:1: tune_seeds: 0 is judged as well"),
        ("seeds: 3", "dial: model.block.ffn.d_f", r"10:7: dial: arm 'mha/rms' has no .*did you mean 'model\.block\.ffn\.d_ff'"),
        ("seeds: 3", "waive: [paramters]", r"10:9: waive\.0: .*did you mean 'parameters'"),
        ("seeds: 3", "alpha: 0.7", r"10:8: alpha: must be less than 0\.5"),
        ("seeds: 3", "equivalence: 0", r"10:14: equivalence: must be greater than 0"),
        ("extends: base.yaml", "extends: bsae.yaml", r"1:10: extends: .*cannot be read"),
        (LAYER, "train.steps: 5, train.tokens: 9, model.block.norm: rmsnorm", r"8:29: train\.tokens: .*excludes 'train\.steps'"),
        ("seeds: 3", "tune_arms: [mga/rms]", r"10:13: tune_arms\.0: no arm is called 'mga/rms'; did you mean 'mqa/rms'"),
    ],
)  # fmt: skip
def test_every_mistake_is_told_with_its_place_and_its_remedy(tmp_path: Path, was: str, now: str, expected: str) -> None:
    assert STUDY.count(was) == 1
    with pytest.raises(SpecError, match=expected if was.endswith("\n") else rf"s\.yaml:{expected}"):
        load_study(write(tmp_path, STUDY.replace(was, now)))


def test_a_mistake_of_the_extended_spec_stands_in_its_own_file(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"base\.yaml:3:12: model\.d_model: must be greater than 0") as caught:
        load_study(write(tmp_path, base=BASE.replace("32\n  n_layers", "0\n  n_layers")))
    assert len(caught.value.problems) == 1


def test_what_matching_would_undo_is_refused(tmp_path: Path) -> None:
    study = STUDY.replace("rms: {}", "rms: {model.block.ffn.d_ff: 128}") + "match: params\n"
    with pytest.raises(SpecError, match=r"s\.yaml:7:11: .*is turned back by match: params"):
        load_study(write(tmp_path, study))
    study = STUDY.replace("rms: {}", "rms: {train.steps: 100}") + "match: tokens\n"
    with pytest.raises(SpecError, match="is turned back by match: tokens"):
        load_study(write(tmp_path, study))


def test_a_spec_is_no_study_and_a_study_is_no_base(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="is no study: it has no `axes`"):
        load_study("recipe:tiny")
    path = write(tmp_path, STUDY.replace("base.yaml", "other.yaml"))
    (tmp_path / "other.yaml").write_text(STUDY)
    with pytest.raises(SpecError, match=r"other\.yaml:2:1: axes: .*is a study, not a spec"):
        load_study(path)


def test_the_hash_is_of_what_the_study_says_not_of_where_or_how_it_is_written(tmp_path: Path) -> None:
    study = load_study(write(tmp_path / "one"))
    moved = load_study(
        write(tmp_path / "two", "# words\n" + STUDY.replace("seeds: 3", "seeds: [0, 1, 2]  # the first three"), name="t.yaml")
    )
    inline = load_study({**_plain(STUDY), "extends": _plain(BASE)})
    longer = load_study(write(tmp_path / "three", base=BASE.replace("steps: 10", "steps: 11")))
    assert study.hash == moved.hash == inline.hash
    assert len({study.hash, longer.hash, load_study(write(tmp_path / "four", STUDY.replace("3", "4"))).hash}) == 3
    assert len(study.hash) == 64


def test_a_study_written_out_in_full_is_the_same_study(tmp_path: Path) -> None:
    extra = "tune: {train.optimizer.lr: [1e-3, 2e-3]}\ntune_arms: [mha/rms]\nequivalence: 0.01\nwaive: [flops, model.block.norm]\n"
    study = load_study(write(tmp_path, STUDY + extra))
    (tmp_path / "frozen.yaml").write_text(to_yaml(study.document()))
    frozen = load_study(tmp_path / "frozen.yaml")
    assert frozen.hash == study.hash and frozen.name == study.name and frozen.tune_arms == ("mha/rms",)
    assert amendments(study, frozen) == []


def test_blocks_inherit_in_a_study_that_is_written_out_as_in_the_one_that_was_read(tmp_path: Path) -> None:
    base = BASE.replace("train:", "  blocks: {a: {}, b: {layout: post}}\n  pattern: [a, b]\ntrain:")
    study = load_study(write(tmp_path, base=base))
    assert load_study(study.document()).hash == study.hash


def test_amendments_are_told_by_address(tmp_path: Path) -> None:
    old = load_study(write(tmp_path))
    new = load_study(write(tmp_path, STUDY.replace("type: mqa", "type: gqa, n_kv_heads: 2")), ["seeds=4", "train.steps=20"])
    assert [tuple(one) for one in amendments(old, new)] == [
        ("extends.train.steps", 10, 20),
        ("axes.attention.mqa.model.block.attention.type", "mqa", "gqa"),
        ("seeds", [0, 1, 2], [0, 1, 2, 3]),
        ("axes.attention.mqa.model.block.attention.n_kv_heads", None, 2),
    ]


def test_an_override_is_of_the_study_or_else_of_the_spec_that_it_extends(tmp_path: Path) -> None:
    overrides = ["seeds=[5, 6]", "train.steps=7", "axes.norm.layer.model.block.norm.eps=1e-3", "tune.train.optimizer.lr=[1e-3, 1e-2]"]
    study = load_study(write(tmp_path), overrides)
    assert study.seeds == (5, 6) and study.content["extends"]["train"]["steps"] == 7
    assert study.axes["norm"]["layer"] == {"model.block.norm": "layernorm", "model.block.norm.eps": 1e-3}
    assert study.tune == {"train.optimizer.lr": (1e-3, 1e-2)}
    with pytest.raises(SpecError, match=r"--set sedes=3: sedes: unknown key"):
        load_study(write(tmp_path), ["sedes=3"])


def test_tuning_seeds_are_never_judged_and_all_arms_are_tuned_unless_given(tmp_path: Path) -> None:
    study = load_study(write(tmp_path, STUDY + "tune: {train.optimizer.lr: [1e-3, 2e-3]}\n"))
    assert not set(study.tune_seeds) & set(study.seeds) and len(study.tune_seeds) == 2
    assert study.tune_arms == tuple(arm.name for arm in study.arms)


def test_a_metric_is_what_runs_record_or_an_evaluators(tmp_path: Path) -> None:
    assert load_study(write(tmp_path)).evaluator is None
    study = load_study(write(tmp_path, STUDY + "metric: perplexity.bits_per_byte\n"))
    assert study.evaluator == ("perplexity", "bits_per_byte")


@pytest.mark.parametrize("name", study_names(RECIPES))
def test_every_study_that_ships_is_valid_by_either_name(name: str) -> None:
    study = load_study(f"recipe:{name}")
    assert study.hash == load_study(f"recipe:{name.removeprefix('studies/')}").hash == load_study(study.document()).hash


def test_reading_a_study_imports_nothing_heavy() -> None:
    heavy = {"torch", "numpy", "scipy", "pandas", "matplotlib", "transformers", "datasets", "tokenizers"}
    read = "import sys; from llmkit.ablate.study import load_study; load_study('recipe:attention')"
    code = f"{read}; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _plain(text: str) -> dict[str, Any]:
    from llmkit.core.document import read_yaml

    plain: dict[str, Any] = read_yaml(text, "test").plain()
    return plain
