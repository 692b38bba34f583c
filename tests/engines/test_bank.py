"""Dials without LoRA, as far as they go without vLLM: settings, salts, slots, steps, banks, what is refused."""

import ast
import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.export.circuits import dosed
from tests.subjects import shared

from neurodial.circuit.circuit import Circuit, Origin, Row
from neurodial.circuit.site import Neuron, Site
from neurodial.engines.vllm_bank import Bank, multiplied
from neurodial.engines.vllm_exports import read_exports
from neurodial.engines.vllm_patches import REFUSED, key_of, refuse_unsalted, sites_of, steer_request
from neurodial.engines.vllm_plugin import register
from neurodial.engines.vllm_settings import (
    KEY,
    Admission,
    BankRows,
    ServedCircuits,
    check_parts,
    dials_of,
    read_slots,
)
from neurodial.engines.vllm_start import refuse_options
from neurodial.engines.vllm_steps import Share, follow, neurons_of
from neurodial.errors import EngineError, ExportError
from neurodial.export.export_circuit import export_circuit
from neurodial.intervention.scale import Scale
from neurodial.intervention.steer import steer

DOSES = {"one": {(0, 3): 1.0, (0, 20): 1.5, (1, 2): -1.0}, "two": {(0, 3): 0.5, (0, 7): 0.25}}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder, subject = tmp_path_factory.mktemp("bank"), shared("llama")
    for name, doses in DOSES.items():
        export_circuit(subject, Scale(dosed(subject, doses, name)), route="vllm-bank", output=folder / name)
    return ServedCircuits(read_exports(":".join(str(folder / name) for name in DOSES)), 8.0, 3)


# ------------------------------------------------------------------------------------------- what a request asks for


@pytest.mark.parametrize(
    ("asked", "setting"),
    [("two@.5,one", "one@1.0,two@0.5"), (["one@-1", " two@0 "], "one@-1.0"), ("one@-0", ""), (("two",), "two@1.0")],
)
def test_a_setting_has_one_form(served, asked, setting):
    assert served.setting(asked) == setting
    assert served.setting(setting or "one@0") == setting  # read again it is the same
    assert all(served.setting(f"{name}@{dial}") for name, dial in dials_of(setting).items())


@pytest.mark.parametrize(
    ("asked", "word"),
    [("three", "No circuit is called 'three' here: one, two"), ("", "No circuit"), ([], "No circuit"), (1.5, "No circ"),
     ([1], "No circuit"), ("one,", "No circuit"), ("one@1,one@2", "stands twice"), ("one@9", "out of range"),
     ("one@nan", "not a number"), ({"one": 1}, "No circuit")],
)  # fmt: skip
def test_what_is_not_there_is_refused(served, asked, word):
    with pytest.raises(ValueError, match=word):
        served.setting(asked)


def request(**extra):
    salt = extra.pop("cache_salt", None)
    params = SimpleNamespace(extra_args=extra or None)
    return SimpleNamespace(request_id="r", sampling_params=params, pooling_params=None, cache_salt=salt)


def test_a_steered_request_gets_the_salt_of_its_setting(served):
    salts = set()
    for asked in ("one", "one@0.5", "two", "one,two"):
        for own in (None, "mine"):
            steered = request(neurodial=asked, other=1, cache_salt=own)
            steer_request(steered, served)
            assert steered.sampling_params.extra_args == {"other": 1, KEY: served.setting(asked)}
            refuse_unsalted(steered, served)
            salts.add(steered.cache_salt)
            for salt in (own, "", served.salt("one@2.0", None)):
                steered.cache_salt = salt
                with pytest.raises(EngineError, match="without the cache_salt of that"):
                    refuse_unsalted(steered, served)
    assert len(salts) == 8
    for plain in (request(), request(neurodial="one@0", other=1), request(cache_salt="mine")):
        own = plain.cache_salt
        steer_request(plain, served)
        refuse_unsalted(plain, served)
        assert plain.cache_salt == own
        assert KEY not in (plain.sampling_params.extra_args or {})


def test_a_salt_that_looks_like_ours_and_what_does_not_generate_are_refused(served):
    with pytest.raises(ValueError, match="is kept for circuits"):
        steer_request(request(cache_salt=served.salt("one@1.0", None)), served)
    pooling = SimpleNamespace(sampling_params=None, pooling_params=SimpleNamespace(extra_kwargs={KEY: "one"}))
    with pytest.raises(ValueError, match="Only requests that generate"):
        steer_request(pooling, served)


