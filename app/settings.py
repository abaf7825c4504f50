"""What differs between two machines. An argument wins over the environment, that over the file."""

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource


def _default_home() -> Path:
    return Path.home() / ".voxelight"


class Settings(BaseSettings):
    """Settings of one process; each can be given as `VOXELIGHT_<NAME>` or in `<home>/voxelight.toml`."""

    model_config = SettingsConfigDict(env_prefix="VOXELIGHT_", frozen=True, extra="forbid", hide_input_in_errors=True)

    home: Path = Field(default_factory=_default_home, description="folder for everything that is stored")
    # Not shown, since passwords may stand in them.
    database_url: str = Field(default="", repr=False, description="SQLAlchemy URL; empty: SQLite in the home folder")
    blobs_url: str = Field(
        default="", repr=False, description="fsspec URL of the blob store; empty: a folder of the home folder"
    )
    blobs_options: dict[str, Any] = Field(
        default_factory=dict, repr=False, description="JSON passed to fsspec, e.g. an endpoint"
    )
    keys: Path = Field(
        default_factory=lambda data: data["home"],
        description="folder of the keys that sign links and the log, the same for every host; else the home folder",
    )
    blob_keys: SecretStr = Field(
        default=SecretStr(""), description="keys by which blobs are sealed, the first seals; empty: not from here"
    )
    blob_key_file: Path | None = Field(
        default=None, description="file of such keys, a line each; none: blobs lie plain"
    )
    blobs_sealed_only: bool = Field(default=False, description="refuse blobs that are not sealed")
    device: str = Field(default="auto", description="auto, cpu, cuda or cuda:N")
    weights: Path = Field(
        default_factory=lambda data: data["home"] / "weights", description="folder of weights; else in the home folder"
    )
    auth: Literal["none", "keys", "oidc"] = Field(
        default="none", description="how a door asks who is there: none, on this machine alone; keys; oidc and keys"
    )
    poll_s: float = Field(default=0.5, gt=0, description="seconds between two looks at a queue")
    upload_limit_bytes: int = Field(default=64 << 30, gt=0, description="largest upload that is accepted")
    intake_memory_bytes: int = Field(
        default=4 << 30, ge=1 << 28, description="memory to read one file from elsewhere, beside four times its size"
    )
    intake_seconds: float = Field(
        default=120, ge=1, description="seconds to read one file from elsewhere, and one more for each 4 MiB of it"
    )
    oidc_issuer: str = Field(default="", description="address of the identity provider, as its tokens say `iss`")
    oidc_client_id: str = Field(default="", description="what the provider calls this installation")
    oidc_client_secret: SecretStr = Field(default=SecretStr(""), description="empty: a public client, by PKCE alone")
    oidc_audiences: tuple[str, ...] = Field(default=(), description="`aud` of tokens for the API, beside the client")
    oidc_groups_claim: str = Field(default="groups", description="where tokens name groups")
    oidc_roles: dict[str, str] = Field(default_factory=dict, description="JSON: group -> project:role")
    public_url: str = Field(
        default="", description="address of the page as people type it, https://voxelight.example for one"
    )
    requests_per_minute: int = Field(
        default=600, ge=0, description="by one key, browser or address, where there is authentication; 0: no limit"
    )
    quota_project_bytes: int | None = Field(
        default=None, gt=0, description="bytes of scans and uploads that a project may hold; empty: no limit"
    )
    quota_principal_bytes: int | None = Field(
        default=None, gt=0, description="bytes of scans and uploads that an account may bring; empty: no limit"
    )
    data_roots: tuple[Path, ...] = Field(
        default=(), description="folders below which data may be registered over HTTP and from the page; empty: none"
    )
    prefer_form: Literal["sform", "qform"] | None = Field(
        default=None, description="which of two placements in a NIfTI header holds where they differ; empty: refuse"
    )
    dicomweb_url: str = Field(default="", description="of an archive that speaks DICOMweb")
    dicomweb_user: str = Field(default="", description="name at that archive")
    dicomweb_password: SecretStr = Field(default=SecretStr(""), description="password at that archive")
    dicomweb_token: SecretStr = Field(default=SecretStr(""), description="bearer token, in place of name and password")
    dicomweb_ca: Path | None = Field(default=None, description="PEM file of who signs its certificate; else as usual")
    patience_s: float = Field(
        default=600, ge=0, description="seconds that an item waits for a full disk or an object store that is away"
    )
    max_attempts: int = Field(default=3, gt=0, description="starts of an item before it counts as failed")
    silent_s: float = Field(default=3.0, gt=1, description="seconds without a beat after which a worker is given up")
    grace_s: float = Field(default=20.0, ge=0, description="seconds that a worker told to stop gives its batch to end")
    turn_s: float = Field(
        default=60.0, ge=0, description="seconds after which a job makes room, between two batches, for another owner's"
    )
    head_start_s: float = Field(
        default=1.0, ge=0, description="seconds that a job waits for an idle worker that has its networks loaded"
    )
    memory_gib: float | None = Field(default=None, gt=0, description="memory of a worker; empty: that of the machine")
    warm_gib: float | None = Field(
        default=None, gt=0, description="networks that a worker keeps loaded; empty: half the memory of the device"
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="json: a document a line, with the request and the job that it is about"
    )
    traces: bool = Field(default=False, description="spans for OpenTelemetry, to where its own variables say")
    card_gib: float | None = Field(default=None, gt=0, description="memory of its card; empty: as the driver says")

    @field_validator("home", mode="before")
    @classmethod
    def _is_named(cls, value: Any) -> Any:
        return value or _default_home()  # a variable that is set to nothing names no folder

    @field_validator("home", "keys")
    @classmethod
    def _is_the_same_wherever_a_process_stands(cls, value: Path) -> Path:
        return value.expanduser().absolute()  # the children that read files stand elsewhere

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
        toml = TomlConfigSettingsSource(settings_cls, Path(str(home)).expanduser() / "voxelight.toml")
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
    def shown_blobs_url(self) -> str:
        """The same for people to read, without name and password."""
        return re.sub(r"://[^/@]*@", "://***@", self.resolved_blobs_url)

    @property
    def spool(self) -> Path:
        """Folder for files on their way in or out."""
        return self.home / "spool"

    @property
    def uploads(self) -> Path:
        """Folder for files that come in pieces, until they are whole."""
        return self.home / "uploads"
