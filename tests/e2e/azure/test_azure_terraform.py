"""Check terraform/azure against the provider's typed schema: every resource, block and argument.

CDK for Terraform generated the schema from the version of the provider that the module pins. It has
the names, which of them are required, their types, and the attributes that references may read. It
does not have allowed values and arguments that exclude each other, so these are not checked.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rules.serving import cloud
from tests.oracles import environment

REPOSITORY = Path(__file__).resolve().parents[3]
MODULES = [REPOSITORY / "terraform/azure", REPOSITORY / "terraform/azure/strays"]
# terraform itself allows these arguments in any resource.
META = {"count", "for_each", "depends_on", "lifecycle", "provider", "provisioner"}
READ = """
import json, sys
import hcl2
found = []
for path in sys.argv[1:]:
    with open(path) as file:
        found.append(hcl2.load(file))
print(json.dumps(found))
"""
_INTERFACE = re.compile(r"^export interface (\w+)[^{]*\{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(
    r"[#/](\w+) \w+#\1\}(?:(?!readonly ).)*?readonly \w+(\??): (\{[^}]*\}|[^;]+);", re.DOTALL
)
_GETTER = re.compile(r"^    get (\w+)\(\)", re.MULTILINE)
_REFERENCE = re.compile(r"(data\.)?(azurerm_\w+)\.(\w+)(?:\[[^\]]*\])?\.(\w+)")


@dataclass(frozen=True, kw_only=True)
class Argument:
    required: bool
    type: str


class Schema:
    """The generated types of one resource, data source or of the provider."""

    def __init__(self, folder: str) -> None:
        library = environment.node_modules() / "@cdktf/provider-azurerm/lib"
        text = (library / folder / "index.d.ts").read_text(encoding="utf-8")
        self.blocks = {
            name: {
                field[1]: Argument(required=not field[2], type=" ".join(field[3].split()))
                for field in _FIELD.finditer(body)
            }
            for name, body in _INTERFACE.findall(text)
        }
        self.top = next(name for name in self.blocks if name.endswith("Config"))
        self.attributes = set(_GETTER.findall(text))


def load(module: Path) -> list[dict[str, Any]]:
    done = environment.run(
        READ,
        *sorted(module.glob("*.tf")),
        interpreter=environment.python(environment.AZURE, "azure"),
    )
    assert done.returncode == 0, done.stderr
    documents: list[dict[str, Any]] = json.loads(done.stdout)
    return documents


def blocks(documents: list[dict[str, Any]], kind: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield (type, name, body) of each resource or data source."""
    for document in documents:
        for item in document.get(kind, []):
            for type_, named in item.items():
                for name, body in named.items():
                    if not name.startswith("__"):
                        yield type_.strip('"'), name.strip('"'), body


def folder_of(kind: str, type_: str) -> str:
    name = type_.removeprefix("azurerm_").replace("_", "-")
    return name if kind == "resource" else f"data-azurerm-{name}"


def check(schema: Schema, block: str, body: dict[str, Any], where: str) -> None:
    known = schema.blocks[block]
    given = {key: value for key, value in body.items() if not key.startswith("__")}
    given = {key: value for key, value in given.items() if key not in META or key in known}
    assert set(given) <= set(known), f"{where}: unknown {set(given) - set(known)}"
    missing = {key for key, argument in known.items() if argument.required} - set(given)
    assert not missing, f"{where}: missing {missing}"
    for key, value in given.items():
        check_value(schema, known[key].type, value, f"{where}.{key}")


def check_value(schema: Schema, type_: str, value: Any, where: str) -> None:
    if isinstance(value, str) and value.startswith("${"):
        return  # an expression: its type is known when it is evaluated
    is_block = isinstance(value, list) and value and isinstance(value[0], dict)
    named = re.match(r"\w+", type_)
    if named and named[0] in schema.blocks:
        assert is_block, f"{where}: a block is wanted"
        assert len(value) == 1 or "[]" in type_, f"{where}: one block is wanted"
        for item in value:
            check(schema, named[0], item, where)
        return
    assert not is_block, f"{where}: no block is wanted"
    kinds = {"string": str, "number": int, "boolean": bool, "string[]": list}
    wanted = dict if type_.startswith("{") else kinds[type_.removesuffix(" | cdktf.IResolvable")]
    assert type(value) is wanted, f"{where}: {value!r} is no {type_}"


