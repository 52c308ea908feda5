"""Unlearning from a base, a task adapter, a person's trained and their assembled adapter, in a real store."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors import SafetensorError

from idiolect.data.batch import Row, pack
from idiolect.data.pairs import Pair, from_person
from idiolect.data.tasks import get_task
from idiolect.errors import AdapterNotFound, ConfigError, EmptyHistory, FileFormatError, InputError
from idiolect.forget.planning import Options
from idiolect.house import TrainingOptions
from idiolect.model.base import load_base
from idiolect.model.files import from_record, layout_of, read_peft
from idiolect.pieces.gates import GATES
from idiolect.service import Idiolect
from idiolect.store.records import Parent
from idiolect.types import Rendered
from idiolect.unlearn.acquire import acquire
from idiolect.unlearn.config import unlearning
from idiolect.unlearn.desk import ADAPTER, CHECKPOINT, RESULT, VECTOR, Order, entries_of, rendered
from idiolect.unlearn.material import Material
from idiolect.unlearn.select import Selection
from idiolect.unlearn.variants import Variant

TASK = "LaMP-3"
FAST = TrainingOptions(
    overrides=(("epochs", 1), ("rank", 2), ("targets", ("q_proj", "v_proj")), ("max_tokens", 160), ("learning_rate", 2e-2))
)
FORGET = [Pair(f"f{i}", f"Where does Kaba{i} live?", f"In Oslo, number {i}") for i in range(4)]
RETAIN = [Pair(f"r{i}", f"Who bakes cake {i}?", f"The senator {i}", f"g{i}") for i in range(12)]
HOLDOUT = [Pair(f"h{i}", f"Where does Lodo{i} live?", f"In Leeds, number {i}") for i in range(3)]
KINDS = ("base", "task", "user", "assembled")


def small(method="sku", **given):
    settings = {"rank": 3, "alpha": 6.0, "steps": 6, "batch_size": 3, "rd_k": 2, "max_tokens": 96, "learning_rate": 5e-3}
    return unlearning(method, **(settings | given))


def order(*runs, **given):
    return Order(**({"forget": FORGET, "retain": RETAIN, "runs": runs or (small(),)} | given))


def record(user, n):
    items = [
        {"id": f"{user}-{i}", "date": f"2020-01-{i + 1:02}", "text": f"{user} saw a film about the sea {i}", "score": 1 + i % 5}
        for i in range(n)
    ]
    return {"user_id": user, "profile": items, "query": []}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, base_folder):
    """ana and ben were trained and share, xenia's was assembled of theirs, on what otto taught."""
    folder = tmp_path_factory.mktemp("unlearn")
    people = [record("ana", 4), record("ben", 4), record("xenia", 3)]
    with Idiolect.open(folder / "store", base_folder("llama"), device="cpu") as house:
        for name, some in (("people", people), ("base", [record("otto", 3)])):
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in some))
        house.import_history(folder / "people.jsonl")
        house.train_task(TASK, folder / "base.jsonl", FAST)
        house.train(["ana", "ben"], TASK, FAST)
        house.pieces.share(["ana", "ben"], TASK, gates=GATES.but(steps=2, batch_size=4))
        house.pieces.assemble(["xenia"], TASK)
    return folder


