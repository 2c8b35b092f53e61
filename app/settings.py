"""The only reader of the environment. Frozen; secrets stay wrapped.

Every name and default of the contract's section 2, and the named policy numbers of its section 5.
"""

from __future__ import annotations

import ipaddress
import re
from datetime import date
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    BeforeValidator,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, DotEnvSettingsSource, EnvSettingsSource, SettingsConfigDict

from app.core.entitlement import parse_segments
from app.core.eod import EndOfDayRule, parse_eod_time

_SCHEMES = {
    "bt_nats_url": ("nats://", "tls://", "ws://", "wss://"),
    "dhan_feed_url": ("ws://", "wss://"),
    "dhan_api_url": ("http://", "https://"),
    "dhan_auth_url": ("http://", "https://"),
}
_PASSWORD_IN_URL = re.compile(r"//[^/\s]*@")
_HOST_NAME = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?\.)*[a-z](?:[a-z0-9-]*[a-z0-9])?\.?", re.IGNORECASE)

# Each may come from the file that its ``_FILE`` names.
FROM_FILES = ("bt_secret_key", "bt_database_url", "dhan_access_token", "dhan_pin", "dhan_totp_secret")
ENV_FILE = ".env"
OTHER_NAMES = frozenset({"BT_TOKEN"})  # of the command line
SPELT_ALIKE = 0.8
SECRET_BYTES_MAX = 8_192
SECRET_KEY_CHARS_MIN = 16
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})


class SettingsError(Exception):
    """One line: the setting, what it was, what it may be."""


def _content_of(name: str, path: Path) -> str:
    """A secret's file: one line, small. Raises ``ValueError`` that names the setting, never the content."""
    try:
        with path.open("rb") as file:
            text = file.read(SECRET_BYTES_MAX + 1).decode().strip()
    except OSError as error:
        raise ValueError(f"{name.upper()}_FILE was {str(path)!r}: {error.strerror}") from None
    except UnicodeDecodeError:
        text = ""
    if not text or len(text) > SECRET_BYTES_MAX or "\n" in text:
        raise ValueError(f"{name.upper()}_FILE was {str(path)!r}: it has to hold one line")
    return text


