from enclave_runner.serving.watch import Deadline

SECOND = 10**9
END = Deadline(licensed=60_000, tpm=10_000, kernel=5 * SECOND)


def test_both_clocks_count() -> None:
    assert END.left(tpm=10_000, kernel=5 * SECOND) == 50
    assert END.left(tpm=30_000, kernel=25 * SECOND) == 30


def test_watch_clock_takes_the_one_that_is_further() -> None:
    # The TPM's owner may set its clock forward.
    assert END.left(tpm=60_000, kernel=6 * SECOND) == 0
    # The clock was stopped, or the machine slept while the TPM had no power.
    assert END.left(tpm=10_001, kernel=55 * SECOND) == 0
    # Frozen past the deadline: over on waking.
    assert END.left(tpm=90_000, kernel=85 * SECOND) < 0