@pytest.fixture(scope="session", params=MODULES, ids=lambda module: module.name)
def module(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return load(request.param)


def test_every_argument_is_of_the_providers_schema(module: list[dict[str, Any]]) -> None:
    seen = 0
    for kind in ("resource", "data"):
        for type_, name, body in blocks(module, kind):
            schema = Schema(folder_of(kind, type_))
            check(schema, schema.top, body, f"{type_}.{name}")
            seen += 1
    assert seen >= 2


def test_the_provider_itself(module: list[dict[str, Any]]) -> None:
    schema = Schema("provider")
    (provider,) = (item for document in module for item in document.get("provider", []))
    check(schema, schema.top, provider['"azurerm"'], "provider")


def test_every_reference_names_something(module: list[dict[str, Any]]) -> None:
    there = {
        (kind, type_, name)
        for kind in ("resource", "data")
        for type_, name, _ in blocks(module, kind)
    }
    references = _REFERENCE.findall(json.dumps(module))
    assert references
    for data, type_, name, attribute in references:
        kind = "data" if data else "resource"
        assert (kind, type_, name) in there, f"{type_}.{name}"
        camel = re.sub(r"_(\w)", lambda match: match[1].upper(), attribute)
        assert camel in Schema(folder_of(kind, type_)).attributes, f"{type_}.{name}.{attribute}"


def test_schema_and_module_are_of_one_version(module: list[dict[str, Any]]) -> None:
    package = environment.node_modules() / "@cdktf/provider-azurerm/package.json"
    version = json.loads(package.read_text())["cdktf"]["provider"]["version"]
    (terraform,) = (item for document in module for item in document.get("terraform", []))
    assert terraform["required_providers"][0]["azurerm"]["version"] == f'"{version}"'


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("vtpm_enabled =", "vtpm =", "unknown {'vtpm'}"),
        ("  os_disk {", "  os_disc {", "unknown {'os_disc'}"),
        ('access                     = "Deny"', "", "missing {'access'}"),
        ('caching = "ReadOnly"\n  }', "caching = true\n  }", "True is no string"),
        ("ip_configuration {", "ip_configuration = {", "a block is wanted"),
    ],
)
def test_a_mistake_in_the_module_is_found(tmp_path: Path, old: str, new: str, words: str) -> None:
    text = (MODULES[0] / "main.tf").read_text()
    assert old in text
    (tmp_path / "main.tf").write_text(text.replace(old, new))
    with pytest.raises(AssertionError, match=re.escape(words)):
        test_every_argument_is_of_the_providers_schema(load(tmp_path))


def test_terraform_finds_it_well_formatted() -> None:
    assert shutil.which("terraform"), "terraform is missing"
    words = ["terraform", "fmt", "-check", "-recursive", "-diff"]
    for folder in (REPOSITORY / "terraform", REPOSITORY / "tests/e2e/azure/rehearsal"):
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_all_modules_ask_for_the_same_versions() -> None:
    """Each is a root module of its own and must state the versions; new folders are checked too."""
    assert {path.parent for path in (REPOSITORY / "terraform").rglob("*.tf")} == set(MODULES)
    asked = re.compile(r'^ *(required_version|version) *= *"([^"]+)"', re.MULTILINE)
    modules_by_version: dict[str, dict[str, set[str]]] = {}
    for module in (*MODULES, REPOSITORY / "tests/e2e/azure/rehearsal"):
        for path in module.glob("*.tf"):
            for what, version in asked.findall(path.read_text()):
                modules_by_version.setdefault(what, {}).setdefault(version, set()).add(module.name)
    assert [len(versions) for versions in modules_by_version.values()] == [1, 1], modules_by_version
    (terraform,), (provider,) = (
        modules_by_version["required_version"],
        modules_by_version["version"],
    )
    assert modules_by_version["required_version"][terraform] == {"azure", "strays", "rehearsal"}
    assert modules_by_version["version"][provider] == {"azure", "strays"}
    page = (REPOSITORY / "docs/azure.md").read_text()
    assert f"`hashicorp/azurerm` {provider} |" in page
    assert f"| {terraform.removeprefix('>= ')} or newer" in page