def test_another_circuit_has_another_salt(served):
    other = ServedCircuits(dict.fromkeys(served.exports, served.exports["one"]), 8.0, 3)
    assert not other.is_salted("one@1.0", served.salt("one@1.0", None))


# ------------------------------------------------------------------------------------------- slots


@given(
    st.lists(
        st.sets(st.sampled_from(["", "a", "b", "c", "d", "e"]), max_size=4).filter(
            lambda wanted: len(wanted - {""}) < 4
        )
    )
)
def test_every_setting_of_a_step_has_a_row_of_its_own_that_holds_it(steps):
    """Against a table that is written where it says so."""
    table, rows = BankRows(3), {0: ""}
    for wanted in steps:
        for setting in table.assign(wanted):
            rows[table.of(setting)] = setting
        assert all(rows[table.of(setting)] == setting for setting in wanted)
        assert max(rows) <= 3
        assert rows[0] == ""


def test_a_full_table_is_refused_at_the_door_and_behind_it():
    table = BankRows(2)
    with pytest.raises(RuntimeError, match="NEURODIAL_VLLM_SLOTS"):
        table.assign(["a", "b", "c"])
    door = Admission(2)
    for number, setting in enumerate(["a", "b", "a"]):
        door.admit(str(number), setting, {str(one) for one in range(number)})
    with pytest.raises(ValueError, match="2 settings of circuits and dials are in use"):
        door.admit("3", "c", {"0", "1", "2"})
    door.admit("3", "c", {"1"})  # the others are done
    with pytest.raises(ValueError, match="no other"):
        door.admit("4", "a", {"1", "3"})


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many", "4097", "²"])
def test_slots_that_are_none_are_refused(text):
    assert (read_slots({}), read_slots({"NEURODIAL_VLLM_SLOTS": "256"})) == (32, 256)
    with pytest.raises(ValueError, match="NEURODIAL_VLLM_SLOTS"):
        read_slots({"NEURODIAL_VLLM_SLOTS": text})


# ------------------------------------------------------------------------------------------- steps and banks


class Runner:
    """As much of a model runner of vLLM's as is followed; the first kind tells the order in `input_batch`."""

    def __init__(self, model, *, second=False):
        self.model, self.device, self.ran = model, torch.device("cpu"), []
        self.input_batch = SimpleNamespace(req_ids=[])
        if second:
            self.prepare_inputs = lambda scheduled: SimpleNamespace(req_ids=list(scheduled.order))
        else:
            self._prepare_inputs = lambda scheduled: setattr(self.input_batch, "req_ids", list(scheduled.order))

    def get_model(self):
        return self.model

    def execute_model(self, scheduled, dummy_run=False):
        if scheduled.order:
            (self.prepare_inputs if hasattr(self, "prepare_inputs") else self._prepare_inputs)(scheduled)
        self.ran.append(None if scheduled.tokens is None else self.model(scheduled.tokens))


def step(counts, *, new=(), finished=(), order=None, tokens=None, computed=None):
    cached = [name for name in counts if name not in dict(new)]
    requests = [
        SimpleNamespace(req_id=name, num_computed_tokens=0, sampling_params=SimpleNamespace(extra_args={KEY: setting}))
        for name, setting in new
    ]
    done = SimpleNamespace(req_ids=cached, num_computed_tokens=[(computed or {}).get(name, 9) for name in cached])
    return SimpleNamespace(
        scheduled_new_reqs=requests, scheduled_cached_reqs=done, num_scheduled_tokens=counts, tokens=tokens,
        finished_req_ids=set(finished), order=list(counts) if order is None else order,
    )  # fmt: skip


