"""What a call is refused for, where it is refused for one thing."""

import pytest

from actors.errors import InputError


def refused(call, *arguments, **more):
    """The code and the message."""
    with pytest.raises(InputError) as caught:
        call(*arguments, **more)
    (problem,) = caught.value.problems
    return problem.code, problem.message
