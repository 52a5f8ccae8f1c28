"""The GPU image: what it has in addition to the base image, and what it lacks."""

import lzma
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from aicert.errors import ConfigError, ToolError
from aicert.formats import image_lock
from aicert.formats.digest import of_bytes
from aicert.formats.image_lock import Package
from enclave_runner.axolotl import plugins
from rules.image import build, gpu_driver, initrd, layers, place, trees, wheels
from rules.image import debian as image_debian
from rules.image.verity import Verity

REPOSITORY = Path(__file__).resolve().parents[4]
ROOT = Verity(root=of_bytes(b"root"), blocks=1)


def package(part: str, name: str, version: str = "1") -> Package:
    return Package(part=part, name=name, version=version, digest=of_bytes(name.encode()))


def test_only_the_command_line_of_this_image_leaves_the_lock_to_the_init() -> None:
    own, other = (set(layers.command_line(ROOT, ROOT, gpu=gpu).split()) for gpu in (True, False))
    assert other - own == {"lockdown=confidentiality", "module.sig_enforce=1"}
    assert own < other
    source = (REPOSITORY / "image/machine/init.c").read_text(encoding="ascii")
    driver, _, rest = source.partition("static void load_gpu(")[2].partition("\n}\n")
    # The driver, then the lock, then no more modules; and all of it before the search for a disk.
    assert driver.index("load_module") < driver.index('lockdown", "confidentiality"')
    assert rest.index("load_gpu(") < rest.index('modules_disabled", "1"')
    main = source.partition("int main(")[2]
    assert main.index("load_modules();") < main.index("open_volumes();")


@pytest.mark.parametrize("name", ["kernel/drivers/pci-hyperv.ko.xz", "nvidia.ko"])
def test_driver_without_a_module_is_refused(name: str, tmp_path: Path) -> None:
    modules, driver = tmp_path / "usr/lib/modules/6.12", tmp_path / "driver"
    modules.mkdir(parents=True)
    driver.mkdir()
    for module in (*initrd.MODULES, *initrd.GPU_MODULES[:2]):
        (modules / f"{module}.ko.xz").write_bytes(lzma.compress(module.encode()))
    for module in gpu_driver.MODULES:
        (driver / f"{module}.ko").write_bytes(module.encode())
    taken = initrd.read_modules(tmp_path, "6.12", driver)
    assert tuple(taken) == (*initrd.MODULES, *initrd.GPU_MODULES)
    assert taken["nvidia"] == b"nvidia"
    assert tuple(initrd.read_modules(tmp_path, "6.12")) == initrd.MODULES
    path = driver / name if name.endswith(".ko") else modules / Path(name).name
    path.unlink()
    with pytest.raises(ToolError, match=f"no module {Path(name).name.partition('.')[0]}"):
        initrd.read_modules(tmp_path, "6.12", driver)


@pytest.mark.parametrize(
    ("name", "ordinary", "gpu"),
    [
        ("torch/lib/libtorch_cuda.so", True, True),
        ("nvidia/cu13/lib/libcublas.so.13", True, True),
        ("bitsandbytes/libbitsandbytes_cuda130.so", False, True),
        ("bitsandbytes/libbitsandbytes_cuda128.so", False, False),
        ("numba/cuda/api.py", False, True),
        ("triton/backends/nvidia/bin/ptxas", False, True),
        ("triton/backends/amd/lib/ockl.bc", False, False),
        ("liger_kernel/ops/rms_norm.py", True, True),
        ("axolotl/integrations/liger/plugin.py", False, True),
        ("axolotl/integrations/liger_more/plugin.py", False, False),
        ("torch/include/torch/torch.h", False, False),
        ("axolotl/integrations/base.py", True, True),
        ("axolotl/integrations/spectrum/model_snr_results/any.json", True, True),
        ("axolotl/integrations/expert_parallel/shard.py", True, True),
        ("axolotl/integrations/kernels/plugin.py", False, False),
    ],
)
def test_what_of_the_training_side_is_taken(name: str, ordinary: bool, gpu: bool) -> None:
    assert trees.is_trained_with(name, gpu=False) is ordinary
    assert trees.is_trained_with(name, gpu=True) is gpu


@pytest.mark.parametrize("name", sorted(plugins.RUN))
def test_plugins_that_a_config_may_name_are_in_both_images(name: str) -> None:
    module = name.rpartition(".")[0].replace(".", "/")
    for file in (f"{module}/__init__.py", f"{module}/args.py"):
        assert trees.is_trained_with(file, gpu=False)
        assert trees.is_trained_with(file, gpu=True)


