"""Commands as a user gives them, in this process."""

from typing import Any

from click.testing import CliRunner, Result


def invoke(main: Any, *arguments: object) -> Result:
    """What a command with these arguments does."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def refusal(main: Any, *arguments: object) -> str:
    """What a command says that ends in one error and answers nothing."""
    done = invoke(main, *arguments)
    assert done.exit_code == 1, f"{arguments}: {done.exit_code} {done.output} {done.exception!r}"
    assert isinstance(done.exception, SystemExit), repr(done.exception)
    assert done.stderr.count("Error: ") == 1 and done.stdout == "", done.output
    return done.stderr
