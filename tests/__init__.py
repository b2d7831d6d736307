"""The tests: folders as the packages', ``support`` for what they share, the whole at the top."""

import pytest

pytest.register_assert_rewrite("tests.support")