@pytest.mark.parametrize("name", sorted(plugins.WITH_KERNELS))
def test_plugins_that_need_kernels_are_in_this_image_with_them(name: str) -> None:
    module = name.rpartition(".")[0].replace(".", "/")
    for file in (f"{module}/__init__.py", f"{module}/args.py", f"{module}/plugin.py"):
        assert trees.is_trained_with(file, gpu=True)
    assert "liger-kernel" in {item.name for item in wheels.wanted_gpu(REPOSITORY)}
    assert "liger-kernel" not in {item.name for item in wheels.wanted(REPOSITORY)["training"]}
    parts = image_lock.parse((REPOSITORY / build.GPU_LOCK).read_bytes()).packages
    assert ("training", "liger-kernel") in {(each.part, each.name) for each in parts}


def test_only_the_tree_of_this_image_is_named_by_what_makes_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("image", "rules/host"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder)
    monkeypatch.setattr(place, "code_of", lambda root: root)
    named = []
    for _ in range(2):
        named.append(
            [
                build._machine_target(build.place(tmp_path, gpu=gpu), Path("tools"), [])
                for gpu in (False, True)
            ]
        )
        (tmp_path / trees.KERNELS).write_text("#!/bin/sh\n")
    (cpu, own), (cpu_again, own_again) = named
    assert cpu == cpu_again
    assert len({cpu, own, own_again}) == 3


def test_torch_is_pypis_own_with_the_libraries_that_it_loads() -> None:
    names = {item.name: item for item in wheels.wanted_gpu(REPOSITORY)}
    ordinary = {item.name: item for item in wheels.wanted(REPOSITORY)["training"]}
    assert names["torch"].version + "+cpu" == ordinary["torch"].version
    assert not set(names["torch"].hashes) & set(ordinary["torch"].hashes)
    assert len(names["torch"].hashes) == 1
    assert not {name for name in names if name != "torch"} & set(ordinary)


def test_headers_are_of_the_kernel_that_boots() -> None:
    kernel = package("kernel", "linux-image-6.12.1+deb13-cloud-amd64")
    headers = package("headers", "linux-headers-6.12.1+deb13-cloud-amd64")
    assert gpu_driver._kernel([kernel, headers]) == "6.12.1+deb13-cloud-amd64"
    other = package("headers", "linux-headers-6.12.2+deb13-cloud-amd64")
    with pytest.raises(ToolError, match="no headers for the kernel") as caught:
        gpu_driver._kernel([kernel, other])
    assert caught.value.hint == "./doit run image_gpu_update"


def test_of_the_driver_libraries_and_firmware_are_taken(tmp_path: Path) -> None:
    files = tmp_path / "files"
    libraries = files / "usr/lib/x86_64-linux-gnu"
    firmware = files / "lib/firmware/nvidia/580.1"
    for folder in (libraries, firmware):
        folder.mkdir(parents=True, mode=0o700)
    for name in ("libcuda.so.580.1", "libnvidia-ml.so.580.1", "libnvidia-opencl.so.580.1"):
        (libraries / name).write_bytes(name.encode())
        (libraries / name).chmod(0o600)
    (libraries / "libcuda.so.1").symlink_to("libcuda.so.580.1")
    (firmware / "gsp_ga10x.bin").write_bytes(b"gsp")
    root = tmp_path / "root"
    gpu_driver._take(files, root)
    taken = {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}
    assert taken == {
        "usr/lib/firmware/nvidia/580.1/gsp_ga10x.bin",
        "usr/lib/x86_64-linux-gnu/libcuda.so.1",
        "usr/lib/x86_64-linux-gnu/libcuda.so.580.1",
        "usr/lib/x86_64-linux-gnu/libnvidia-ml.so.580.1",
    }
    for path in root.rglob("*"):
        if not path.is_symlink():
            mode = stat.S_IMODE(path.stat().st_mode)
            assert mode == (0o755 if path.is_dir() else 0o644), path


@pytest.mark.parametrize("mirror", [None, "", "ftp://a/ubuntu", "http://a/u\nTrusted: yes"])
def test_a_mirror_of_the_driver_is_named_by_people(
    mirror: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(gpu_driver.MIRROR, raising=False)
    if mirror is not None:
        monkeypatch.setenv(gpu_driver.MIRROR, mirror)
    debian = image_debian.Apt(tmp_path, "trixie", given="")
    with pytest.raises(ConfigError, match=f"{gpu_driver.MIRROR} names no mirror") as caught:
        gpu_driver.archive(tmp_path, debian)
    assert "export AICERT_UBUNTU_MIRROR=" in str(caught.value.hint)


def test_a_lock_without_the_driver_is_no_lock_of_this_image(tmp_path: Path) -> None:
    where = replace(build.place(tmp_path, gpu=True), cache=tmp_path, makes=False)
    assert where.lock == Path("lockfiles/image-gpu.lock.toml")
    lock = image_lock.parse((REPOSITORY / build.LOCK).read_bytes())
    with pytest.raises(ToolError, match="no package for: compiler, driver, headers") as caught:
        build.build(where, lock.packages)
    assert caught.value.hint == gpu_driver.UPDATE
