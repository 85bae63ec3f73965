"""All settings together; which part reads which is visible from the section's name."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from config.sections.api import ApiSettings, WebhookSettings
from config.sections.host import DnsSettings, HostSettings, LogSettings, StoreSettings
from config.sections.mail import NoticesSettings, RelaySettings, ShapingSettings, SmtpSettings
from config.sections.metrics import MetricsSettings
from config.sections.work import (
    ConsoleSettings,
    EngineSettings,
    PublicSettings,
    ResponderSettings,
)

ENV_PREFIX = "WAYPOST_"


class Settings(BaseSettings):
    """What `waypost.toml` says, with the environment's `WAYPOST_SECTION__KEY` on top."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
    )

    host: HostSettings = Field(default_factory=HostSettings)
    store: StoreSettings = Field(default_factory=StoreSettings)
    smtp: SmtpSettings = Field(default_factory=SmtpSettings)
    relay: RelaySettings = Field(default_factory=RelaySettings)
    shaping: ShapingSettings = Field(default_factory=ShapingSettings)
    notices: NoticesSettings = Field(default_factory=NoticesSettings)
    dns: DnsSettings = Field(default_factory=DnsSettings)
    public: PublicSettings = Field(default_factory=PublicSettings)
    console: ConsoleSettings = Field(default_factory=ConsoleSettings)
    api: ApiSettings = Field(default_factory=ApiSettings)
    webhooks: WebhookSettings = Field(default_factory=WebhookSettings)
    responder: ResponderSettings = Field(default_factory=ResponderSettings)
    engine: EngineSettings = Field(default_factory=EngineSettings)
    metrics: MetricsSettings = Field(default_factory=MetricsSettings)
    log: LogSettings = Field(default_factory=LogSettings)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file, whose values come in as arguments."""
        return env_settings, init_settings
