"""Published weights by name: ``hub:pvt_tiny``, ``hub:timm/pvt_v2_b0.in1k@main``.

Every place that takes a model file takes such a name too, through :func:`find_model`. What is known
of each is a row of :mod:`convert.hub.registry`; what a name stands for, :mod:`convert.hub.names`
says. Files are downloaded by :mod:`convert.hub.download.files`, repositories of Hugging Face by
:mod:`convert.hub.download.huggingface`; only these import what they need for that. To use it::

    from convert.hub.fetching import fetch
    from convert.hub.listing import list_rows

    found = fetch("mindcv/pvt_tiny")    # downloads it, or takes what is here
    found.path                          # the file, or the folder of a repository
    found.row, found.address, found.commit, found.sha256, found.against, found.provenance()
    for listed in list_rows():          # every row of the registry: listed.row, .path or None
        ...

Where things are kept is in the environment: :mod:`convert.hub.places`.
"""

from convert.hub.find import find, find_model

__all__ = ["find", "find_model"]