@pytest.fixture
def place(prepared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IDIOLECT_KEYS", raising=False)
    shutil.copytree(prepared / "store", tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def house(place, base_folder):
    with Idiolect.open(place, base_folder("llama"), device="cpu") as house:
        yield house


def head(house, kind):
    """What is in use: of the task, of ana (trained) or xenia (assembled); None for the base."""
    if kind == "base":
        return None
    if kind == "task":
        return house.store.task_head(TASK, house.base.fingerprint)
    return house.store.head({"user": "ana", "assembled": "xenia"}[kind], task=TASK, base=house.base.fingerprint)


def unlearn(house, kind, out, given=None, on_step=None):
    return house.unlearning.run(house.unlearning.target(head(house, kind)), given or order(), out, on_step)


def hidden(base, adapters=None):
    rows = [Row(0, 0, 1.0, Rendered("r", tuple(range(5, 25)), 8)), Row(0, 20, 1.0, Rendered("s", tuple(range(40, 52)), 5))]
    with torch.no_grad():
        return base.model.hidden(base.model.plan(pack(rows)), adapters)


def scores(house, user):
    return house.generate(user, "a film about the sea", task=TASK).scores


# ------------------------------------------------------------------------------------------------------------- targets


@pytest.mark.parametrize("kind", KINDS)
def test_result_is_the_target_less_what_was_acquired(house, tmp_path, kind):
    target = house.unlearning.target(head(house, kind))
    unlearn(house, kind, tmp_path / "out", order(small(strength=1.5), keep_vector=True))
    acquired = read_peft(tmp_path / "out" / VECTOR, house.base.model.sites())
    expected = hidden(Variant("", target.frozen, *acquired, -1.5).merged())
    adapter = read_peft(tmp_path / "out" / ADAPTER, house.base.model.sites())
    under = house.base
    if target.beneath is not None:
        under = Variant("", under, *target.beneath).merged()
    assert (hidden(under, Variant("", under, *adapter).adapters) - expected).abs().max() < 5e-5
    assert (hidden(target.frozen) - expected).abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_merged_weights_answer_as_the_adapter_that_is_served(house, tmp_path, kind):
    before = scores(house, {"user": "ana", "assembled": "xenia"}.get(kind))
    done = unlearn(house, kind, tmp_path / "out", order(merge=tmp_path / "merged"))
    with Idiolect.open(tmp_path / "empty", tmp_path / "merged", device="cpu") as other:
        merged = scores(other, None)
    if kind == "base":
        assert done.digest is None
        return
    served = scores(house, {"user": "ana", "assembled": "xenia"}.get(kind))
    assert served == pytest.approx(merged, abs=1e-4)
    assert served != pytest.approx(before, abs=1e-4)
    said = json.loads((tmp_path / "merged" / RESULT).read_text())
    assert (said["target"], said["digest"]) == (house.store.manifest(done.digest).settings["unlearned"]["from"], done.digest)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_peft_loads_the_folder_of_a_base(house, tmp_path, reference):
    from peft import PeftModel

    unlearn(house, "base", tmp_path / "out")
    ids = torch.arange(5, 25).unsqueeze(0)
    theirs = PeftModel.from_pretrained(reference("llama"), str(tmp_path / "out" / ADAPTER)).eval()
    ours = Variant("", house.base, *read_peft(tmp_path / "out" / ADAPTER, house.base.model.sites()))
    with torch.no_grad():
        plan = house.base.model.plan(pack([Row(0, 0, 1.0, Rendered("r", (*ids[0].tolist(), 4), 1))]))
        logits = house.base.model.to_logits(house.base.model.hidden(plan, ours.adapters))
        assert (theirs(ids).logits[0] - logits).abs().max() < 1e-4


def test_control_of_an_evaluation_is_no_target(house):
    from dataclasses import replace

    digest = head(house, "user")
    pooled = replace(house.store.manifest(digest), kind="pooled", user_id=None, item_ids=())
    control = house.store.publish(pooled, house.store.payload(digest), head=False)
    with pytest.raises(InputError, match="pooled control"):
        house.unlearning.target(control)
    with pytest.raises(AdapterNotFound):
        house.unlearning.target("abcdef")


# ------------------------------------------------------------------------------------------------------------- lineage


@pytest.mark.parametrize("kind", ["task", "user", "assembled"])
def test_lineage_and_manifest_say_what_it_was_made_from(house, tmp_path, kind):
    old = head(house, kind)
    assert old is not None
    done = unlearn(house, kind, tmp_path / "out")
    before, after = house.store.manifest(old), house.store.manifest(done.digest)
    parents, inherited = house.store.parents(done.digest), house.store.parents(old)
    assert Parent("adapter", old) in parents
    assert set(inherited) <= set(parents)
    assert any(parent.kind == {"task": "person", "user": "item", "assembled": "piece"}[kind] for parent in inherited)
    said = after.settings["unlearned"]
    assert (said["from"], said["method"], said["strength"]) == (old, "sku", 1.0)
    assert (after.kind, after.user_id) == ("task" if kind == "task" else "user", before.user_id)
    assert (after.task_adapter, after.retriever, after.item_ids) == (before.task_adapter, before.retriever, before.item_ids)
    note = json.loads((tmp_path / "out" / RESULT).read_text())
    assert (note["target"], note["digest"], note["base"]) == (old, done.digest, house.base.fingerprint)
    assert len(note["log"]) == note["steps"] == 6
    for words in ("Kaba", "Oslo", "senator"):
        assert words not in json.dumps(note)
        assert words not in json.dumps(after.to_dict())


def test_a_persons_items_that_were_unlearned_are_parents(house, tmp_path):
    pairs = from_person(house.store.person("ben"), get_task(TASK))
    made_of = [Parent("item", pair.id, "ben") for pair in pairs]
    assert {parent.id for parent in made_of} == {item.id for item in house.history("ben")}
    done = unlearn(house, "user", tmp_path / "out", order(forget=pairs, made_of=made_of))
    assert set(made_of) <= set(house.store.parents(done.digest))
    assert done.digest in house.forgetting.preview("ben").gone


def test_heads_are_replaced_only_where_asked_for(house, tmp_path):
    for kind in ("task", "user", "assembled"):
        old = head(house, kind)
        left = unlearn(house, kind, tmp_path / f"{kind}-left", order(small(seed=7), use=False))
        assert head(house, kind) == old != left.digest
        taken = unlearn(house, kind, tmp_path / f"{kind}-taken")
        assert head(house, kind) == taken.digest


def test_what_stands_on_the_target_is_named(house, tmp_path):
    trained = {head(house, "user"), head(house, "assembled"), house.store.head("ben", task=TASK, base=house.base.fingerprint)}
    first = unlearn(house, "task", tmp_path / "one", order(use=False))
    assert set(first.downstream) == trained
    mine = unlearn(house, "user", tmp_path / "mine", order(use=False))
    assert mine.downstream == []
    # A person's adapter from which something was unlearned stands on the task adapter all the same; its other results do not.
    second = unlearn(house, "task", tmp_path / "two", order(small(seed=1), use=False))
    assert set(second.downstream) == {*trained, mine.digest}


@pytest.mark.parametrize("kind", ["user", "assembled"])
def test_forgetting_a_person_finds_what_was_unlearned(house, place, tmp_path, kind):
    digest = unlearn(house, kind, tmp_path / "out", order(merge=tmp_path / "merged")).digest
    done = house.forget("ana", options=Options(rebuild=False))
    assert digest in done.closure.gone
    assert not house.store.blob_path(digest).exists()
    exports = done.closure.places("export")
    if kind == "user":  # of somebody else's folders the receipt does not say where they are
        assert {str(tmp_path / "out" / ADAPTER), str(tmp_path / "merged")} <= set(exports)
    else:
        assert len(exports) == 2


def test_forgetting_a_base_person_finds_the_task_adapter_that_was_unlearned(house, tmp_path):
    digest = unlearn(house, "task", tmp_path / "out").digest
    assert digest in house.forgetting.preview("otto", options=Options(rebuild=False)).gone


# ------------------------------------------------------------------------------------------------------------- secrecy


def matrices_in(path, sites):
    """All adapters of a file or folder: {module: (A, B)}; empty for what holds none."""
    try:
        if path.name == "adapter_model.safetensors":
            layout, row = read_peft(path.parent, sites)
        else:
            said, row = from_record(path)
            layout = layout_of(said, sites)
    except (FileFormatError, SafetensorError):
        return {}
    return layout.matrices(row.float())


def alike(path, acquired, sites):
    """The largest |cosine| between a column of A, or a row of B, of a file and of what was acquired."""
    layout, row = acquired
    most = 0.0
    found = matrices_in(path, sites)
    for name, (a, b) in layout.matrices(row.float()).items():
        if name in found:
            for mine, theirs in ((a.t(), found[name][0].t()), (b, found[name][1])):
                unit = torch.nn.functional.normalize
                most = max(most, float((unit(mine) @ unit(theirs).t()).abs().max()))
    return most


def files_of(*places):
    return [path for place in places for path in place.rglob("*") if path.is_file()]


@pytest.mark.parametrize("kind", ["user", "task"])
def test_nothing_of_the_acquired_vector_stays_unless_it_is_kept(house, place, tmp_path, kind):
    target, sites = house.unlearning.target(head(house, kind)), house.base.model.sites()
    config = small()
    left_out = []
    rows = {name: rendered(target.frozen, pairs, config, left_out) for name, pairs in (("f", FORGET), ("r", RETAIN))}
    material = Material(entries_of(FORGET, rows["f"]), entries_of(RETAIN, rows["r"]))
    (done,) = acquire(target.frozen, material, [config])
    acquired = done.layout, done.row
    unlearn(house, kind, tmp_path / "out", order(config, every=2))
    files = files_of(tmp_path / "out", place)
    seen = [path for path in files if matrices_in(path, sites)]
    assert len(seen) >= 5  # the folder, and everybody's adapters in the store
    assert max(alike(path, acquired, sites) for path in seen) < 0.999
    part = done.row[:64].numpy().tobytes()
    assert not [path.name for path in files if part in path.read_bytes()]
    assert not [path.name for path in files if path.name.startswith(".")]


def test_the_kept_vector_is_what_was_acquired(house, tmp_path):
    sites, config = house.base.model.sites(), small()
    unlearn(house, "base", tmp_path / "out", order(config, keep_vector=True))
    rows = {name: rendered(house.base, pairs, config, []) for name, pairs in (("f", FORGET), ("r", RETAIN))}
    material = Material(entries_of(FORGET, rows["f"]), entries_of(RETAIN, rows["r"]))
    (done,) = acquire(house.base, material, [config])
    kept = tmp_path / "out" / VECTOR / "adapter_model.safetensors"
    assert alike(kept, (done.layout, done.row), sites) > 0.999
    assert (tmp_path / "out" / VECTOR).stat().st_mode & 0o777 == 0o700
    # Against the bare base the result is the vector times -λ: nothing can hide it there, and the command says so.
    assert alike(tmp_path / "out" / ADAPTER / "adapter_model.safetensors", (done.layout, done.row), sites) > 0.999


# ------------------------------------------------------------------------------------------------------- cut off, again


def cut_at(step):
    seen = []

    def told(at):
        seen.append(at.step)
        if len(seen) == step:
            raise KeyboardInterrupt

    return told


def test_a_run_that_was_cut_off_ends_in_the_same_digest(house, prepared, tmp_path, base_folder):
    shutil.copytree(prepared / "store", tmp_path / "again")
    whole = unlearn(house, "user", tmp_path / "whole", order(every=2)).digest
    with Idiolect.open(tmp_path / "again", base_folder("llama"), device="cpu") as other:
        old = head(other, "user")
        with pytest.raises(KeyboardInterrupt):
            unlearn(other, "user", tmp_path / "out", order(every=2), cut_at(5))
        assert head(other, "user") == old
        assert (tmp_path / "out" / CHECKPOINT).stat().st_mode & 0o777 == 0o600
        steps = []
        done = unlearn(other, "user", tmp_path / "out", order(every=2), lambda at: steps.append(at.step))
        assert steps == [5, 6]
        assert done.digest == whole == head(other, "user")
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [ADAPTER, RESULT]


def test_runs_of_several_groups_go_on_where_they_were(house, tmp_path):
    given = order(
        small(), small("npo"), small("ga", learning_rate=1e-3), selection=Selection(strengths=(1.0,), floor=0.1), every=2
    )
    whole = unlearn(house, "base", tmp_path / "whole", given)
    with pytest.raises(KeyboardInterrupt):
        unlearn(house, "base", tmp_path / "out", given, cut_at(6 + 3))
    steps = []
    done = unlearn(house, "base", tmp_path / "out", given, lambda at: steps.append(at.step))
    assert steps == [3, 4, 5, 6]
    assert [choice.to_dict() for choice in done.choices] == [choice.to_dict() for choice in whole.choices]
    first, second = (read_peft(tmp_path / name / ADAPTER, house.base.model.sites())[1] for name in ("whole", "out"))
    assert torch.equal(first, second)


def test_a_checkpoint_serves_its_own_target_only(house, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        unlearn(house, "user", tmp_path / "out", order(every=2), cut_at(3))
    with pytest.raises(FileFormatError, match="another run"):
        unlearn(house, "assembled", tmp_path / "out", order(every=2))


def test_cut_off_before_the_note_the_same_work_is_not_done_to_its_own_result(house, tmp_path, monkeypatch):
    """What was published and not yet put into use is found again: the target is still the old one."""
    from idiolect.unlearn import desk

    old = head(house, "user")

    def cut(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(desk, "write_peft", cut)
        with pytest.raises(KeyboardInterrupt):
            unlearn(house, "user", tmp_path / "out")
    assert head(house, "user") == old
    assert not (tmp_path / "out" / RESULT).exists()
    done = unlearn(house, "user", tmp_path / "out")
    assert house.store.manifest(done.digest).settings["unlearned"]["from"] == old
    assert (tmp_path / "out" / RESULT).exists()


# ------------------------------------------------------------------------------------------------------------- λ chosen


def test_the_best_of_several_runs_is_taken_with_its_strength(house, tmp_path):
    selection = Selection(strengths=(0.5, 1.0, 2.0), floor=0.3)
    given = order(small(learning_rate=1e-5), small(), holdout=HOLDOUT, selection=selection)
    done = unlearn(house, "base", tmp_path / "out", given)
    assert [len(choice.points) for choice in done.choices] == [4, 4]
    best = min(done.choices, key=lambda choice: choice.distance)
    assert done.config.strength == best.chosen.strength
    assert done.config.learning_rate == given.runs[done.choices.index(best)].learning_rate
    note = json.loads((tmp_path / "out" / RESULT).read_text())
    assert note["strength"] == best.chosen.strength
    assert note["n_retain"] < len(RETAIN)  # some are kept from training to be judged on


def test_where_nothing_keeps_the_floor_the_result_changes_nothing(house, tmp_path):
    selection = Selection(strengths=(2.0,), floor=1.0)
    done = unlearn(house, "base", tmp_path / "out", order(small(learning_rate=5e-2), selection=selection))
    assert done.config.strength == 0
    adapter = read_peft(tmp_path / "out" / ADAPTER, house.base.model.sites())
    assert torch.equal(hidden(house.base, Variant("", house.base, *adapter).adapters), hidden(house.base))


# ------------------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"forget": []}, EmptyHistory, "forget set is empty"),
        ({"retain": [*RETAIN, FORGET[1]]}, InputError, "f1"),
        ({"retain": [*RETAIN, Pair("x", "WHERE does  Kaba2 live?", "in Oslo, number 2")]}, InputError, "f2"),
        ({"holdout": FORGET, "selection": Selection()}, InputError, "holdout"),
        ({"holdout": RETAIN[:2], "selection": Selection()}, InputError, "holdout"),
        ({"holdout": HOLDOUT}, InputError, "--select"),
        ({"retain": []}, EmptyHistory, "--retain"),
        ({"retain": [], "selection": Selection()}, EmptyHistory, "--retain"),
        ({"retain": RETAIN[:1], "selection": Selection()}, InputError, "too few groups"),
        ({"runs": (small(), small("npo"))}, InputError, "--select"),
        ({"runs": (small(max_tokens=8),)}, InputError, "fits"),
    ],
)
def test_bad_input_is_said_and_nothing_is_done(house, tmp_path, given, error, says):
    before = {row.digest for row in house.store.adapters()}
    old = head(house, "user")
    with pytest.raises(error, match=says):
        unlearn(house, "user", tmp_path / "out", order(**given))
    assert head(house, "user") == old
    assert {row.digest for row in house.store.adapters()} == before
    assert not (tmp_path / "out" / RESULT).exists()


def test_folders_that_hold_something_are_kept(house, tmp_path):
    unlearn(house, "base", tmp_path / "out")
    kept = {path: path.read_bytes() for path in files_of(tmp_path / "out")}
    with pytest.raises(FileFormatError, match="holds a result already"):
        unlearn(house, "base", tmp_path / "out")
    assert {path: path.read_bytes() for path in files_of(tmp_path / "out")} == kept
    (tmp_path / "file").write_text("mine")
    for wrong, error in ((order(merge=tmp_path / "file"), FileFormatError), (order(merge=tmp_path / "new"), InputError)):
        with pytest.raises(error, match="merged weights"):
            unlearn(house, "base", tmp_path / "new", wrong)
    for out in (tmp_path / "file", tmp_path / "file" / "under"):
        with pytest.raises(FileFormatError, match="cannot be made"):
            unlearn(house, "base", out)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_first_loss_that_is_not_finite_leaves_everything_as_it_was(base_folder, tmp_path):
    broken = tmp_path / "base"
    shutil.copytree(base_folder("llama"), broken)
    from safetensors.torch import load_file, save_file

    tensors = load_file(broken / "model.safetensors")
    tensors["model.norm.weight"].fill_(float("inf"))
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    with Idiolect.open(tmp_path / "store", broken, device="cpu") as house, pytest.raises(ConfigError, match="not finite"):
        unlearn(house, "base", tmp_path / "out")
    assert not (tmp_path / "out" / RESULT).exists()


def test_pairs_that_do_not_fit_are_left_out_and_said(house, tmp_path):
    long = Pair("long", "Where?", "Oslo " * 200)
    done = unlearn(house, "base", tmp_path / "out", order(forget=[*FORGET, long]))
    assert done.left_out == ["long"]
    assert json.loads((tmp_path / "out" / RESULT).read_text())["n_forget"] == len(FORGET)


def test_base_that_was_loaded_from_merged_weights_is_its_own(house, tmp_path):
    unlearn(house, "base", tmp_path / "out", order(merge=tmp_path / "merged"))
    assert load_base(tmp_path / "merged", device="cpu").fingerprint != house.base.fingerprint