@pytest.mark.parametrize("second", [False, True])
def test_steps_are_told_in_the_order_of_the_batch(second):
    runner, told = Runner(None, second=second), []
    follower = SimpleNamespace(
        began=lambda new, finished: told.append(([one.req_id for one in new], list(finished))),
        batch=told.append, ended=lambda: told.append("end"), fail=told.append,
    )  # fmt: skip
    follow(runner, follower)
    runner.execute_model(step({"a": 3, "b": 4}, new=[("a", ""), ("b", "")], order=["b", "a"]))
    runner.execute_model(step({}), dummy_run=True)
    runner.execute_model(step({"b": 1}, finished=["a", "never"], computed={"b": 4}))
    runner.execute_model(step({"b": 1}, order=["c"]))
    assert told == [
        (["a", "b"], []), [Share("b", 0, 4), Share("a", 0, 3)], "end", ([], ["a"]), [Share("b", 4, 1)], "end",
        ([], []), "the order of the requests in a step is not known", "end",
    ]  # fmt: skip


class Down(torch.nn.Module):
    """As much of vLLM's down projection as is leaned on, one of some shards."""

    def __init__(self, linear, rank, size):
        super().__init__()
        self.input_size = linear.in_features
        self.input_size_per_partition = linear.in_features // size
        self.tp_rank, self.input_is_parallel, self.params_dtype = rank, True, torch.float32
        mine = slice(rank * self.input_size_per_partition, (rank + 1) * self.input_size_per_partition)
        self.weight = torch.nn.Parameter(linear.weight[:, mine].detach().clone())
        self.quant_method = UnquantizedLinearMethod()

    def forward(self, given):
        return self.quant_method.apply(self, given, None)


class UnquantizedLinearMethod:
    def apply(self, layer, given, bias):
        return given @ layer.weight.T


class Dialled(Down):
    def forward(self, given):
        return Down.forward(self, multiplied(self, given))


