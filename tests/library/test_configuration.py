"""Where the key, the base URL and the limits come from, and that no error ever shows a key."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from rivya import config
from rivya.config import Config, clean_key, load, normalise_base_url
from rivya.errors import ConfigurationError

KEY = "rvya_sk_0123456789abcdef"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "state"


def write(home: Path, content: Any) -> None:
    home.mkdir(mode=0o700, exist_ok=True)
    text = content if isinstance(content, (str, bytes)) else json.dumps(content)
    (home / "config.json").write_bytes(text.encode() if isinstance(text, str) else text)
    (home / "config.json").chmod(0o600)


def loaded(home: Path, **env: str) -> Config:
    return load({"RIVYA_HOME": str(home), **env})


def refused(home: Path, **env: str) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        loaded(home, **env)
    return caught.value


# -- precedence


def test_without_anything_there_are_the_defaults(home: Path) -> None:
    found = loaded(home)
    assert (found.base_url, found.max_concurrency, found.key, found.key_source) == (
        "https://rivya.ai",
        8,
        None,
        None,
    )
    assert (found.max_credits_per_run, found.result_store_bytes) == (None, 2 * 1024**3)
    assert (found.repeat_window_s, found.conflict_wait_s, found.upload_confirm_age_s) == (43_200, 60, 900)
    assert not home.exists(), "looking costs nothing on the disk"


def test_the_file_wins_over_the_defaults(home: Path) -> None:
    write(
        home,
        {
            "api_key": KEY,
            "base_url": "http://127.0.0.1:8765",
            "max_concurrency": 3,
            "max_credits_per_run": 40,
            "max_orders_per_node": 200.0,
            "result_store_bytes": 1000,
            "repeat_window_s": 60,
            "allowed_result_networks": ["10.1.0.0/16"],
        },
    )
    found = loaded(home)
    assert found.require_key().reveal() == KEY
    assert found.key_source == "file"
    assert (found.base_url, found.max_concurrency) == ("http://127.0.0.1:8765", 3)
    assert (found.max_credits_per_run, found.max_orders_per_node, found.result_store_bytes) == (40, 200, 1000)
    assert (found.repeat_window_s, found.allowed_result_networks) == (60, ("10.1.0.0/16",))


def test_the_environment_wins_over_the_file(home: Path) -> None:
    write(home, {"api_key": "rvya_sk_of_the_file", "base_url": "https://file.example", "max_concurrency": 3})
    found = loaded(home, RIVYA_API_KEY=KEY, RIVYA_BASE_URL="https://env.example", RIVYA_MAX_CONCURRENCY="5")
    assert (found.require_key().reveal(), found.key_source) == (KEY, "environment")
    assert (found.base_url, found.max_concurrency) == ("https://env.example", 5)


def test_what_is_blank_in_the_environment_counts_as_not_set(home: Path) -> None:
    write(home, {"api_key": KEY, "base_url": "https://file.example", "max_concurrency": 3})
    found = loaded(home, RIVYA_API_KEY=" \n", RIVYA_BASE_URL="  ", RIVYA_MAX_CONCURRENCY=" ")
    assert (found.key_source, found.base_url, found.max_concurrency) == ("file", "https://file.example", 3)


def test_the_state_folder_is_the_named_one_else_the_given_one_else_in_the_home_folder(tmp_path: Path) -> None:
    assert config.state_folder({"RIVYA_HOME": f" {tmp_path} "}, Path("/elsewhere")) == tmp_path
    assert config.state_folder({"RIVYA_HOME": "~/x"}) == Path.home() / "x"
    assert config.state_folder({"RIVYA_HOME": "relative"}).is_absolute()
    assert config.state_folder({}, tmp_path) == tmp_path
    assert config.state_folder({}) == Path.home() / ".rivya"


def test_inside_a_comfyui_the_state_folder_is_in_its_user_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = tmp_path / "custom_nodes" / "rivya-nodes" / "rivya"
    monkeypatch.setattr(config, "__file__", str(pack / "config.py"))
    assert config.state_folder({}) == Path.home() / ".rivya"
    (tmp_path / "user").mkdir()
    assert config.state_folder({}) == tmp_path / "user" / "__rivya"


# -- what shells, compose files and .env files leave around a value

WRAPPINGS = [
    '"{}"',
    "'{}'",
    " {} ",
    '"{}" ',
    "' {} '",
    '\t"{}"\r\n',
    "`{}`",
    "\u201c{}\u201d",
    "\ufeff{}",
    "\u3000{}",
]


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_white_space_and_one_pair_of_quotes_come_off_every_setting(tmp_path: Path, wrapping: str) -> None:
    home = tmp_path / "my state"
    environment = {
        "RIVYA_HOME": str(home),
        "RIVYA_API_KEY": KEY,
        "RIVYA_BASE_URL": "https://env.example",
        "RIVYA_MAX_CONCURRENCY": "5",
    }
    found = load({name: wrapping.format(value) for name, value in environment.items()})
    assert found.home == home
    assert found.require_key().reveal() == KEY
    assert (found.base_url, found.max_concurrency) == ("https://env.example", 5)

    def wrapped(value: str) -> str:
        return wrapping.format(value)

    write(
        home,
        {
            "api_key": wrapped(KEY),
            "base_url": wrapped("https://file.example"),
            "max_concurrency": wrapped("3"),
            "max_credits_per_run": wrapped("40"),
            "retry_budget_s": wrapped("1.5"),
            "allowed_result_networks": [wrapped("10.1.0.0/16")],
        },
    )
    found = load({"RIVYA_HOME": str(home)})
    assert (found.require_key().reveal(), found.base_url, found.max_concurrency) == (
        KEY,
        "https://file.example",
        3,
    )
    assert (found.max_credits_per_run, found.retry_budget_s) == (40, 1.5)
    assert found.allowed_result_networks == ("10.1.0.0/16",)


@pytest.mark.parametrize("nothing", ['""', "''", ' "" ', '" "', "\ufeff"])
def test_quotes_around_nothing_are_nothing(home: Path, tmp_path: Path, nothing: str) -> None:
    assert config.state_folder({"RIVYA_HOME": nothing}, tmp_path) == tmp_path
    write(home, {"api_key": KEY, "base_url": "https://file.example", "max_concurrency": 3})
    found = loaded(home, RIVYA_API_KEY=nothing, RIVYA_BASE_URL=nothing, RIVYA_MAX_CONCURRENCY=nothing)
    assert (found.key_source, found.base_url, found.max_concurrency) == ("file", "https://file.example", 3)


@pytest.mark.parametrize("key", [f'"{KEY}', f"{KEY}'", f"\"'{KEY}'\"", f"''{KEY}''", f"\"{KEY}'"])
def test_a_key_with_quotes_left_over_is_refused_and_not_sent(home: Path, key: str) -> None:
    error = refused(home, RIVYA_API_KEY=key)
    assert error.code == "api_key_malformed"
    assert "RIVYA_API_KEY" in error.message
    assert "0123" not in str(error)


@pytest.mark.parametrize(
    ("named", "folder"),
    [
        ('"~/state"', "{home}/state"),
        ("'~'", "{home}"),
        ("$HOME/state", "{home}/state"),
        ('"${HOME}/state"', "{home}/state"),
        ("./state", "{cwd}/state"),
        ("my state", "{cwd}/my state"),
        ("/srv/$data/state", "/srv/$data/state"),
        ("/srv/it's here", "/srv/it's here"),
    ],
)
@pytest.mark.skipif(os.name != "posix", reason="paths of POSIX")
def test_a_relative_home_and_one_in_the_home_folder_are_resolved(
    named: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    monkeypatch.chdir(tmp_path / "here")
    expected = folder.format(home=tmp_path / "me", cwd=tmp_path / "here")
    assert str(config.state_folder({"RIVYA_HOME": named})) == expected


@pytest.mark.parametrize(
    "named",
    [
        '"/srv/state',
        "/srv/state'",
        "\"'/srv/state'\"",
        "~nobody-of-this-name/state",
        "$NOT_SET_ANYWHERE/state",
        "%APPDATA%/rivya",
        r"C:\rivya",
        "d:/rivya",
        r"\\nas\rivya",
        "file:///srv/state",
        "https://rivya.ai",
        "/srv/sta\nte",
    ],
)
@pytest.mark.skipif(os.name != "posix", reason="paths of POSIX")
def test_a_home_that_is_no_path_is_refused_by_name_and_makes_no_stray_folder(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for call in (config.load, config.key_status, lambda env: config.save_key(KEY, env)):
        with pytest.raises(ConfigurationError) as caught:
            call({"RIVYA_HOME": named})
        assert "RIVYA_HOME" in caught.value.message
        assert config.unquoted(named).split("\n")[0] in caught.value.message
    assert not list(tmp_path.iterdir())


# -- the key


@pytest.mark.parametrize(
    "text", [KEY, f"  {KEY}  ", f"{KEY}\r\n", f"\t{KEY}\u00a0", f"\ufeff{KEY}".lstrip("\ufeff")]
)
def test_white_space_and_line_ends_around_a_key_do_no_harm(home: Path, text: str) -> None:
    assert loaded(home, RIVYA_API_KEY=text).require_key().reveal() == KEY


@pytest.mark.parametrize("character", [" ", "\n", "\r\n", "\x00", "ü", "\u200b", "\x7f", "\ud83d\ude00"])
def test_a_key_with_other_characters_is_refused_by_the_name_of_its_place_and_never_shown(
    home: Path, character: str
) -> None:
    broken = f"rvya_sk_se{character}cret"
    error = refused(home, RIVYA_API_KEY=broken)
    assert "RIVYA_API_KEY" in error.message
    write(home, json.dumps({"api_key": broken}))
    in_file = refused(home)
    assert str(home / "config.json") in in_file.message
    for each in (error, in_file):
        assert each.code == "api_key_malformed"
        assert "cret" not in str(each)
        assert "cret" not in repr(each)


def test_a_key_that_is_much_too_long_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        clean_key("x" * 513, "RIVYA_API_KEY")
    assert clean_key("", "RIVYA_API_KEY") is None


@pytest.mark.parametrize("value", [17, ["x"], {"a": 1}, True])
def test_a_key_in_the_file_that_is_no_text_is_refused(home: Path, value: Any) -> None:
    write(home, {"api_key": value})
    assert refused(home).code == "api_key_malformed"


def test_no_key_at_all_names_both_places(home: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        loaded(home).require_key()
    assert caught.value.code == "api_key_missing"
    assert "RIVYA_API_KEY" in str(caught.value)
    assert str(home / "config.json") in str(caught.value)


def test_a_configuration_shows_its_key_nowhere(home: Path) -> None:
    found = loaded(home, RIVYA_API_KEY=KEY)
    assert KEY not in repr(found)
    assert KEY not in str(vars(found))
    assert found.key_hash == hashlib.sha256(KEY.encode()).hexdigest()


def test_a_key_is_saved_for_its_owner_alone_and_keeps_what_else_is_there(home: Path) -> None:
    env = {"RIVYA_HOME": str(home)}
    write(home, {"max_concurrency": 3, "of_a_later_version": [1]})
    config.save_key(f" {KEY}\n", env)
    path = home / "config.json"
    assert json.loads(path.read_text()) == {"max_concurrency": 3, "of_a_later_version": [1], "api_key": KEY}
    assert load(env).require_key().reveal() == KEY
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in home.iterdir()] == ["config.json"]


def test_saving_makes_the_folder_for_its_owner_alone(home: Path) -> None:
    config.save_key(KEY, {"RIVYA_HOME": str(home / "deeper")})
    if os.name == "posix":
        assert stat.S_IMODE((home / "deeper").stat().st_mode) == 0o700


def test_a_key_is_removed_and_nothing_else(home: Path) -> None:
    env = {"RIVYA_HOME": str(home)}
    write(home, {"api_key": KEY, "max_concurrency": 3})
    config.remove_key(env)
    assert json.loads((home / "config.json").read_text()) == {"max_concurrency": 3}
    config.remove_key(env)
    assert load(env).key is None


def test_an_empty_or_broken_key_is_not_saved(home: Path) -> None:
    env = {"RIVYA_HOME": str(home)}
    for text in ("", "  ", "a b"):
        with pytest.raises(ConfigurationError):
            config.save_key(text, env)
    assert not (home / "config.json").exists()


def test_the_status_shows_source_and_last_four_characters_and_no_more(home: Path) -> None:
    env = {"RIVYA_HOME": str(home)}
    assert config.key_status(env) == {"configured": False, "source": None, "last4": None}
    config.save_key(KEY, env)
    assert config.key_status(env) == {"configured": True, "source": "file", "last4": "cdef"}
    status = config.key_status({**env, "RIVYA_API_KEY": "rvya_sk_of_the_environment"})
    assert status == {"configured": True, "source": "environment", "last4": "ment"}


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs a folder that refuses")
def test_a_folder_that_cannot_be_written_is_named(home: Path) -> None:
    home.mkdir(mode=0o500)
    with pytest.raises(ConfigurationError) as caught:
        config.save_key(KEY, {"RIVYA_HOME": str(home)})
    assert KEY not in str(caught.value)


def test_a_config_file_that_is_a_link_is_refused_and_not_followed(home: Path, tmp_path: Path) -> None:
    home.mkdir()
    (tmp_path / "stranger.json").write_text("{}")
    (home / "config.json").symlink_to(tmp_path / "stranger.json")
    refused(home)
    with pytest.raises(ConfigurationError):
        config.save_key(KEY, {"RIVYA_HOME": str(home)})
    assert (tmp_path / "stranger.json").read_text() == "{}"


# -- the file


@pytest.mark.parametrize(
    "content",
    [
        f'{{"api_key": "{KEY}", ',
        f'{{"api_key": {KEY}}}',
        f'"{KEY}"',
        f'["{KEY}"]',
        f'{{"api_key": "{KEY}"}} trailing',
        f'{{"api_key": "{KEY}"}}'.encode("utf-16"),
        b'{"api_key": "' + KEY.encode() + b'\xff"}',
        "[" * 60_000,
        '{"a":' * 10_000,
        f'{{"api_key": "{KEY}", "x": "{"y" * 70_000}"}}',
        "",
    ],
)
def test_a_bad_config_file_is_named_and_never_quoted(home: Path, content: str | bytes) -> None:
    write(home, content)
    if isinstance(content, bytes) and content.startswith(b"\xff\xfe"):
        return  # JSON in UTF-16 is read as what it is
    error = refused(home)
    assert "config.json" in error.message
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None
    assert KEY not in f"{error} {error!r}"


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("max_concurrency", [0, -1, 1025, "many", None, True, [3], 1e999]),
        ("max_credits_per_run", [-1, "many", True, [3]]),
        ("result_store_bytes", [-1, "big", True, None]),
        ("repeat_window_s", [-1, "long", True, None]),
        ("retry_budget_s", [-0.5, "long"]),
        ("allowed_result_networks", ["10.0.0.0/8", [17], ["nonsense"], ["10.0.0.1/8"], None]),
        ("base_url", [17, ["https://rivya.ai"], None]),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_by_its_name(home: Path, name: str, values: list[Any]) -> None:
    for value in values:
        write(home, {name: value})
        assert name in refused(home).message.replace("base URL", "base_url"), value


@pytest.mark.parametrize("value", ["0", "x", "-3", "1e9", "nan", "inf", "8,5"])
def test_a_concurrency_of_nonsense_in_the_environment_is_refused(home: Path, value: str) -> None:
    assert "max_concurrency" in refused(home, RIVYA_MAX_CONCURRENCY=value).message


def test_names_that_are_not_known_are_left_alone(home: Path) -> None:
    write(home, {"of_a_later_version": True})
    assert loaded(home).max_concurrency == 8


# -- the base URL


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://rivya.ai", "https://rivya.ai"),
        (" https://RIVYA.ai:443/ ", "https://rivya.ai"),
        ("https://rivya.ai:8443", "https://rivya.ai:8443"),
        ("HTTPS://rivya.ai", "https://rivya.ai"),
        ("http://127.0.0.1:8765", "http://127.0.0.1:8765"),
        ("http://localhost:80/", "http://localhost"),
        ("http://LOCALHOST:8765", "http://localhost:8765"),
        ("http://[::1]:8765", "http://[::1]:8765"),
        ("http://127.9.9.9", "http://127.9.9.9"),
    ],
)
def test_a_base_url_is_https_or_http_on_this_machine_in_one_spelling(text: str, url: str) -> None:
    assert normalise_base_url(text) == url


@pytest.mark.parametrize(
    "text",
    [
        "http://rivya.ai",
        "http://192.168.0.4:8765",
        "http://127.0.0.1.example.com",
        "http://localhost.example.com",
        "http://0.0.0.0",
        "ftp://rivya.ai",
        "rivya.ai",
        "//rivya.ai",
        "https://",
        "https:///path",
        "https://user@rivya.ai",
        "https://user:word@rivya.ai",
        "https://@rivya.ai",
        "https://rivya.ai/api",
        "https://rivya.ai?x=1",
        "https://rivya.ai#x",
        "https://rivya.ai:99999",
        "https://rivya.ai:x",
        "https://[::1",
        "https://riv ya.ai",
        "https://rivya.ai\\@evil.example",
        "javascript:alert(1)",
    ],
)
def test_any_other_base_url_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        normalise_base_url(text)
    assert "RIVYA_BASE_URL" in caught.value.hint
    assert "word" not in str(caught.value)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="giving files away needs root")
def test_a_key_of_the_environment_goes_to_no_address_that_another_user_wrote(home: Path) -> None:
    write(home, {"base_url": "http://127.0.0.1:8000"})
    os.chown(home / "config.json", 12345, 12345)
    error = refused(home, RIVYA_API_KEY="rvya_sk_mine")
    assert error.code == "base_url_of_another_user"
    assert "rvya_sk_mine" not in str(error)
    assert loaded(home, RIVYA_API_KEY="rvya_sk_mine", RIVYA_BASE_URL="https://rivya.ai").key is not None
    write(home, {"base_url": "http://127.0.0.1:8000", "api_key": "rvya_sk_theirs"})
    os.chown(home / "config.json", 12345, 12345)
    assert loaded(home).base_url == "http://127.0.0.1:8000", "key and address are of one hand"
    write(home, {"max_concurrency": 3})
    os.chown(home / "config.json", 12345, 12345)
    assert loaded(home, RIVYA_API_KEY="rvya_sk_mine").max_concurrency == 3


def test_a_number_of_400_digits_is_refused_in_words(home: Path) -> None:
    write(home, '{"max_concurrency": 1' + "0" * 400 + "}")
    assert "max_concurrency" in str(refused(home))


@pytest.mark.parametrize("name", ["max_orders_per_node", "max_concurrency", "max_credits_per_run"])
@pytest.mark.parametrize("value", [7.5, "7.5", float("nan"), -1, 10**17, True, [7]])
def test_a_whole_number_that_is_none_is_refused_by_name(home: Path, name: str, value: object) -> None:
    write(home, {"api_key": KEY, name: value})
    with pytest.raises(ConfigurationError, match=f"^{name} is "):
        loaded(home)
