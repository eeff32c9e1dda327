"""Names for annotations: what the functions of the package take and return, and nobody has to make by hand."""

from ._job import Enqueuer, JobFunction
from ._options import WhenFull
from ._retry import RetryPolicy
from ._stats import Times

__all__ = ["Enqueuer", "JobFunction", "RetryPolicy", "Times", "WhenFull"]
