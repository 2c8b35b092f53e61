"""A bad setting stops the start with one line that names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.settings import Settings, SettingsError, load_settings


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
