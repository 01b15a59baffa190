"""The settings: read once from the environment and a `.env` file. See the README for the whole list."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Self

from pydantic import AliasChoices, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from orchestrator.errors import InvalidInput

SECRET_BYTES = 32


def _env(name: str) -> AliasChoices:
    return AliasChoices(name)


class Settings(BaseSettings):
    """Everything that can be configured. Names without a prefix are those that other tools use too."""

    model_config = SettingsConfigDict(
        env_prefix="INTERVIEW_", env_file=".env", extra="ignore", populate_by_name=True, env_ignore_empty=True
    )

    mongodb_url: str | None = Field(None, validation_alias=_env("MONGODB_URL"))
    mongodb_database: str = Field("parallel_interview", validation_alias=_env("MONGODB_DATABASE"))
    livekit_url: str | None = Field(None, validation_alias=_env("LIVEKIT_URL"))
    livekit_api_key: str | None = Field(None, validation_alias=_env("LIVEKIT_API_KEY"))
    livekit_api_secret: SecretStr | None = Field(None, validation_alias=_env("LIVEKIT_API_SECRET"))
    ray_address: str | None = Field(None, validation_alias=_env("RAY_ADDRESS"))

    api_key: SecretStr | None = None
    """The staff key. Without one everything is open, and `serve` stays on loopback."""
    secret: SecretStr | None = None
    """Signs tokens and journals. Not set: made once and kept in MongoDB."""
    livekit_public_url: str | None = None
    """Where browsers reach LiveKit, if that is not LIVEKIT_URL."""
    network_credit_seconds: float = Field(180, ge=0, le=7_200)
    """For how long in all the clock of one interview may stand still because connections were lost."""
    proctoring_policy: str = "standard-1"
    """The version of the policy that new sessions get."""
    policies_dir: Path | None = None
    """A folder with policies of the operator's own, `<version>.json` each."""
    proctoring_hooks: str | None = None
    """Names of the hooks to run, with commas between, or `none`; not set: all that are installed."""
    frame_seconds: float = Field(15, ge=1, le=300)
    """How often a page is to send a still of the camera."""
    face_actors: int = Field(1, ge=0, le=64)
    """Actors that look at stills and reference faces; 0: nobody does, and stills wait."""
    face_cpus: float = Field(0.5, gt=0)
    """CPU cores that one of them declares, and uses at most."""
    privacy_policy: str | None = None
    """The privacy policy (its version or address) that candidates agree to before pictures are taken; not set:
    capturing a reference face counts as consent."""
    reference_days: float = Field(7, gt=0)
    """How long reference faces are kept."""
    evidence_days: float = Field(30, gt=0)
    """How long stills that were kept as evidence are kept."""
    evaluators: str | None = None
    """Names of the evaluators that score answers for reports, with commas between, or `none`; not set: all that are
    installed."""
    candidate_reports: bool = False
    """Whether candidates may read their own reports (without scores and reviews)."""
    webhook_url: str | None = None
    """A webhook endpoint; others are added by REST."""
    webhook_secret: SecretStr | None = None
    """The secret that its messages are signed with, `whsec_` and base64 of 24 to 64 bytes; not set: one is made."""
    webhook_private_addresses: bool = False
    """Whether webhooks may go to private addresses and by plain HTTP, for development."""
    answer_days: float | None = Field(None, gt=0)
    """How long what candidates have answered is kept after the end; not set: as long as the session."""
    session_days: float | None = Field(None, gt=0)
    """How long sessions are kept after their end, with answers, journal, report and pictures; not set: for ever."""
    recording: str | None = Field(None, pattern=r"\{session_id\}")
    """Where LiveKit's egress writes recordings of candidates, for example `recordings/{session_id}.mp4`; not set: no
    recordings."""
    public_url: str = "http://localhost:8005"
    """What candidates' links begin with."""
    data_dir: Path = Path("data")
    namespace: str = "parallel-interview"
    """Ray's namespace for our actors."""
    warm_actors: int = Field(4, ge=0, le=1000)
    """Actors started ahead, so that an interview starts in milliseconds."""
    warm_ahead_seconds: float = Field(300, ge=0, le=86_400)
    """So long before their `scheduled_at` actors are started for sessions."""
    resource: str | None = None
    """The name of a Ray resource of which each interview takes 1: only nodes that declare it hold interviews. Not set:
    any node with room does."""
    idle_node_seconds: float | None = Field(None, gt=0)
    """A node without a live interview that was not needed for so long is emptied, so that Ray's autoscaler can end it;
    not set: none is."""
    actor_cpus: float = Field(0.005, gt=0)
    """CPU cores that one interview declares."""
    actor_memory_mb: int = Field(64, gt=0)
    """Memory that one interview declares, in MiB."""
    start_wait_seconds: float = Field(8.0, gt=0)
    """How long a start waits for a free actor before it answers 503."""
    abandon_after: float | None = Field(None, gt=0)
    """Seconds of running clock without any sign of the candidate since the start, after which an interview ends as
    abandoned; not set: when its deadlines have run out."""
    dashboard_port: int = 8265
    ray_dashboard_url: str | None = Field(None, pattern=r"^https?://[^\s@]+$")
    """Where staff reach Ray's dashboard; not set: the local Ray's, none on other clusters."""
    ray_num_cpus: float | None = None
    """CPU cores that the local Ray declares; not set: as many as the machine has."""
    ray_memory_mb: int | None = Field(None, gt=0)
    """Memory that the local Ray declares, in MiB; not set: 80 % of what is available at the start."""
    forwarded_allow_ips: str = ""
    """Addresses of proxies whose X-Forwarded-* headers are believed."""
    cors_origins: str = ""
    """Origins (https://host) whose pages may call from a browser, with commas between."""
    key_requests_per_minute: float = Field(6_000, gt=0)
    """How often each staff key may call, at each front end."""
    candidate_requests_per_minute: float = Field(600, gt=0)
    """How often each candidate may call, at each front end."""
    stop_delay_seconds: float = Field(0, ge=0, le=300)
    """For how long a front end that was asked to end takes calls, while /readyz says that it is on its way out."""
    closed: bool = False
    """Whether a key is needed even though none was ever made; `serve` sets it where it listens beyond loopback."""

    @model_validator(mode="after")
    def _check_webhook(self) -> Self:
        if self.webhook_url is None:
            return self
        from orchestrator.outbound import check_url  # not needed where no webhook is set
        from orchestrator.webhooks import check_secret

        try:
            check_url(self.webhook_url, private=self.webhook_private_addresses)
            if self.webhook_secret is not None:
                check_secret(self.webhook_secret.get_secret_value())
        except InvalidInput as error:
            raise ValueError(f"INTERVIEW_WEBHOOK_URL, INTERVIEW_WEBHOOK_SECRET: {error.detail}") from None
        return self

    @property
    def cors_origin_list(self) -> list[str]:
        return [origin.strip().rstrip("/") for origin in self.cors_origins.split(",") if origin.strip()]

    @property
    def network_credit_ms(self) -> int:
        return round(self.network_credit_seconds * 1000)

    @property
    def livekit_problem(self) -> str | None:
        """What is wrong with LIVEKIT_*, as far as it can be seen without asking LiveKit: a part is missing."""
        parts = {
            "LIVEKIT_URL": self.livekit_url,
            "LIVEKIT_API_KEY": self.livekit_api_key,
            "LIVEKIT_API_SECRET": self.livekit_api_secret,
        }
        for name, url in (("LIVEKIT_URL", self.livekit_url), ("INTERVIEW_LIVEKIT_PUBLIC_URL", self.livekit_public_url)):
            if url and "@" in url:
                return f"{name} is shown to candidates; it must not hold a name or password."
        missing = [name for name, value in parts.items() if not value]
        if len(missing) in (0, len(parts)):
            return None
        return f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set; there is no video without."

    @property
    def weak_secrets(self) -> list[str]:
        """Names of secrets that are shorter than what HMAC-SHA256 needs to be safe."""
        known = {"LIVEKIT_API_SECRET": self.livekit_api_secret, "INTERVIEW_SECRET": self.secret}
        return [
            name
            for name, value in known.items()
            if value is not None and len(value.get_secret_value().encode()) < SECRET_BYTES
        ]


@lru_cache
def get_settings() -> Settings:
    return Settings()  # pyright: ignore[reportCallIssue]
