"""What differs between two machines. An argument wins over the environment, that over the file."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource


def _default_home() -> Path:
    return Path.home() / ".voxelight"


class Settings(BaseSettings):
    """Settings of one process; each can be given as `VOXELIGHT_<NAME>` or in `<home>/voxelight.toml`."""

    model_config = SettingsConfigDict(env_prefix="VOXELIGHT_", frozen=True, extra="forbid")

    home: Path = Field(default_factory=_default_home, description="folder for everything that is stored")
    database_url: str = Field(default="", description="SQLAlchemy URL; empty: SQLite in the home folder")
    blobs_url: str = Field(default="", description="fsspec URL of the blob store; empty: a folder of the home folder")
    blobs_options: dict[str, Any] = Field(default_factory=dict, description="JSON passed to fsspec, e.g. an endpoint")
    device: str = Field(default="auto", description="auto, cpu, cuda or cuda:N")
    weights: Path = Field(
        default_factory=lambda data: data["home"] / "weights", description="folder of weights; else in the home folder"
    )
    poll_s: float = Field(default=0.5, gt=0, description="seconds between two looks at a queue")
    upload_limit_bytes: int = Field(default=64 << 30, gt=0, description="largest upload that is accepted")
    prefer_form: Literal["sform", "qform"] | None = Field(
        default=None, description="which of two placements in a NIfTI header holds where they differ; empty: refuse"
    )
    max_attempts: int = Field(default=3, gt=0, description="starts of an item before it counts as failed")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Argument, then environment, then the TOML file of the home folder."""
        home = init_settings().get("home") or env_settings().get("home") or _default_home()
        toml = TomlConfigSettingsSource(settings_cls, Path(str(home)) / "voxelight.toml")
        return init_settings, env_settings, toml

    @property
    def resolved_database_url(self) -> str:
        """The database URL that is in force."""
        return self.database_url or f"sqlite:///{self.home.resolve() / 'voxelight.sqlite'}"

    @property
    def resolved_blobs_url(self) -> str:
        """The blob store URL that is in force."""
        return self.blobs_url or str(self.home.resolve() / "blobs")

    @property
    def spool(self) -> Path:
        """Folder for files on their way in or out."""
        return self.home / "spool"

    @property
    def uploads(self) -> Path:
        """Folder for files that come in pieces, until they are whole."""
        return self.home / "uploads"
