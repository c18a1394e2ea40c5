"""Settings from the command line, the environment and a Space; every refusal is one line that names the setting."""

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import llama_core
from web.settings import Settings, SettingsError, read_settings

ROOT = Path(__file__).parents[2]
SECRETS = {"api_keys": "GLASS_LLAMA_API_KEY", "api_key_file": "GLASS_LLAMA_API_KEY_FILE", "login": "GLASS_LLAMA_LOGIN"}


def test_defaults_are_for_one_machine():
    settings = read_settings([], {})
    assert settings == Settings() and settings.host == "127.0.0.1" and settings.port == 7860


def test_the_command_line_wins_over_the_environment():
    environment = {"GLASS_LLAMA_MODEL": "from/env", "GLASS_LLAMA_SLOTS": "7", "GLASS_LLAMA_TITLE": ""}
    settings = read_settings(["--model", "from/flag", "--max-seq-len=512"], environment)
    assert (settings.model, settings.slots, settings.max_seq_len) == ("from/flag", 7, 512)
    assert settings.title == Settings().title


def test_a_space_listens_to_the_world():
    settings = read_settings([], {"SPACE_ID": "me/space"})
    assert (settings.host, settings.port) == ("0.0.0.0", 7860)
    assert read_settings(["--host", "127.0.0.1"], {"SPACE_ID": "me/space"}).host == "127.0.0.1"


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        ([], True),
        (["--host", "localhost"], True),
        (["--host", "::1"], True),
        (["--host", "127.0.0.2"], True),
        (["--host", "0.0.0.0"], False),
        (["--host", "::"], False),
        (["--host", "192.168.1.5"], False),
        (["--host", "a.example"], False),
        (["--allowed-hosts", "a.example"], False),  # there is a proxy before it
        (["--host", "0.0.0.0", "--switching", "on"], True),
        (["--switching", "off"], False),
        (["--hosts", "2", "--switching", "on"], False),  # the others would keep the model that they have
    ],
)
def test_visitors_may_load_models_by_themselves_only_where_they_are_at_this_machine(arguments, allowed):
    assert read_settings(arguments, {}).may_switch is allowed
    assert not read_settings([], {"SPACE_ID": "me/space"}).may_switch


def test_every_setting_can_come_from_either_side():
    samples = {
        "model": "a/b",
        "dtype": "bfloat16",
        "quantize": "q8",
        "kernels": "off",
        "mesh": 8,
        "hosts": 2,
        "host_id": 1,
        "coordinator": "10.0.0.1:8476",
        "slots": 2,
        "max_seq_len": 64,
        "host": "::1",
        "port": 99,
        "title": "T",
        "system_prompt": "S",
        "switching": "off",
        "allowed_hosts": "a.example",
        "trusted_proxies": "10.0.0.0/8, ::1",
        "root_path": "/chat",
        "cors_origins": "https://a.example",
        "max_request_mb": 3,
        "max_queue": 5,
        "max_reply_seconds": 6,
        "max_messages": 7,
        "max_prompt_tokens": 8,
        "max_reply_tokens": 9,
        "requests_per_minute": 10,
        "tokens_per_minute": 11,
        "max_streams": 12,
        "log": "json",
        "api_keys": "a-key, another",
        "api_key_file": "keys.txt",
        "login": "ada:lovelace",
    }
    assert set(samples) == {row.name for row in fields(Settings)}
    environment = {row.metadata["env"]: str(samples[row.name]) for row in fields(Settings)}
    secrets = {env: environment[env] for env in SECRETS.values()}
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in samples.items() if name not in SECRETS]
    assert read_settings(flags, secrets) == read_settings([], environment) == Settings(**samples)


def test_help_shows_every_setting_with_its_variable_and_default(capsys):
    with pytest.raises(SystemExit) as leaving:
        read_settings(["--help"], {})
    shown = " ".join(capsys.readouterr().out.split())
    assert leaving.value.code == 0
    for row in fields(Settings):
        assert row.metadata["env"] in shown
        assert (f"--{row.name.replace('_', '-')} " in shown) is (row.name not in SECRETS)


def test_secrets_are_neither_on_the_command_line_nor_printed():
    """Everybody on a machine can read the command lines of its programs."""
    settings = read_settings([], {env: "me:hush" for env in SECRETS.values()})
    assert settings.login == settings.api_keys == "me:hush" and "hush" not in repr(settings)
    for name in SECRETS:
        with pytest.raises(SettingsError, match="unrecognized"):
            read_settings([f"--{name.replace('_', '-')}", "x"], {})


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (["--slots", "two"], {}, "--slots is 'two'; expected a whole number from 0 to 256"),
        (["--slots", "-1"], {}, "--slots is -1"),
        ([], {"GLASS_LLAMA_PORT": "http"}, "GLASS_LLAMA_PORT is 'http'"),
        ([], {"GLASS_LLAMA_PORT": "70000"}, "GLASS_LLAMA_PORT is 70000"),
        (["--dtype", "int4"], {}, "expected auto or float32 or bfloat16 or float16"),
        (["--model", ""], {}, "--model is empty"),
        (["--modle", "x"], {}, "unrecognized arguments: --modle x; see python app.py --help"),
        (["--slots"], {}, "--slots"),
        (["--trusted-proxies", "*"], {}, "--trusted-proxies has '*'; expected addresses or networks"),
        (["--root-path", "chat/"], {}, "--root-path is 'chat/'"),
        (["--cors-origins", "https://a.example/"], {}, "--cors-origins has 'https://a.example/'"),
        ([], {"GLASS_LLAMA_LOGIN": "hush"}, "GLASS_LLAMA_LOGIN has an entry that is not NAME:PASSWORD"),
    ],
)
def test_what_cannot_be_used_is_named(arguments, environment, words):
    with pytest.raises(SettingsError) as refusal:
        read_settings(arguments, environment)
    assert words in str(refusal.value) and "\n" not in str(refusal.value)


def test_settings_are_read_without_the_seconds_that_jax_takes():
    code = "import sys, app; assert not {'jax', 'gradio', 'numpy'} & set(sys.modules), 'slow import'"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


@pytest.mark.parametrize("name", llama_core.__all__)
def test_each_public_name_is_there_when_it_is_asked_for(name):
    assert getattr(llama_core, name).__name__ == name
