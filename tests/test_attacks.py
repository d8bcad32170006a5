"""The fuzzer's cases that run every time, small files that would be large, and what the fuzzer once found."""

from __future__ import annotations

from tests.attacks.cases import VERBS
from tests.attacks.large import MODELS
from tests.attacks.pool import outcomes


def test_2000_changed_files_end_with_a_status_and_sentences() -> None:
    found = list(outcomes(0, ((number, None) for number in range(2000))))
    assert [f for f in found if f["fault"]] == []
    statuses = [f["status"] for f in found]
    assert len(statuses) == 2000
    assert min(map(statuses.count, (0, 1, 2))) > 10  # the changes are not all of one kind


def test_small_files_that_would_be_large_are_answered_within_20_s_and_2_gb() -> None:
    found = list(outcomes(0, ((number, name) for name in MODELS for number in range(len(VERBS)))))
    assert len(found) == len(VERBS) * len(MODELS)
    assert [f for f in found if f["fault"]] == []
