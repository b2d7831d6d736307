"""What Prometheus is told: requests, times, batches and queues, by model."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""What the text is, whichever release of the library writes it."""


class Metrics:
    """The numbers of one server.

    Attributes:
        requests: Requests for answers, by model, version and HTTP status.
        seconds: How long those took, from the head to the answer, by model and version.
        batches: Images of each call of a model.
        waiting: Images that a model has to answer now.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        by, at = ("model", "version"), self._registry
        self.requests = Counter(
            "pvt_requests", "Requests for answers.", (*by, "status"), registry=at
        )
        self.seconds = Histogram(
            "pvt_request_seconds", "Seconds to an answer.", by, buckets=SECONDS, registry=at
        )
        self.batches = Histogram(
            "pvt_batch_images", "Images of a call of the model.", by, buckets=IMAGES, registry=at
        )
        self.waiting = Gauge(
            "pvt_waiting_images", "Images that are to be answered.", by, registry=at
        )

    def text(self) -> bytes:
        """Returns all of it in Prometheus's text format."""
        return generate_latest(self._registry)