class Routed(torch.nn.Module):
    """As much of vLLM's `RoutedExperts` as is leaned on: some experts, or a shard of the neurons of each."""

    def __init__(self, down, experts, size=1, rank=0):
        super().__init__()
        number, width = down.shape[0], down.shape[2]
        here = torch.full((number,), -1)
        here[experts] = torch.arange(len(experts))
        self.expert_map = None if len(experts) == number else here
        mine = slice(rank * width // size, (rank + 1) * width // size)
        self.w2_weight = torch.nn.Parameter(down[experts][..., mine].detach().clone())
        self.global_num_experts, self.top_k, self.routed_scaling_factor = number, 2, None
        parallel = SimpleNamespace(tp_size=size, tp_rank=rank)
        self.kernel = TritonExperts(SimpleNamespace(moe_parallel_config=parallel))
        self.quant_method = UnquantizedMethod()
        self.quant_method.moe_kernel = SimpleNamespace(fused_experts=self.kernel)

    def forward(self, neurons, ids):
        """The sum over each token's experts here, of neurons that are the same for all of them."""
        acted = torch.zeros(ids.numel(), neurons.shape[-1])
        self.kernel.apply(topk_ids=ids, output=acted, given=neurons.repeat_interleave(ids.shape[1], 0))
        here = torch.arange(len(self.w2_weight)) if self.expert_map is None else self.expert_map
        written = torch.zeros(len(ids), self.w2_weight.shape[1])
        for row, expert in enumerate(ids.flatten().tolist()):
            if here[expert] >= 0:
                written[row // ids.shape[1]] += self.w2_weight[here[expert]] @ acted[row]
        return written


class UnquantizedMethod:
    pass


class TritonExperts:
    def __init__(self, config):
        self.moe_config = config

    def apply(self, *, topk_ids, output, given):
        self.activation("silu", output, given)

    def activation(self, kind, output, given):
        output.copy_(given)


class Model(torch.nn.Module):
    """The down projections of a subject, under vLLM's names."""

    def __init__(self, subject, rank=0, size=1):
        super().__init__()
        for number, site in enumerate(subject.sites):
            holder = torch.nn.Module()
            holder.down_proj = Down(subject.down(site), rank, size)
            block = torch.nn.Module()
            block.mlp = holder
            self.add_module(f"layers_{number}", block)
        self.layers = torch.nn.ModuleList(self.children())
        for number in range(len(self.layers)):
            delattr(self, f"layers_{number}")

    def forward(self, tokens):
        """Each layer's output for the same neurons."""
        return [block.mlp.down_proj(tokens) for block in self.layers]


def worker_of(model, rank=0, *, second=False, enforce_eager=True):
    scheduler = SimpleNamespace(max_num_batched_tokens=20)
    config = SimpleNamespace(
        compilation_config=SimpleNamespace(cudagraph_capture_sizes=None), scheduler_config=scheduler,
        model_config=SimpleNamespace(dtype=torch.float32, enforce_eager=enforce_eager),
    )  # fmt: skip
    return SimpleNamespace(model_runner=Runner(model, second=second), rank=rank, vllm_config=config)


def hooked_downs(subject, tokens, interventions):
    """What each down projection gives, under our hooks."""
    with steer(subject, *interventions):
        return [subject.down(site)(tokens[None])[0] for site in subject.sites]


@pytest.mark.parametrize(("size", "second"), [(1, False), (2, True)])
def test_each_request_has_its_own_dials(served, size, second):
    """Against the multipliers by hand: several settings in a batch, padding behind it, rows that are given anew."""
    subject = shared("llama")
    width = subject.widths[0]
    workers = [worker_of(Model(subject, rank, size), rank, second=second) for rank in range(size)]
    banks = [Bank(worker, served, {Down: Dialled}, Routed) for worker in workers]
    assert check_parts([bank.described() for bank in banks], sites_of(served)) == ""
    generator = torch.Generator().manual_seed(0)
    neurons = torch.randn(12, width, generator=generator)
    settings = {"p": "", "a": "one@1.0", "b": "one@-0.5,two@2.0", "c": "two@1.0", "d": "one@3.0"}

    def wanted(names):
        rows = []
        for layer in range(subject.layers):
            factors = torch.ones(len(names), width, dtype=torch.float64)
            for row, name in enumerate(names):
                for circuit, dial in dials_of(settings[name]).items():
                    for (where, index), dose in DOSES[circuit].items():
                        factors[row, index] -= dial * dose * (where == layer)
            weight = subject.down_weight(subject.sites[layer]).detach()
            rows.append((neurons[: len(names)] * factors.float()) @ weight.T)
        return rows

    def run(counts, padding=2, **options):
        names = [name for name, count in counts.items() for _ in range(count)] + ["p"] * padding
        for rank, worker in enumerate(workers):
            part = neurons[: len(names), rank * width // size : (rank + 1) * width // size]
            worker.model_runner.execute_model(step(counts, tokens=part, **options))
        outputs = [sum(parts) for parts in zip(*(worker.model_runner.ran[-1] for worker in workers), strict=True)]
        for found, expected in zip(outputs, wanted(names), strict=True):
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)

    run({"a": 3, "p": 2, "b": 4}, new=[(name, settings[name]) for name in ("a", "p", "b")])
    run({"b": 1, "p": 1, "a": 1, "c": 5}, new=[("c", settings["c"])])
    run({"p": 1}, finished=["a"])  # nothing steered any more
    run({"b": 1, "d": 4, "c": 1}, new=[("d", settings["d"])])  # takes the row of `a`
    run({"a": 4, "d": 1}, new=[("a", settings["a"])], finished=["b"])  # and `a` another's


EXPERTS = {(0, 1, 5): 1.0, (0, 2, 9): 0.5, (0, 2, 23): -1.0, (1, 0, 4): 2.0}
PARTS = {"all": [([0, 1, 2, 3], 1, 0)], "expert parallel": [([0, 2], 1, 0), ([1, 3], 1, 0)],
         "tensor parallel": [([0, 1, 2, 3], 2, 0), ([0, 1, 2, 3], 2, 1)]}  # fmt: skip


@pytest.fixture(scope="module")
def routed(tmp_path_factory):
    subject, folder = shared("mixtral"), tmp_path_factory.mktemp("routed") / "x"
    rows = [Row(Neuron(*place), 1.0, dose) for place, dose in EXPERTS.items()]
    circuit = Circuit.of(rows, name="x", origin=Origin(model=subject.identity))
    export = export_circuit(subject, Scale(circuit), route="vllm-bank", output=folder)
    assert all(check.effect > 0 for check in export.checks)
    return ServedCircuits(read_exports(str(folder)), 8.0, 3)


def model_of_experts(subject, experts, size, rank):
    blocks = []
    for layer in range(subject.layers):
        down = subject.down_weight(Site(layer, routed=True))
        block, inside = torch.nn.Module(), torch.nn.Module()
        inside.experts = Routed(down, experts, size, rank)
        block.mlp = inside
        blocks.append(block)
    model = torch.nn.Module()
    model.layers = torch.nn.ModuleList(blocks)
    model.forward = lambda given: [block.mlp.experts(*given) for block in model.layers]
    return model


@pytest.mark.parametrize("parts", PARTS)
def test_experts_are_dialled_between_their_products(routed, parts):
    """Against the multipliers by hand, each token at its own dial, over processes that share experts or neurons."""
    subject = shared("mixtral")
    number, width = subject.shape(Site(0, routed=True))
    workers = [worker_of(model_of_experts(subject, *part), rank) for rank, part in enumerate(PARTS[parts])]
    banks = [Bank(worker, routed, {Down: Dialled}, Routed) for worker in workers]
    assert check_parts([bank.described() for bank in banks], sites_of(routed)) == ""
    assert number == 4
    generator = torch.Generator().manual_seed(0)
    neurons = torch.randn(6, width, generator=generator)
    ids = torch.stack([torch.randperm(number, generator=generator)[:2] for _ in range(6)])
    dials = [1.0, 1.0, 0.0, -2.0, -2.0, 0.0]
    new = [("a", "x@1.0"), ("p", ""), ("b", "x@-2.0")]
    for worker, (_, size, rank) in zip(workers, PARTS[parts], strict=True):
        part = neurons[:, rank * width // size : (rank + 1) * width // size]
        worker.model_runner.execute_model(step({"a": 2, "p": 1, "b": 2}, new=new, tokens=(part, ids)))
    outputs = [sum(layers) for layers in zip(*(worker.model_runner.ran[-1] for worker in workers), strict=True)]
    for layer, found in enumerate(outputs):
        factors = torch.ones(6, number, width)
        for (where, expert, index), dose in EXPERTS.items():
            factors[:, expert, index] -= torch.tensor(dials) * dose * (where == layer)
        down = subject.down_weight(Site(layer, routed=True)).detach()
        wanted = torch.stack(
            [sum(down[expert] @ (neurons[row] * factors[row, expert]) for expert in ids[row]) for row in range(6)]
        )
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_experts_that_cannot_be_dialled_are_refused(routed):
    subject, everything = shared("mixtral"), ([0, 1, 2, 3], 1, 0)
    compiled = Bank(
        worker_of(model_of_experts(subject, *everything), enforce_eager=False), routed, {Down: Dialled}, Routed
    )
    assert "--enforce-eager" in compiled.trouble
    hiding = model_of_experts(subject, *everything)
    hiding.layers[0].mlp.experts.kernel.__class__ = type("CutlassExperts", (TritonExperts,), {})
    assert "CutlassExperts shows no activations" in Bank(worker_of(hiding), routed, {}, Routed).trouble
    other = model_of_experts(subject, *everything)
    with torch.no_grad():
        other.layers[1].mlp.experts.w2_weight[0] *= -1
    assert "another model's: columns of layer 1.experts" in Bank(worker_of(other), routed, {}, Routed).trouble
    part = Bank(worker_of(model_of_experts(subject, [0, 2], 1, 0)), routed, {}, Routed).described()
    assert "of expert 1 of layer 0.experts vLLM's processes have none" in check_parts([part], sites_of(routed))


def test_the_circuit_of_another_model_is_refused(served):
    model = Model(shared("llama"))
    with torch.no_grad():
        model.layers[0].mlp.down_proj.weight[:, 3] *= 1.5
    bank = Bank(worker_of(model), served, {Down: Dialled}, Routed)
    trouble = check_parts([bank.described()], sites_of(served))
    assert trouble.startswith("the circuit 'one' is another model's: columns of layer 0 are ")
    with torch.no_grad():  # rounding is none
        rounded = Model(shared("llama"))
        rounded.layers[0].mlp.down_proj.weight.copy_(rounded.layers[0].mlp.down_proj.weight.bfloat16().float())
    assert Bank(worker_of(rounded), served, {Down: Dialled}, Routed).trouble == ""


def test_layers_that_are_not_there_or_changed_already_are_refused(served):
    short = Model(shared("llama"))
    del short.layers[1]
    described = Bank(worker_of(short), served, {Down: Dialled}, Routed).described()
    assert "of layer 1 vLLM's processes have none" in check_parts([described], sites_of(served))
    half = Bank(worker_of(Model(shared("llama"), 1, 2)), served, {Down: Dialled}, Routed).described()
    assert "processes have 12 to 24" in check_parts([half], sites_of(served))
    changed = Model(shared("llama"))
    changed.layers[0].mlp.down_proj.__class__ = type("WithLoRA", (Down,), {})
    trouble = Bank(worker_of(changed), served, {Down: Dialled}, Routed).trouble
    assert "layer 0 is a WithLoRA, and an adapter or another change stands on it already" in trouble
    with pytest.raises(ValueError, match="has 24 neurons, and 25 were expected"):
        neurons_of(Model(shared("llama")).layers[0].mlp.down_proj, 25, "0")


def test_a_layer_that_hides_its_neurons_is_an_error(served):
    worker = worker_of(Model(shared("llama")))
    Bank(worker, served, {Down: Dialled}, Routed)
    down = worker.model_runner.model.layers[0].mlp.down_proj
    assert down.requires_unquantized_input
    for hidden in (SimpleNamespace(data=torch.ones(2, 24)), torch.ones(1, 2, 24)):
        with pytest.raises(TypeError, match="something else than a row of neurons for each token"):
            down(hidden)


# ------------------------------------------------------------------------------------------- the plugin


def test_compiled_code_is_known_by_the_layers_and_rows_that_it_has(served):
    keys = {key_of(served, sites_of(served)), key_of(served, {"0": [24]})}
    keys.add(key_of(ServedCircuits(served.exports, 8.0, 4), sites_of(served)))
    assert len(keys) == 3


def test_options_that_would_make_it_wrong_are_refused():
    refuse_options(SimpleNamespace(model="m", tensor_parallel_size=8, enable_lora=False), "m", REFUSED, "")
    for name, value in (("enable_lora", True), ("data_parallel_size", 2), ("enable_dbo", True)):
        with pytest.raises(EngineError, match=f"--{name.replace('_', '-')}"):
            refuse_options(SimpleNamespace(model="m", **{name: value}), "m", REFUSED, "")


def test_adapters_and_banks_are_not_served_together(served, tmp_path, monkeypatch):
    export_circuit(shared("llama"), Scale(dosed(shared("llama"))), route="vllm", output=tmp_path / "adapter")
    monkeypatch.setenv("NEURODIAL_VLLM", f"{served.exports['one'].folder}:{tmp_path / 'adapter'}")
    with pytest.raises(ValueError, match="one server serves one kind"):
        register()


def test_doses_that_changed_since_the_export_are_refused(tmp_path):
    export_circuit(shared("llama"), Scale(dosed(shared("llama"))), route="vllm-bank", output=tmp_path / "one")
    path = tmp_path / "one" / "doses.json"
    value = json.loads(path.read_text())
    value["layers"][0]["doses"][0] = 0.9
    path.write_text(json.dumps(value))
    with pytest.raises(ValueError, match=r"doses\.json changed since the export"):
        read_exports(str(tmp_path / "one"))


@pytest.mark.parametrize(
    "name",
    [
        "exports",
        "plugin",
        "settings",
        "patches",
        "bank",
        "layer_bank",
        "layers",
        "experts",
        "steps",
        "rows",
        "start",
        "range",
        "worker",
    ],
)
def test_vllms_side_imports_the_standard_library_torch_and_vllm_alone(name):
    path = Path(importlib.import_module("neurodial.engines").__file__).with_name(f"vllm_{name}.py")
    imports = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {node.module or "" for node in imports if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
    ours = {module for module in modules if module.startswith("neurodial")}
    assert all(module == "neurodial.errors" or module.startswith("neurodial.engines.vllm_") for module in ours)
    packages = {module.partition(".")[0] for module in modules - ours} - set(sys.stdlib_module_names)
    assert packages <= {"vllm", "torch", "safetensors"}


def test_an_export_says_how_it_is_served(tmp_path):
    """In the card; and a family without adapters is taken."""
    subject = shared("gpt2")
    export = export_circuit(subject, Scale(dosed(subject, {(0, 3): 1.0})), route="vllm-bank", output=tmp_path / "x")
    assert [check.strength for check in export.checks] == [1.0, 0.5, -1.0]
    assert '"vllm_xargs": {"neurodial": "dosed@0.5"}' in (tmp_path / "x" / "README.md").read_text()
    with pytest.raises(ExportError, match="--as weights"):
        export_circuit(subject, Scale(dosed(subject, {(0, 3): 1.0})), route="vllm", output=tmp_path / "y")
