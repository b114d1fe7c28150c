"""The job that dcgm-exporter's labels name. Pure."""

from __future__ import annotations

from collections.abc import Mapping

#: (namespace, pod), the first that names a pod counts. What a scraper moved aside comes first: `namespace` and `pod`
#: beside it are then the exporter's own. Last, the exporter's labels until its version 2.
_POD_LABELS = (
    ("exported_namespace", "exported_pod"),
    ("namespace", "pod"),
    ("exported_pod_namespace", "exported_pod_name"),
    ("pod_namespace", "pod_name"),
)
_EXPORTER = "dcgm-exporter"


def job_of(labels: Mapping[str, str]) -> str:
    """Returns the batch job's id (`hpc_job`), else `NAMESPACE/POD`; empty where no label names one.

    A pod is one job, however many of its containers hold GPUs. The exporter's own pod, which a scraper's labels name,
    is none.
    """
    if job := labels.get("hpc_job"):
        return job
    for namespace, pod in _POD_LABELS:
        if (name := labels.get(pod)) and _EXPORTER not in name:
            return f"{space}/{name}" if (space := labels.get(namespace)) else name
    return ""
