"""Which of the kernel's files a sandbox hides, depending on what /proc has outside."""

from pathlib import Path

from enclave_runner.sandbox import kernel_files


def proc(root: Path) -> Path:
    files = ("1/maps", "partitions", "stat", "devices", "acpi/x", "driver/nvidia/params")
    settings = ("kernel/hostname", "vm/mmap_min_addr", "vm/overcommit_memory")
    for name in (*files, *(f"sys/{each}" for each in settings)):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "mounts").symlink_to("1/maps")
    return root


def test_all_is_hidden_but_what_training_reads(tmp_path: Path) -> None:
    words = " ".join(kernel_files.hidden(gpus=False, proc=proc(tmp_path)))
    assert words == (
        "--tmpfs /proc/acpi --remount-ro /proc/acpi "
        "--ro-bind /dev/null /proc/devices "
        "--tmpfs /proc/driver --remount-ro /proc/driver "
        "--ro-bind /dev/null /proc/partitions "
        "--tmpfs /proc/sys "
        "--ro-bind /proc/sys/vm/overcommit_memory /proc/sys/vm/overcommit_memory "
        "--remount-ro /proc/sys"
    )


def test_a_gpus_driver_finds_its_own(tmp_path: Path) -> None:
    words = list(kernel_files.hidden(gpus=True, proc=proc(tmp_path)))
    assert "/proc/driver" not in words
    assert "/proc/devices" not in words
    assert words.count("/proc/sys/vm/mmap_min_addr") == 2
    assert "/proc/partitions" in words


def test_a_kernel_without_such_a_setting_has_none_to_show(tmp_path: Path) -> None:
    (tmp_path / "sys").mkdir()
    words = list(kernel_files.hidden(gpus=True, proc=tmp_path))
    assert words == ["--tmpfs", "/proc/sys", "--remount-ro", "/proc/sys"]
