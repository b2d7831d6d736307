"""Images in, answers out: the one evaluation preprocessing, labelled images, accuracy, and what
``predict`` and ``validate`` share in every runtime."""

from pvt_packages import check_packages

check_packages(__name__)
