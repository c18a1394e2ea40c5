"""The app as a Space by one command: what is sent, what is said, and what happens when the Hub refuses."""

import pytest
import yaml

from llama_core.errors import UserError
from llama_core.model.config import NAMED_CONFIGS
from llama_core.model.params import count_params
from web.space.files import requirements
from web.space.hardware import SpaceError
from web.space.plan import describe, make_plan

NAME, TOKEN = "ada/chat", "hf_goodtoken"


def test_a_space_is_made_with_what_the_app_needs_and_nothing_else(spaces, space_process):
    done = space_process("deploy", NAME, "--variable", "GLASS_LLAMA_SLOTS=2")
    assert done.returncode == 0, done.stderr
    space = spaces.spaces[NAME]
    names = set(space["files"])
    assert {"app.py", "README.md", "requirements.txt", "llama_core/kernels/kernels.cc", "web/assets/page.css"} <= names
    assert "weights/guide/model.safetensors" in names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "docs/")) or "__pycache__" in name]
    assert space["variables"] == {"GLASS_LLAMA_SLOTS": "2"} and not space["secrets"]
    head = yaml.safe_load(space["files"]["README.md"].decode().split("---")[1])
    assert (head["sdk"], head["app_file"], head["python_version"]) == ("gradio", "app.py", "3.12")
    assert "PRO account" in done.stdout and "no charge" in done.stdout and "running" in done.stdout
    assert "hf_goodtoken" not in done.stdout + done.stderr


def test_a_second_deploy_sends_only_what_changed(spaces, space_command):
    space_command("deploy", NAME)
    files = spaces.spaces[NAME]["files"]
    files["web/server.py"], files["web/forgotten.py"] = b"older", b"of an older version"
    spaces.sent.clear()
    done = space_command("deploy", NAME, "--hardware", "cpu-upgrade", "--yes")
    assert done.returncode == 0, done.stderr
    assert set(spaces.sent) == {"web/server.py", "README.md"}  # README names the hardware
    assert "web/forgotten.py" not in files and spaces.spaces[NAME]["hardware"] == "cpu-upgrade"


def test_a_second_deploy_changes_the_model_shuts_the_door_and_ends_a_pause(spaces, space_command):
    space_command("deploy", NAME, "--model", "random:tiny")
    space = spaces.spaces[NAME]
    assert space["variables"] == {"GLASS_LLAMA_MODEL": "random:tiny"} and not space["private"]
    space["stages"] = ["PAUSED"]
    done = space_command("deploy", NAME, "--private")
    assert done.returncode == 0 and "running" in done.stdout and space["stages"] == ["RUNNING"]
    assert space["variables"] == {} and space["private"]


def test_a_gated_model_is_mounted_and_its_token_is_a_secret(spaces, space_command):
    done = space_command("deploy", NAME, "--model", "meta/gated-1B", "--weights", "mount")
    assert done.returncode == 0, done.stderr
    space = spaces.spaces[NAME]
    [volume] = space["volumes"]
    assert (volume["type"], volume["source"], volume["readOnly"]) == ("model", "meta/gated-1B", True)
    assert space["variables"] == {"GLASS_LLAMA_MODEL": volume["mountPath"]} and space["secrets"] == {"HF_TOKEN": TOKEN}
    assert "models:\n- meta/gated-1B\n" in space["files"]["README.md"].decode()
    assert "Secret     HF_TOKEN" in done.stdout and TOKEN not in done.stdout + done.stderr


def test_a_large_model_is_cut_over_the_gpus_of_its_hardware():
    def plan(model, hardware, **variables):
        told = {f"GLASS_LLAMA_{name}": value for name, value in variables.items()}
        return make_plan(NAME, model, hardware, "download", told, False, False)

    with pytest.raises(SpaceError, match="l4x1 has 24 GB, .* choose larger hardware"):
        plan("random:8B", "l4x1", DTYPE="float32")
    four = plan("random:8B", "l4x4", DTYPE="float32")
    assert four.memory.params == pytest.approx(count_params(NAMED_CONFIGS["8B"]), rel=1e-3)  # 4 bytes, 4 cards
    assert four.memory.quantize == "none" and "on each of 4 of its 4 GPUs" in describe(four, 3.8)
    assert "on each of 3 of its 4 GPUs" in describe(plan("random:135M", "l4x4"), 3.8)  # it has 3 key/value heads
    with pytest.raises(UserError, match="there are 4 devices"):
        plan("random:8B", "l4x4", MESH="8")
    shorter = plan("random:8B", "l4x1", SLOTS="16").memory
    assert 256 <= shorter.max_seq_len < 4096 and shorter.total < 0.9 * 24e9