def test_nothing_that_would_open_the_machine_is_there() -> None:
    (machine,) = (b for t, _, b in blocks(load(MODULES[0]), "resource") if "linux_virtual" in t)
    assert machine["vtpm_enabled"] is True
    # There is no user, password or key, no agent, no script and no cloud identity.
    for key in ("admin_username", "admin_ssh_key", "custom_data", "user_data", "identity"):
        assert key not in machine
    there = list(blocks(load(MODULES[0]), "resource"))
    assert not {t for t, _, _ in there if "extension" in t}
    # An address and an open port has only a machine that serves.
    (address,) = (body for t, _, body in there if "public_ip" in t)
    (allowed,) = (body for t, _, body in there if body.get("access") == '"Allow"')
    assert address["count"] == allowed["count"] == "${local.serves}"
    (locals_,) = (item for document in load(MODULES[0]) for item in document.get("locals", []))
    assert locals_["serves"] == "${var.port > 0 ? local.machine : 0}"


def evaluated(expression: str, values: dict[str, str], folder: Path) -> str:
    """Return the value that terraform itself computes for an expression of the module."""
    for name, value in values.items():
        expression = expression.replace(name, json.dumps(value) if value else "1")
    done = subprocess.run(
        ["terraform", f"-chdir={folder}", "console"],
        input=expression + "\n", capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip().strip('"')


@pytest.mark.parametrize(
    ("expires", "count"), [("2026-03-01T20:50:00Z", "1"), ("2026-03-02T00:50:00Z", "0")]
)
def test_second_lines_come_after_the_run_never_before(
    tmp_path: Path, expires: str, count: str
) -> None:
    there = {type_: body for type_, _, body in blocks(load(MODULES[0]), "resource")}
    schedule = there["azurerm_dev_test_global_vm_shutdown_schedule"]
    values = {"var.expires": expires, "var.starts": "2026-02-28T23:50:00Z", "local.machine": ""}
    assert schedule["enabled"] is True
    assert evaluated(schedule["count"][2:-1], values, tmp_path) == count
    budget = there["azurerm_consumption_budget_resource_group"]
    (period,) = budget["time_period"]
    begin = evaluated(period["start_date"][2:-1], values, tmp_path)
    # The run starts in the first quarter of an hour of March.
    assert begin == "2026-03-01T00:00:00Z"
    assert budget["notification"][0]["contact_roles"] == ['"Owner"']


def test_all_that_is_paid_for_carries_the_tag() -> None:
    untagged = {
        type_ for type_, _, body in blocks(load(MODULES[0]), "resource")
        if body.get("tags") != "${local.tags}"
    }  # fmt: skip
    # Parts of something that has it: Azure knows no tags of theirs.
    for type_ in untagged:
        assert "tags" not in Schema(folder_of("resource", type_)).attributes, type_
    locals_ = [item for document in load(MODULES[0]) for item in document.get("locals", [])]
    assert locals_[0]["tags"]["aicert"] == '"machine"'
    (strays,) = (body for _, _, body in blocks(load(MODULES[1]), "data"))
    assert strays["required_tags"] == {"aicert": '"machine"'}


def test_network_denies_everything_both_ways() -> None:
    rules = [body for type_, _, body in blocks(load(MODULES[0]), "resource") if "_rule" in type_]
    (rule,) = (body for body in rules if body["access"] == '"Deny"')
    assert '["Inbound", "Outbound"]' in rule["for_each"].replace('\\"', '"')
    for key, value in rule.items():
        if key.endswith(("_range", "_prefix")) or key == "protocol":
            assert value == '"*"', key


def test_one_port_is_open_to_the_named_networks_alone() -> None:
    rules = [body for type_, _, body in blocks(load(MODULES[0]), "resource") if "_rule" in type_]
    allowed, denied = sorted(rules, key=lambda body: int(body["priority"]))
    assert (allowed["access"], denied["access"]) == ('"Allow"', '"Deny"')
    assert (allowed["direction"], allowed["protocol"]) == ('"Inbound"', '"Tcp"')
    assert allowed["destination_port_range"] == "${tostring(var.port)}"
    assert allowed["source_address_prefixes"] == "${var.clients}"
    assert allowed["destination_address_prefix"] == f'"{cloud.ADDRESS}"'
    (interface,) = (
        body for type_, _, body in blocks(load(MODULES[0]), "resource") if "interface" in type_
    )
    (address,) = interface["ip_configuration"]
    assert address["private_ip_address"] == f'"{cloud.ADDRESS}"'
    assert address["public_ip_address_id"] == "${one(azurerm_public_ip.serve[*].id)}"
