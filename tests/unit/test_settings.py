"""A bad setting stops the start with one line that names it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.settings import Settings, SettingsError, load_settings, one_line


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def test_the_defaults_are_the_contracts() -> None:
    settings = load_settings()
    assert (settings.bt_host, settings.bt_port) == ("127.0.0.1", 8000)
    assert settings.bt_database_url == "sqlite+aiosqlite:///app.db"
    assert settings.feed_source == "simulator"
    assert settings.all_hours
    assert settings.bt_eod_time == "15:30"
    assert settings.bt_timezone == "Asia/Kolkata"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BT_PORT", "eighty"),
        ("BT_PORT", "70000"),
        ("BT_DATABASE_URL", "mysql://x"),
        ("BT_EOD_TIME", "25:99"),
        ("BT_TIMEZONE", "Mars/Olympus"),
        ("BT_AUTH", "maybe"),
        ("BT_FEED", "carrier-pigeon"),
        ("BT_SIM_DATE", "03/02/2026"),
        ("BT_SIM_RATE", "0"),
        ("BT_SIM_HOURS", "sometimes"),
        ("BT_SIM_DATE", "26FEB2026"),
        ("BT_HOST", "999.1.1.1"),
        ("BT_HOST", "two words"),
        ("BT_NATS_URL", "foo"),
        ("BT_NATS_URL", "nats://"),
        ("DHAN_FEED_URL", "https://api-feed.dhan.co"),
        ("DHAN_API_URL", "api.dhan.co"),
        ("DHAN_AUTH_URL", "ftp://auth.dhan.co"),
        ("BT_DATA_DIR", "/dev/null/data"),
        ("BT_TIER_B", "nowhere.toml"),
    ],
)
def test_a_bad_setting_is_named_in_one_line(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    message = str(caught.value)
    assert name in message
    assert value in message
    assert "\n" not in message


def test_auth_off_is_refused_off_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BT_AUTH", "off")
    monkeypatch.setenv("BT_HOST", "0.0.0.0")
    with pytest.raises(SettingsError, match="BT_AUTH=off"):
        load_settings()


def test_secrets_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DHAN_CLIENT_ID", "1000000001")
    monkeypatch.setenv("DHAN_ACCESS_TOKEN", "very-secret")
    settings = load_settings()
    assert settings.feed_source == "dhan"
    assert "very-secret" not in repr(settings)
    assert "very-secret" not in str(settings.model_dump())


def test_a_role_without_a_bus_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BT_ROLE", "feed")
    with pytest.raises(SettingsError, match="BT_NATS_URL"):
        load_settings()


def test_dotenv_is_read(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("BT_PORT=8123\n")
    assert load_settings().bt_port == 8123


def test_a_misspelt_name_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("BT_EOD_KEEP_WATCHLIST=true\nEDITOR=vi\n")
    monkeypatch.setenv("DHAN_CARRIER_PIGEON", "1")
    monkeypatch.setenv("BT_TOKEN", "of the command line")
    monkeypatch.setenv("BT_PORT", "8123")
    assert load_settings().unknown_names == (
        "BT_EOD_KEEP_WATCHLIST is no setting; BT_EOD_KEEP_WATCHLISTS is one",
        "DHAN_CARRIER_PIGEON is no setting",
    )


def test_a_gateway_needs_nothing_but_the_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BT_ROLE", "gateway")
    monkeypatch.setenv("BT_NATS_URL", "nats://127.0.0.1:4222")
    assert load_settings().bt_role == "gateway"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "::1", "localhost", "terminal", "desk-1.example.com"])
def test_an_address_or_a_name_is_a_host(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("BT_HOST", host)
    assert load_settings().bt_host == host


def test_what_a_day_may_be_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BT_SIM_DATE", "26FEB2026")
    with pytest.raises(SettingsError, match="2026-02-03"):
        load_settings()


@pytest.mark.parametrize("name", ["BT_SECRET_KEY", "DHAN_ACCESS_TOKEN", "DHAN_PIN", "DHAN_TOTP_SECRET"])
def test_a_secret_may_come_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text("whispered\n")
    monkeypatch.setenv(f"{name}_FILE", str(tmp_path / "secret"))
    settings = load_settings()
    assert getattr(settings, name.lower()).get_secret_value() == "whispered"
    assert "whispered" not in repr(settings)


def test_the_database_may_come_from_a_file_and_its_password_is_never_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "url").write_text("postgresql+asyncpg://desk:p%40ssw0rd@db/terminal")
    monkeypatch.setenv("BT_DATABASE_URL_FILE", str(tmp_path / "url"))
    settings = load_settings()
    assert settings.bt_database_url.endswith("@db/terminal")
    assert set(settings.url_passwords) == {"p%40ssw0rd", "p@ssw0rd"}
    assert "ssw0rd" not in repr(settings)


def test_a_bad_url_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BT_DATABASE_URL", "mysql://desk:hunter2@db/terminal")
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert "mysql://…@db/terminal" in str(refused.value)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("content", [None, b"", b"two\nlines", b"\xff\xfe", b"x" * 10_000])
def test_a_secrets_file_that_is_none_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "secret").write_bytes(content)
    monkeypatch.setenv("BT_SECRET_KEY_FILE", str(tmp_path / "secret"))
    with pytest.raises(SettingsError, match=r"^BT_SECRET_KEY_FILE was ") as refused:
        load_settings()
    assert "\n" not in str(refused.value)


def test_a_secret_is_not_given_twice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("whispered")
    monkeypatch.setenv("BT_SECRET_KEY_FILE", str(tmp_path / "secret"))
    monkeypatch.setenv("BT_SECRET_KEY", "shouted")
    with pytest.raises(SettingsError, match="both set") as refused:
        load_settings()
    assert "shouted" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DHAN_FEED_URL", "ws://feed.example"),
        ("DHAN_API_URL", "http://api.example/v2"),
        ("DHAN_AUTH_URL", "http://auth.example"),
    ],
)
def test_an_accounts_token_is_not_sent_in_clear(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert load_settings().feed_source == "simulator"  # no account, nothing to lose
    monkeypatch.setenv("DHAN_CLIENT_ID", "1000000001")
    monkeypatch.setenv("DHAN_ACCESS_TOKEN", "very-secret")
    with pytest.raises(SettingsError, match=name):
        load_settings()
    monkeypatch.setenv(name, value.split("//")[0] + "//127.0.0.1:9000")
    assert load_settings().feed_source == "dhan"


def test_a_key_that_can_be_guessed_is_refused_on_an_open_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BT_SECRET_KEY", "secret")
    assert load_settings().is_loopback
    monkeypatch.setenv("BT_HOST", "0.0.0.0")
    with pytest.raises(SettingsError, match="BT_SECRET_KEY is too short"):
        load_settings()


@given(st.dictionaries(st.sampled_from(sorted(Settings.model_fields)), st.text(max_size=40), max_size=6))
@example({"bt_segments": "user=all;user=all"})
@example({"dhan_feed_url": "wss://[::1"})
@example({"bt_database_url": "sqlite+aiosqlite:///\x00"})
def test_whatever_is_set_is_a_setting_or_one_line(told: dict[str, str]) -> None:
    """As the environment gives them: every value a text."""
    refusal: ValidationError | None = None
    try:
        Settings(_env_file=None, **told)  # type: ignore[arg-type, call-arg]
    except ValidationError as refused:
        refusal = refused
    assert refusal is None or "\n" not in one_line(refusal)
