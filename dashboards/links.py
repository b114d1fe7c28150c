"""Links from panels to boards; the selection and the time range go along."""

from __future__ import annotations

TO_RACK = "/d/gigawatch-rack/rack?var-site=${__data.fields.site}&var-rack=${__data.fields.rack}&${__url_time_range}"
TO_GPU = (
    "/d/gigawatch-gpu/gpu?var-site=${__data.fields.site}&var-rack=${__data.fields.rack}"
    "&var-gpu=${__data.fields.device}&${__url_time_range}"
)
TO_JOB = "/d/gigawatch-jobs/jobs?var-job=${__data.fields.job}&${__url_time_range}"
TO_INCIDENTS = "/d/gigawatch-incidents/incidents?${__url_time_range}"
#: From a graph's series, which is named by its device or rack.
SERIES_TO_RACK = "/d/gigawatch-rack/rack?var-rack=${__field.labels.rack}&${__url_time_range}"
SERIES_TO_GPU = (
    "/d/gigawatch-gpu/gpu?${site:queryparam}&${rack:queryparam}&var-gpu=${__field.labels.device}&${__url_time_range}"
)
