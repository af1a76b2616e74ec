"""What Ray's job client raises, in words that name the fix."""

from __future__ import annotations

import pytest

from raylign.jobs.client import JobError, _named


def test_a_head_whose_agent_is_not_up_names_both_causes() -> None:
    both = r"refuses: .*No available agent.*\n.*still be starting.*agent-listen-port"
    with pytest.raises(JobError, match=both), _named("http://127.0.0.1:8265"):
        raise RuntimeError("Request failed with status code 500: No available agent to submit job")


def test_another_refusal_stands_as_it_is() -> None:
    with pytest.raises(JobError, match=r"refuses: no such job$"), _named("http://127.0.0.1:8265"):
        raise ValueError("no such job")
