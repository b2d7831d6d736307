"""Hosts of published weights on this machine, which behave well or as badly as real ones.

A :class:`LocalHub` has what :func:`publish` put there, under the addresses of the registry's rows::

    with LocalHub(tmp_path) as hub:
        publish(hub, "mindcv/pvt_tiny")                 # random weights of the real shapes
        publish(hub, "official/pvt_small", config)      # or of a smaller model's
        run_python("-m", "convert", "hub", env={**os.environ, **hub.environment})
"""

from tests.support.hub.hosts import LocalHub, Served
from tests.support.hub.published import publish

__all__ = ["LocalHub", "Served", "publish"]