def _none_if_blank(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


def _day_or_none(value: object) -> object:
    if not isinstance(value, str) or not value.strip():
        return _none_if_blank(value)
    try:
        return date.fromisoformat(value.strip())
    except ValueError:
        raise ValueError("a day such as 2026-02-03") from None


OptionalPath = Annotated[Path | None, BeforeValidator(_none_if_blank)]
OptionalText = Annotated[str | None, BeforeValidator(_none_if_blank)]
OptionalDate = Annotated[date | None, BeforeValidator(_day_or_none)]
SecretFile = Annotated[Path | None, BeforeValidator(_none_if_blank), Field(repr=False)]
OptionalSecret = Annotated[SecretStr | None, BeforeValidator(_none_if_blank)]


class Settings(BaseSettings):
    """What one process was told. Field names are the environment's names in lower case."""

    model_config = SettingsConfigDict(env_file=ENV_FILE, extra="ignore", frozen=True, env_ignore_empty=True)

    bt_host: str = "127.0.0.1"
    bt_port: int = Field(default=8000, ge=0, le=65535)
    bt_database_url: str = Field(default="sqlite+aiosqlite:///app.db", repr=False)  # may hold a password
    bt_database_url_file: SecretFile = None
    bt_nats_url: OptionalText = Field(default=None, repr=False)
    bt_role: Literal["all", "feed", "gateway"] = "all"
    bt_feed: Literal["auto", "dhan", "simulator", "off"] = "auto"
    dhan_client_id: OptionalText = None
    dhan_access_token: OptionalSecret = None
    dhan_access_token_file: SecretFile = None
    dhan_pin: OptionalSecret = None
    dhan_pin_file: SecretFile = None
    dhan_totp_secret: OptionalSecret = None
    dhan_totp_secret_file: SecretFile = None
    dhan_feed_url: str = "wss://api-feed.dhan.co"
    dhan_api_url: str = "https://api.dhan.co/v2"
    dhan_auth_url: str = "https://auth.dhan.co"
    bt_instrument_master: OptionalText = None
    bt_data_dir: Path = Path("./data")
    bt_eod_time: str = "15:30"
    bt_timezone: str = "Asia/Kolkata"
    bt_auth: Literal["auto", "required", "off"] = "auto"
    bt_secret_key: OptionalSecret = None
    bt_secret_key_file: SecretFile = None
    bt_eod_keep_watchlists: bool = False
    bt_tier_b: OptionalPath = None
    bt_sim_hours: Literal["always", "market"] = "always"
    bt_sim_seed: int = Field(default=1, ge=0)
    bt_sim_rate: float = Field(default=1.0, gt=0, le=100)
    bt_sim_date: OptionalDate = None
    bt_sim_untraded: float = Field(default=0.0, ge=0, le=1)
    bt_native: Literal["auto", "0", "1"] = "auto"
    bt_web: Literal["auto", "skip"] = "auto"

    bt_linger_s: float = Field(default=30.0, ge=0, le=3600)
    bt_watchdog_s: float = Field(default=15.0, gt=0, le=600)
    bt_late_s: float = Field(default=5.0, ge=1.5, le=30)
    bt_hand_over_s: float = Field(default=15.0, gt=0, le=3600)
    bt_ask_again_s: float = Field(default=60.0, ge=5, le=3600)
    bt_ask_again_max_s: float = Field(default=1800.0, ge=5, le=86_400)
    bt_publish_interval_ms: int = Field(default=100, ge=20, le=1000)
    bt_stalled_client_s: float = Field(default=30.0, gt=0, le=600)
    bt_segments: str = ""
    bt_requests_at_once: int = Field(default=512, ge=1, le=10_000)
    bt_requests_a_second: float = Field(default=50.0, ge=1, le=10_000)
    bt_lists_max: int = Field(default=50, ge=1, le=1_000)
    bt_list_entries_max: int = Field(default=1_000, ge=1, le=25_000)
    bt_return_room: int = Field(default=500, ge=1, le=25_000)
    bt_return_after_s: float = Field(default=60.0, ge=0, le=86_400)
    bt_audit_days: int = Field(default=90, ge=1, le=3650)
    bt_backoff_base_s: float = Field(default=0.25, gt=0, le=60)
    bt_backoff_cap_s: float = Field(default=30.0, gt=0, le=600)
    bt_healthy_after_s: float = Field(default=60.0, gt=0, le=3600)
    bt_code_805_delay_s: float = Field(default=60.0, ge=1, le=86_400)
    bt_code_806_delay_s: float = Field(default=300.0, ge=1, le=86_400)
    bt_http_429_delay_s: float = Field(default=60.0, ge=1, le=86_400)
    bt_http_429_delay_max_s: float = Field(default=900.0, ge=1, le=86_400)

    _unknown_names: tuple[str, ...] = PrivateAttr(default=())

    @model_validator(mode="before")
    @classmethod
    def _secrets_of_files(cls, values: dict[str, Any]) -> dict[str, Any]:
        """``NAME_FILE`` gives the path of a file that holds ``NAME``, as containers hand secrets over."""
        read = {}
        for name in FROM_FILES:
            path = _none_if_blank(values.get(f"{name}_file"))
            if path is None:
                continue
            if _none_if_blank(values.get(name)) is not None:
                raise ValueError(f"{name.upper()} and {name.upper()}_FILE are both set; one of them is enough")
            read[name] = _content_of(name, Path(str(path)))
        return values | read

    @field_validator("bt_host")
    @classmethod
    def _possible_host(cls, value: str) -> str:
        try:
            ipaddress.ip_address(value)
        except ValueError:
            if not _HOST_NAME.fullmatch(value):
                raise ValueError("an address or a host name, such as 127.0.0.1 or localhost") from None
        return value

    @field_validator(*_SCHEMES)
    @classmethod
    def _known_scheme(cls, value: str | None, info: ValidationInfo) -> str | None:
        schemes = _SCHEMES[info.field_name or ""]
        if value is not None and not (value.startswith(schemes) and urlsplit(value).hostname):
            raise ValueError(f"a URL that begins with {' or '.join(schemes)}")
        return value

    @field_validator("bt_data_dir")
    @classmethod
    def _possible_folder(cls, value: Path) -> Path:
        there = next((each for each in (value, *value.parents) if each.exists()), None)
        if there is None or not there.is_dir():
            raise ValueError("a folder, or where one can be made")
        return value

    @field_validator("bt_tier_b")
    @classmethod
    def _file_there(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_file():
            raise ValueError("the path of a TOML file")
        return value

    @field_validator("bt_database_url")
    @classmethod
    def _known_database(cls, value: str) -> str:
        if not value.startswith(("sqlite+aiosqlite:///", "postgresql+asyncpg://")):
            raise ValueError("a sqlite+aiosqlite:///… or postgresql+asyncpg://… URL")
        return value

    @field_validator("bt_eod_time")
    @classmethod
    def _readable_eod(cls, value: str) -> str:
        parse_eod_time(value)
        return value

    @field_validator("bt_segments")
    @classmethod
    def _readable_segments(cls, value: str) -> str:
        parse_segments(value)
        return value

    @field_validator("bt_timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError("a zone of the IANA database, such as Asia/Kolkata") from error
        return value

    @model_validator(mode="after")
    def _combinations(self) -> Settings:
        if self.bt_auth == "off" and not self.is_loopback:
            raise ValueError(f"BT_AUTH=off is refused with BT_HOST={self.bt_host}: only on 127.0.0.1, localhost or ::1")
        if self.bt_feed == "dhan" and not self.has_dhan_credentials:
            raise ValueError(
                "BT_FEED=dhan needs DHAN_CLIENT_ID with DHAN_ACCESS_TOKEN, or DHAN_PIN and DHAN_TOTP_SECRET"
            )
        self._require_safe()
        if self.bt_role != "all" and self.bt_nats_url is None:
            raise ValueError(f"BT_ROLE={self.bt_role} needs BT_NATS_URL; without it only BT_ROLE=all works")
        return self

    def _require_safe(self) -> None:
        if self.feed_source == "dhan":
            for name in ("dhan_feed_url", "dhan_api_url", "dhan_auth_url"):
                url = urlsplit(getattr(self, name))
                if url.scheme in ("ws", "http") and url.hostname not in LOOPBACK_HOSTS:
                    raise ValueError(f"{name.upper()} would send the account's token in clear: only TLS, or loopback")
        key = self.bt_secret_key
        if key is not None and not self.is_loopback and len(key.get_secret_value()) < SECRET_KEY_CHARS_MIN:
            raise ValueError(
                f"BT_SECRET_KEY is too short for BT_HOST={self.bt_host}: at least {SECRET_KEY_CHARS_MIN} characters"
            )

    @property
    def url_passwords(self) -> list[str]:
        """Passwords inside URLs, as written there and as meant: for whoever takes secrets out of what is logged."""
        written = [urlsplit(url).password for url in (self.bt_database_url, self.bt_nats_url or "")]
        return [each for password in written if password for each in {password, unquote(password)}]

    @property
    def shown_database_url(self) -> str:
        return without_password(self.bt_database_url)

    @property
    def unknown_names(self) -> tuple[str, ...]:
        """What the environment has that looks like a setting and is none, in words."""
        return self._unknown_names

    @property
    def has_dhan_credentials(self) -> bool:
        mints = self.dhan_pin is not None and self.dhan_totp_secret is not None
        return self.dhan_client_id is not None and (self.dhan_access_token is not None or mints)

    @property
    def feed_source(self) -> Literal["dhan", "simulator", "off"]:
        """What ``BT_FEED`` comes to."""
        if self.bt_feed == "auto":
            return "dhan" if self.has_dhan_credentials else "simulator"
        return self.bt_feed

    @property
    def eod_rule(self) -> EndOfDayRule:
        return parse_eod_time(self.bt_eod_time, ZoneInfo(self.bt_timezone))

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the service."""
        return self.bt_host in LOOPBACK_HOSTS

    @property
    def all_hours(self) -> bool:
        """The simulator's own calendar: every day trades, round the clock."""
        return self.feed_source == "simulator" and self.bt_sim_hours == "always"


def load_settings() -> Settings:
    """Read the environment and ``.env``.

    Raises:
        SettingsError: the first bad setting, in one line.
    """
    try:
        settings = Settings()
    except ValidationError as error:
        raise SettingsError(one_line(error)) from None
    settings._unknown_names = _unknown_names()
    return settings


def _unknown_names() -> tuple[str, ...]:
    """A setting's name that is misspelt would be passed over without a word."""
    known = {name.upper() for name in Settings.model_fields} | OTHER_NAMES
    sources = EnvSettingsSource(Settings), DotEnvSettingsSource(Settings)
    told = {name.upper() for source in sources for name in source.env_vars}
    unknown = sorted(name for name in told - known if name.startswith(("BT_", "DHAN_")))
    return tuple(f"{name} is no setting{_like(name, known)}" for name in unknown)


def _like(name: str, known: set[str]) -> str:
    near = get_close_matches(name, known, 1, SPELT_ALIKE)
    return f"; {near[0]} is one" if near else ""


def without_password(text: str) -> str:
    """Text with URLs in it, as it may be shown."""
    return _PASSWORD_IN_URL.sub("//…@", text)


def one_line(error: ValidationError) -> str:
    """The first bad setting of many: its name, what it was unless that is secret, what it may be."""
    first = error.errors(include_url=False, include_context=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return message
    name = str(first["loc"][0]).upper()
    field = Settings.model_fields.get(name.lower())
    is_secret = field is not None and "Secret" in str(field.annotation)
    was = "(hidden)" if is_secret else without_password(repr(first["input"]))
    return f"{name} was {was}: {message}"
