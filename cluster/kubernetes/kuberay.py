"""KubeRay's objects, as far as we use them: a field that it does not know is a mistake of ours, found here.

Fields are those of KubeRay 1.7 (`ray.io/v1`). A RayCronJob is an alpha feature: the operator needs
`--feature-gates=RayCronJob=true`, and 1.7 for `timeZone`. Neither it nor RayJob forbids two at once: the lease does.
"""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

API = "ray.io/v1"
Object = dict[str, Any]
STORE = {"object-store-memory": str(128 << 20)}
"""As much as a run of one machine has (`jobs.engine`). Ray's own choice does not fit into a pod's shared memory."""
START: Object = {"num-cpus": "0", "num-gpus": "0", "dashboard-host": "0.0.0.0", **STORE}  # noqa: S104
"""Of the head. Its dashboard has to be reached from the pod that submits; it asks for the token."""


class KubeRay(BaseModel):
    """Fields in camel case, as Kubernetes has them, and none that is unknown."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)

    def dump(self) -> Object:
        """As YAML has it."""
        return self.model_dump(by_alias=True, exclude_none=True)


class Head(KubeRay):
    """`headGroupSpec`: no work is put there."""

    ray_start_params: dict[str, str] = Field(default_factory=lambda: dict(START))
    template: Object


class Workers(KubeRay):
    """An entry of `workerGroupSpecs`: from none to as many as the job asks for."""

    group_name: str
    replicas: Annotated[int, Field(ge=0)] = 0
    min_replicas: Annotated[int, Field(ge=0)] = 0
    max_replicas: Annotated[int, Field(ge=1)]
    ray_start_params: dict[str, str] = Field(default_factory=lambda: dict(STORE))
    template: Object


class Auth(KubeRay):
    """`authOptions`: the operator makes the token, and gives it to the cluster's pods alone."""

    mode: Literal["disabled", "token"] = "token"
    secret_name: str | None = None


class Autoscaler(KubeRay):
    """`autoscalerOptions`."""

    version: Literal["v1", "v2"] = "v2"
    idle_timeout_seconds: Annotated[int, Field(ge=1)] = 300
    upscaling_mode: Literal["Default", "Aggressive", "Conservative"] = "Default"


class RayCluster(KubeRay):
    """`rayClusterSpec`."""

    ray_version: str
    auth_options: Auth = Auth()
    enable_in_tree_autoscaling: bool = True
    autoscaler_options: Autoscaler = Autoscaler()
    head_group_spec: Head
    worker_group_specs: Annotated[tuple[Workers, ...], Field(min_length=1)]


class RayJobSpec(KubeRay):
    """What a RayJob has under `spec`, and a RayCronJob under `spec.jobTemplate`."""

    entrypoint: Annotated[str, Field(min_length=1)]
    submission_mode: Literal["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"] = "K8sJobMode"
    shutdown_after_job_finishes: bool = True
    ttl_seconds_after_finished: Annotated[int, Field(ge=0)]
    pre_running_deadline_seconds: Annotated[int, Field(ge=1)]
    active_deadline_seconds: Annotated[int, Field(ge=1)] | None = None
    backoff_limit: Annotated[int, Field(ge=0)] = 1
    ray_cluster_spec: RayCluster


class RayJob(KubeRay):
    """One run, on a cluster of its own."""

    needs: ClassVar[str] = "KubeRay 1.6 or later"
    longest: ClassVar[int] = 47
    """Letters of its name: the cluster's has 6 more, and the services' of that 10, of 63."""
    api_version: Literal["ray.io/v1"] = "ray.io/v1"
    kind: Literal["RayJob"] = "RayJob"
    spec: RayJobSpec

    @classmethod
    def of(cls, entrypoint: str, cluster: RayCluster, to_come: int, longest: int | None, kept: int) -> Self:
        """Seconds: until the cluster must be there, until the run must be over, and for which it is kept after that."""
        return cls(
            spec=RayJobSpec(
                entrypoint=entrypoint,
                ray_cluster_spec=cluster,
                pre_running_deadline_seconds=to_come,
                active_deadline_seconds=longest,
                ttl_seconds_after_finished=kept,
            )
        )


class RayCronJobSpec(KubeRay):
    """The template holds the fields of a RayJob's spec themselves: there is no `spec` in between."""

    schedule: Annotated[str, Field(min_length=1)]
    time_zone: Annotated[str, Field(min_length=1)]
    suspend: bool = False
    job_template: RayJobSpec


class RayCronJob(KubeRay):
    """A RayJob at every time of a timetable."""

    needs: ClassVar[str] = "KubeRay 1.7 or later, whose operator runs with --feature-gates=RayCronJob=true (alpha)"
    longest: ClassVar[int] = 36
    """Letters of its name: a RayJob's has 11 more, as those of a CronJob have."""
    api_version: Literal["ray.io/v1"] = "ray.io/v1"
    kind: Literal["RayCronJob"] = "RayCronJob"
    spec: RayCronJobSpec

    @classmethod
    def of(cls, cron: str, timezone: str, job: RayJob) -> Self:
        """The job at these times."""
        return cls(spec=RayCronJobSpec(schedule=cron, time_zone=timezone, job_template=job.spec))
