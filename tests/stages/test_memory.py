import torch
from torch import nn

from ltx2.stages import memory


def network():
    module = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    module.register_buffer("table", torch.arange(5))
    return module.requires_grad_(False)


def test_a_copy_leaves_the_module_at_home_alone():
    home = network()
    before = {name: tensor.clone() for name, tensor in home.state_dict().items()}
    moved = memory.copy_to(home, "meta")
    assert all(t.device.type == "meta" for t in (*moved.parameters(), *moved.buffers()))
    assert all(torch.equal(tensor, before[name]) for name, tensor in home.state_dict().items())
    assert moved.state_dict().keys() == before.keys() and not memory.is_on(home, "meta") and memory.is_on(moved, "meta")


def test_a_copy_in_another_type_and_with_changed_weights():
    home = network()
    copy = memory.copy_to(
        home, "cpu", torch.bfloat16, change=lambda name, weight: weight + 1 if name == "0.weight" else weight
    )
    assert copy[0].weight.dtype == torch.bfloat16 and copy.table.dtype == torch.int64
    assert torch.equal(copy[0].weight, home[0].weight.bfloat16() + 1) and torch.equal(
        copy[0].bias, home[0].bias.bfloat16()
    )
    assert copy(torch.zeros(1, 3, dtype=torch.bfloat16)).shape == (1, 4)


def test_resident_uses_what_is_there_already():
    home = network()
    with memory.on_device(home, "cpu") as there:
        assert there is home
    with memory.on_device(home, "meta") as there:
        assert there is not home and memory.is_on(there, "meta")


def test_a_lent_copy_is_empty_afterwards():
    home = network()
    before = {name: tensor.clone() for name, tensor in home.state_dict().items()}
    with memory.temporary_copy(memory.copy_to(home, "cpu")) as copied:
        assert torch.equal(copied(torch.ones(1, 3)), home(torch.ones(1, 3)))
    assert not any(tensor.numel() for tensor in copied.state_dict().values())
    assert all(torch.equal(tensor, before[name]) for name, tensor in home.state_dict().items())


def test_what_is_free_on_a_mac(monkeypatch):
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 24, raising=False)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 7)
    assert memory.free_bytes("mps") == 17


def test_estimates():
    assert memory.free_bytes("cpu") > 0 and memory.free_bytes("meta") == memory.UNKNOWN_FREE_BYTES
    assert memory.weight_bytes(network()) == (12 + 4 + 8) * 4 + 5 * 8
    one = memory.denoising_bytes(width=4096, video_tokens=6144)
    assert memory.denoising_bytes(width=4096, video_tokens=6144, batch_size=2, passes=2) == 4 * one
    sizes = {"width": 4096, "video_tokens": 6144, "batch_size": 1, "dtype": torch.bfloat16}
    assert [memory.passes_that_fit(4, free, **sizes) for free in (0, one, 3 * one, 9 * one)] == [1, 1, 3, 4]


def test_main_memory_counts_pages_of_files_and_the_group_s_limit(tmp_path):
    system, group = tmp_path / "meminfo", tmp_path / "group"
    system.write_text("MemTotal: 99 kB\nMemFree: 1 kB\nMemAvailable:   40 kB\nHugePages_Total:  0\n")
    assert memory.main_memory_bytes(system, group) == 40 * 1024
    (group / "memory").mkdir(parents=True)
    for folder, most, taken in (
        (group, "memory.max", "memory.current"),
        (group / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        (folder / most).write_text("max\n")
        (folder / taken).write_text("7000\n")
        (folder / "memory.stat").write_text("anon 4000\nactive_file 1000\ninactive_file 2000\n")
        assert memory.main_memory_bytes(system, group) == 40 * 1024
        (folder / most).write_text("5000\n")
        assert memory.main_memory_bytes(system, group) == 1000
        (folder / most).write_text("3000\n")
        assert memory.main_memory_bytes(system, group) == 0
        (folder / most).write_text(f"{1 << 62}\n")
    assert memory.main_memory_bytes(tmp_path / "none", group) > 0