def test_a_deploy_that_broke_off_does_not_send_large_files_again(spaces, space_command):
    spaces.breaks = "/commit/"
    broken = space_command("deploy", NAME)
    assert broken.returncode == 2 and "start again" in broken.stderr
    spaces.breaks = ""
    assert space_command("deploy", NAME).returncode == 0
    uploads = sum(command == "PUT" for command, _ in spaces.asked)
    assert uploads == 1 and "weights/guide/model.safetensors" in spaces.spaces[NAME]["files"]


def test_a_dry_run_sends_nothing(spaces, space_command):
    spaces.prices = [price("l4x1", 0.9)]
    done = space_command("deploy", NAME, "--hardware", "l4x1", "--dry-run", token="")
    assert done.returncode == 0 and not spaces.spaces and not spaces.sent
    assert "$0.90 an hour" in done.stdout and "jax[cuda12]" in done.stdout


def price(name, dollars):
    described = {"prettyName": name, "cpu": "8 vCPU", "ram": "30 GB", "accelerator": None}
    return {"name": name, **described, "unitCostMicroUSD": 1e6 * dollars, "unitCostUSD": dollars, "unitLabel": "hour"}


def test_what_costs_money_is_asked_before(spaces, space_command):
    done = space_command("deploy", NAME, "--hardware", "cpu-upgrade", typed="n\n")
    assert done.returncode == 2 and "This costs $0.03 an hour" in done.stdout and not spaces.spaces


def test_refusals_say_what_to_do(spaces, space_command, space_process):
    wrong = space_command("deploy", NAME, token="hf_wrong")
    assert wrong.returncode == 2 and "the token is wrong" in wrong.stderr and "hf_wrong" not in wrong.stderr
    missing = space_process("status", NAME, token=None)
    assert missing.returncode == 2 and "set HF_TOKEN" in missing.stderr
    spaces.refuses_to_create = (402, "Upgrade to PRO to create a CPU Space")
    quota = space_command("deploy", NAME)
    assert quota.returncode == 2 and "Upgrade to PRO" in quota.stderr and "paid plan" in quota.stderr
    spaces.refuses_to_create = (403, "You don't have the rights to create a space under this namespace")
    assert "write access" in space_command("deploy", NAME).stderr
    assert "ZeroGPU cannot run JAX" in space_command("deploy", NAME, "--hardware", "zero-a10g").stderr
    assert "upload the folder first" in space_command("deploy", NAME, "--model", "./here").stderr


def test_another_apps_space_is_left_alone(spaces, space_command):
    space_command("deploy", NAME)
    spaces.spaces[NAME]["files"] = {"README.md": b"x", "main.py": b"x"}
    done = space_command("deploy", NAME)
    assert done.returncode == 2 and "holds another app" in done.stderr
    assert set(spaces.spaces[NAME]["files"]) == {"README.md", "main.py"}


def test_a_build_that_fails_shows_its_log(spaces, space_command):
    space_command("deploy", NAME)
    spaces.spaces[NAME]["stages"] = ["RUNNING"] * 2 + ["BUILDING", "BUILD_ERROR"]  # asked before and after sending
    done = space_command("deploy", NAME)
    assert done.returncode == 2 and "BUILD_ERROR" in done.stderr and "no matching distribution for jax" in done.stderr


def test_status_logs_pause_and_delete(spaces, space_command):
    space_command("deploy", NAME)
    assert space_command("status", NAME).stdout == f"{NAME}: RUNNING on cpu-basic\n"
    assert space_command("logs", NAME).stdout == "ready\n"
    assert "no matching" in space_command("logs", NAME, "--build").stdout
    space_command("pause", NAME)
    assert "PAUSED" in space_command("status", NAME).stdout
    assert space_command("delete", NAME, typed="no\n").returncode == 2 and NAME in spaces.spaces
    assert space_command("delete", NAME, typed=f"{NAME}\n").returncode == 0 and not spaces.spaces


def test_requirements_leave_to_the_space_what_it_installs(tmp_path):
    (tmp_path / "requirements.txt").write_text("# words\njax>=1,<2\njaxtyping>=0.3\ngradio>=6\npydantic>=2\nnumpy\n")
    assert requirements(False, tmp_path) == ["jax>=1,<2", "jaxtyping>=0.3", "numpy"]
    assert requirements(True, tmp_path)[0] == "jax[cuda12]>=1,<2"
