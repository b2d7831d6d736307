"""Training without a framework: what goes into a step, and what is done with what comes out.

May import numpy, Pillow, PyYAML, click, rich and pvt_spec; never a framework.
"""
