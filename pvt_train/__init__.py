"""Training without a framework: what goes into a step, and what is done with what comes out."""

from pvt_packages import check_packages

check_packages(__name__)
